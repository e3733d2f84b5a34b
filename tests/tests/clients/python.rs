//! Python with the clients' packages, in a virtual environment of this test alone, and one running script.
//!
//! What is missing (python3, venv, pip, a package index) makes the test skip, loudly. It never touches the
//! machine's own Python.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use nats::server;
use thalamus_tests::{
    ledger,
    up::{Thalamus, repository},
};

/// The folder of the environment, below the target folder.
const FOLDER: &str = "python-clients";

/// An environment that has the packages.
pub(crate) struct Python(PathBuf);

/// Where a server's NATS is.
pub(crate) struct Nats<'a> {
    pub(crate) url: &'a str,
    pub(crate) password_file: &'a str,
}

/// A script that runs.
pub(crate) struct Script {
    name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// The environment, or none: then the test was told to be skipped. Without nats-server there are no
    /// processes to test.
    pub(crate) fn needed() -> Option<Self> {
        ledger::need("nats", server::find())?;
        ledger::need(
            "python",
            Self::ready().map_err(|error| format!("{error:#}")),
        )
    }

    /// Its interpreter.
    pub(crate) fn program(&self) -> &Path {
        &self.0
    }

    /// Makes the environment, unless it is there with the same requirements. Tests in other processes wait.
    fn ready() -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(FOLDER);
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let requirements = clients().join("requirements.txt");
        let wanted = fs::read(&requirements)?;
        let (stamp, venv) = (folder.join("installed"), folder.join("venv"));
        let python = venv.join("bin/python");
        if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(Self(python));
        }
        succeed(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&venv),
        )?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ];
        succeed(Command::new(&python).args(pip).arg(&requirements))?;
        fs::write(&stamp, wanted)?;
        Ok(Self(python))
    }
}

impl Script {
    /// Starts a script against `server`.
    pub(crate) fn start(
        python: &Python,
        name: &str,
        server: &Thalamus,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let http = server.http.context("it has a gateway")?;
        let model = server
            .said
            .iter()
            .find_map(|line| line.strip_prefix("  model  "));
        let nats = nats_of(server)?;
        let mut child = Command::new(python.program())
            .arg("-B") // no compiled files in the repository
            .arg(clients().join(format!("{name}.py")))
            .env("TEST_URL", format!("http://{http}/v1"))
            .env("TEST_MODEL", model.context("it named its model")?)
            .env("TEST_NATS", nats.url)
            .env("TEST_NATS_PASSWORD_FILE", nats.password_file)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = BufReader::new(child.stdout.take().context("its output is piped")?);
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            output,
        })
    }

    /// Waits until it tells this word.
    pub(crate) fn tells(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(
            line.trim_end() == word,
            "{} said {line:?} instead of {word}",
            self.name
        );
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        writeln!(self.input).with_context(|| format!("{} is gone", self.name))
    }

    /// Waits for its end, which must be a good one; its complaints are on the standard error.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "{}.py failed ({status}): {rest}",
            self.name
        );
        Ok(())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What a server said of its nats-server.
pub(crate) fn nats_of(server: &Thalamus) -> Result<Nats<'_>> {
    let line = server
        .said
        .iter()
        .find_map(|line| line.strip_prefix("nats-server "));
    let (url, rest) = line
        .and_then(|l| l.split_once(" (its credential: "))
        .context("no NATS")?;
    let password_file = rest
        .strip_suffix(')')
        .context("the credential's path has an end")?;
    Ok(Nats { url, password_file })
}

fn clients() -> PathBuf {
    repository().join("tests/clients")
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(())
}
