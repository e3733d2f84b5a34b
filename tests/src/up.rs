//! A real `thalamus` process for a test: started, asked over HTTP and by `ctl`, told to leave at the end.
//!
//! Each has a runtime folder of its own, so that tests never meet. It never reaches into the process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Loading and joining take less than a second; a loaded machine takes longer.
const START_WITHIN: Duration = Duration::from_secs(90);
/// A drain with nothing to do is over at once.
const LEAVE_WITHIN: Duration = Duration::from_secs(40);

/// The program under test, beside this test's own.
///
/// # Errors
/// It was not built.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().find(|p| p.join("thalamus").is_file());
    Ok(folder
        .context("thalamus is not built; run the whole workspace's tests")?
        .join("thalamus"))
}

/// A folder of this repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// A running `thalamus up` or `thalamus serve`.
pub struct Thalamus {
    child: Child,
    runtime: PathBuf,
    owns_runtime: Option<tempfile::TempDir>,
    /// Where HTTP listens, if it has a gateway.
    pub http: Option<SocketAddr>,
    /// Where `ctl` reaches it.
    pub admin: SocketAddr,
    /// Other things it said at its start, line by line.
    pub said: Vec<String>,
}

impl Thalamus {
    /// `thalamus up` with these arguments, on free ports; ready when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub fn up(args: &[&str]) -> Result<Self> {
        Self::up_logging(args, &[], Stdio::inherit())
    }

    /// The same with these variables, and its log (its children's too) somewhere else.
    ///
    /// # Errors
    /// It does not start.
    pub fn up_logging(args: &[&str], variables: &[(&str, &str)], log: Stdio) -> Result<Self> {
        let runtime = tempfile::Builder::new().prefix("th-").tempdir()?;
        let mut all = vec![
            "up",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        all.extend_from_slice(args);
        let path = runtime.path().to_path_buf();
        let mut started = Self::start(&all, &path, variables, log, "try:")?;
        started.owns_runtime = Some(runtime);
        Ok(started)
    }

    /// `thalamus serve` with these arguments and variables, in a runtime folder that several may share.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(args: &[&str], runtime: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let mut all = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        all.extend_from_slice(args);
        Self::start(&all, runtime, variables, Stdio::inherit(), " is up: admin ")
    }

    fn start(
        args: &[&str],
        runtime: &Path,
        variables: &[(&str, &str)],
        log: Stdio,
        ready: &str,
    ) -> Result<Self> {
        let mut command = Command::new(program()?);
        if std::env::var_os("THALAMUS_LOG_FILTER").is_none() {
            command.env("THALAMUS_LOG_FILTER", "warn");
        }
        let mut child = command
            .args(args)
            .env("XDG_RUNTIME_DIR", runtime)
            .envs(variables.iter().copied())
            .stderr(log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = read_until(&mut child, ready);
        let said = match said {
            Ok(said) => said,
            Err(error) => {
                let _ended = child.kill();
                let _reaped = child.wait();
                return Err(error.context(format!("thalamus {}", args.join(" "))));
            }
        };
        let http = find(&said, &["url    http://", "listening on http://"]);
        let admin =
            find(&said, &["admin  ", " is up: admin "]).context("it named no admin port")?;
        Ok(Self {
            child,
            runtime: runtime.to_path_buf(),
            owns_runtime: None,
            http,
            admin,
            said,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `KILL` or `STOP`.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        signal(self.pid(), name)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait(&mut self, within: Duration) -> Result<std::process::ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "it did not end within {within:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs `thalamus ctl` against it.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn ctl(&self, args: &[&str]) -> Result<Output> {
        let admin = self.admin.to_string();
        let output = Command::new(program()?)
            .args(["ctl", "--admin", &admin])
            .args(args)
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .stdin(Stdio::null())
            .output()?;
        Ok(output)
    }

    /// Runs `thalamus ctl -o json` and reads its answer.
    ///
    /// # Errors
    /// It fails, or the answer is no JSON.
    pub fn ctl_json(&self, args: &[&str]) -> Result<Value> {
        let all: Vec<&str> = ["-o", "json"].iter().chain(args).copied().collect();
        let output = self.ctl(&all)?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ctl {args:?}: {errors}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("ctl {args:?}: {errors}"))
    }

    /// Counters of all workers by name, added up.
    ///
    /// # Errors
    /// As [`Thalamus::ctl_json`].
    pub fn counter(&self, name: &str) -> Result<u64> {
        let rows = self.ctl_json(&["kv", "top"])?;
        let rows = rows.as_array().context("kv top is a list")?;
        Ok(rows
            .iter()
            .filter_map(|row| row["counters"][name].as_u64())
            .sum())
    }

    /// Asks over HTTP and returns status and body.
    ///
    /// # Errors
    /// The connection fails, or the answer is no HTTP.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        let http = self.http.context("it has no gateway")?;
        request(http, "POST", path, &[], body.to_string().as_bytes())
    }

    /// The same, with a JSON answer of status 200.
    ///
    /// # Errors
    /// Any other answer.
    pub fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.post(path, body)?;
        ensure!(status == 200, "{path} answered {status}: {answer}");
        serde_json::from_str(&answer).with_context(|| answer)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Thalamus::post`].
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        request(
            self.http.context("it has no gateway")?,
            "GET",
            path,
            &[],
            b"",
        )
    }
}

impl Drop for Thalamus {
    fn drop(&mut self) {
        let told = self.signal("CONT").and_then(|()| self.signal("TERM"));
        if told.is_err() || self.wait(LEAVE_WITHIN).is_err() {
            let _ended = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Sends a signal by name.
///
/// # Errors
/// There is no such process.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()?;
    ensure!(status.success(), "cannot send {name} to {pid}");
    Ok(())
}

/// One HTTP/1.1 exchange on a connection of its own. Chunked answers come back joined.
///
/// # Errors
/// The connection fails, or the answer is no HTTP.
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let split = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("no end of the head")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body = &answer[split + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        join_chunks(body)?
    } else {
        body.to_vec()
    };
    Ok((status, String::from_utf8(body)?))
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|w| w == b"\r\n")
            .context("a chunk without size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(whole);
        }
        let data = rest
            .get(end + 2..end + 2 + size)
            .context("a chunk is cut off")?;
        whole.extend_from_slice(data);
        rest = rest.get(end + 4 + size..).context("a chunk has no end")?;
    }
}

/// The events of a server-sent stream, without `[DONE]`, which must be the last.
///
/// # Errors
/// An event is no JSON, or the stream has no end.
pub fn events(body: &str) -> Result<Vec<Value>> {
    let mut lines: Vec<&str> = body
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    match lines.pop() {
        Some("[DONE]") => lines
            .into_iter()
            .map(|l| Ok(serde_json::from_str(l)?))
            .collect(),
        last => bail!("the stream ended with {last:?}"),
    }
}

/// Lines of a child's standard output up to the one that contains `ready`; the rest is drained in the background.
fn read_until(child: &mut Child, ready: &str) -> Result<Vec<String>> {
    let output = child.stdout.take().context("its output is piped")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _test_has_heard_enough = sender.send(line);
        }
    });
    let deadline = Instant::now() + START_WITHIN;
    let mut said = Vec::new();
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        let line = lines
            .recv_timeout(wait)
            .with_context(|| format!("it said only {said:?}"))?;
        let is_ready = line.contains(ready);
        said.push(line);
        if is_ready {
            return Ok(said);
        }
    }
}

/// The address after one of these texts.
fn find(said: &[String], before: &[&str]) -> Option<SocketAddr> {
    said.iter().find_map(|line| {
        let rest = before
            .iter()
            .find_map(|b| line.split_once(b).map(|(_, rest)| rest))?;
        let end = rest.find(['/', ' ', ',']).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}
