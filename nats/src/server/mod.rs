//! A real nats-server as a child of this process, on loopback, for one machine and for tests.
//!
//! It ends when its [`NatsServer`] is dropped, and also when this process dies without a word: a
//! small shell holds the other end of a pipe and kills it then. Never used for a cluster.

mod find;
mod settings;

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::settings::USER;
pub use self::{
    find::{FindError, PROGRAM_VARIABLE, find, is_program},
    settings::{Access, ServerSettings, ServerTls},
};
use crate::{name::random_id, real::NatsConfig};

/// A server is up within milliseconds; a loaded machine may take seconds.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often we look whether it is up.
const START_POLL: Duration = Duration::from_millis(5);
/// A listening server greets at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of the server's log an error quotes.
const LOG_LINES: usize = 5;
/// Where a server that dislikes its configuration says so; it opens its log only afterwards.
const COMPLAINTS: &str = "complaints";
/// Waits for the end of its input, which is our death, then kills the process it was given and
/// removes the folder with the credential.
const WATCHDOG: &str = "read -r _; kill -KILL \"$0\"; rm -rf \"$1\"";
/// The folder is its owner's alone.
const FOLDER_MODE: u32 = 0o700;

/// Why there is no child server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No program.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The system refused a file or a process.
    #[error("cannot run {}: {reason}", program.display())]
    Io {
        /// The program.
        program: PathBuf,
        /// What the system says.
        #[source]
        reason: io::Error,
    },
    /// It ended by itself or does not answer.
    #[error("{} does not answer; the end of its log: {log}", program.display())]
    Dead {
        /// The program.
        program: PathBuf,
        /// Last lines of its log.
        log: String,
    },
}

/// A running nats-server.
pub struct NatsServer {
    program: PathBuf,
    settings: ServerSettings,
    password: String,
    port: Option<u16>,
    processes: Option<Processes>,
    folder: TempDir,
}

/// The server and the shell that outlives us to kill it.
struct Processes {
    server: Child,
    watchdog: Child,
}

impl NatsServer {
    /// Finds the program, starts it on a free port and waits until it answers.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: ServerSettings) -> Result<Self, StartError> {
        Self::start_program(find()?, settings).await
    }

    /// The same with a given program.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_program(
        program: PathBuf,
        settings: ServerSettings,
    ) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new()
            .prefix("thalamus-nats-")
            .permissions(fs::Permissions::from_mode(FOLDER_MODE))
            .tempdir();
        let folder = folder.map_err(|reason| io_error(&program, reason))?;
        let password = random_id();
        let mut server = Self {
            program,
            settings,
            password,
            port: None,
            processes: None,
            folder,
        };
        server.launch().await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        let scheme = if self.settings.tls.is_some() {
            "tls"
        } else {
            "nats"
        };
        // a server that was started has told its port
        format!("{scheme}://127.0.0.1:{}", self.port.unwrap_or_default())
    }

    /// How to connect; where it wants an nkey or TLS, the files are the caller's to add.
    pub fn config(&self) -> NatsConfig {
        let mut config = NatsConfig::new(self.url());
        if matches!(self.settings.access, Access::Password) {
            config.user = Some(USER.to_owned());
            config.password = Some(self.password.clone());
        }
        config
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.processes
            .as_ref()
            .map(|processes| processes.server.id())
    }

    /// Kills it, without a word to its clients.
    pub fn stop(&mut self) {
        self.processes = None;
    }

    /// Kills it if it runs, and starts it again on the same port with the same credential.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.stop();
        self.launch().await
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn restart_as(&mut self, settings: ServerSettings) -> Result<(), StartError> {
        self.settings = settings;
        self.restart().await
    }

    /// Freezes it: connections stay open and nothing moves.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    async fn launch(&mut self) -> Result<(), StartError> {
        let file = self
            .settings
            .file(self.port, self.folder.path(), &self.password);
        let path = self.folder.path().join("server.conf");
        let processes = write_private(&path, &file)
            .and_then(|()| Processes::spawn(&self.program, &path, self.folder.path()));
        self.processes = Some(processes.map_err(|reason| io_error(&self.program, reason))?);
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answers() {
            if self.has_ended() || Instant::now() > deadline {
                self.stop();
                let (program, log) = (self.program.clone(), self.log_tail());
                return Err(StartError::Dead { program, log });
            }
            sleep(START_POLL).await;
        }
        Ok(())
    }

    /// True once it has told its port and greets there.
    fn answers(&mut self) -> bool {
        self.port = self.port.or_else(|| self.told_port());
        // a server that wants TLS first says nothing before; its port file tells that it listens
        let silent = self.settings.tls.as_ref().is_some_and(|tls| tls.first);
        self.port.is_some_and(|port| silent || greets(port))
    }

    /// The port from the file that the server writes when it listens.
    fn told_port(&self) -> Option<u16> {
        let name = format!(
            "{}_{}.ports",
            self.program.file_name()?.to_str()?,
            self.pid()?
        );
        let text = fs::read_to_string(self.folder.path().join(name)).ok()?;
        let told: serde_json::Value = serde_json::from_str(&text).ok()?;
        told["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
    }

    fn has_ended(&mut self) -> bool {
        let server = self
            .processes
            .as_mut()
            .map(|processes| processes.server.try_wait());
        !matches!(server, Some(Ok(None)))
    }

    fn log_tail(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let log = read("log") + &read(COMPLAINTS);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ")
    }

    /// The shell's own `kill`: sending a signal needs no library and no unsafe code this way.
    fn signal(&self, signal: &str) -> io::Result<()> {
        let pid = self.pid().ok_or(io::ErrorKind::NotFound)?;
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {pid}")])
            .status()?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| io::Error::other("the signal was not sent"))
    }
}

impl Processes {
    fn spawn(program: &Path, config: &Path, folder: &Path) -> io::Result<Self> {
        let complaints = fs::File::create(folder.join(COMPLAINTS))?;
        let mut server = Command::new(program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { server, watchdog }),
            Err(error) => {
                end(&mut server);
                Err(error)
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // the watchdog first: it must not outlive the process id that it was given
        end(&mut self.watchdog);
        end(&mut self.server);
    }
}

fn end(process: &mut Child) {
    if let Err(error) = process.kill().and_then(|()| process.wait()) {
        tracing::warn!(%error, pid = process.id(), "a child process could not be ended");
    }
}

/// True if a nats-server greets at `port` of loopback.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut greeting = [0; b"INFO ".len()];
    let patient = stream.set_read_timeout(Some(GREETING_TIMEOUT));
    patient
        .and_then(|()| stream.read_exact(&mut greeting))
        .is_ok()
        && greeting == *b"INFO "
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let options = options.create(true).truncate(true).write(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn io_error(program: &Path, reason: io::Error) -> StartError {
    StartError::Io {
        program: program.to_owned(),
        reason,
    }
}
