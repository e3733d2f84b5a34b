//! A `thalamus up` under measurement: started on free ports, its processes known by what they do.
//!
//! It never shares a folder with another one, and leaves nothing behind.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::process;

/// A clean stop drains first; with nothing under way that is short.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

/// Clusters under measurement: name and arguments. The first one is what peers are compared with.
pub const CLUSTERS: [(&str, &[&str]); 3] = [
    (
        "processes",
        &[
            "--processes",
            "--prefill",
            "0",
            "--decode",
            "0",
            "--worker",
            "2",
        ],
    ),
    (
        "one process",
        &["--prefill", "0", "--decode", "0", "--worker", "2"],
    ),
    (
        "prefill + decode, shm",
        &["--processes", "--fabric", "shm", "--local-prefill-max", "0"],
    ),
];

/// A running cluster.
#[derive(Debug)]
pub struct Up {
    child: Child,
    _runtime: tempfile::TempDir,
    /// Where HTTP listens.
    pub http: SocketAddr,
}

/// What the parts of a cluster cost; all that is one process is `front`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Gateway and router.
    pub front: u64,
    /// Workers in processes of their own.
    pub workers: u64,
    /// The nats-server.
    pub server: u64,
}

impl Cost {
    /// What was added since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            front: self.front.saturating_sub(earlier.front),
            workers: self.workers.saturating_sub(earlier.workers),
            server: self.server.saturating_sub(earlier.server),
        }
    }
}

impl Up {
    /// Starts the program that lies beside this one; it is ready when this returns.
    ///
    /// # Errors
    /// It is not built, or does not start.
    pub fn start(args: &[&str]) -> Result<Self> {
        let program = program()?;
        let runtime = tempfile::Builder::new().prefix("th-bench-").tempdir()?;
        let mut child = Command::new(program)
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(args)
            .env("XDG_RUNTIME_DIR", runtime.path())
            .env("THALAMUS_LOG_FILTER", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(output).lines();
        let found = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("http://")?
                .1
                .split('/')
                .next()?
                .parse()
                .ok()
        });
        let Some(http) = found else {
            let _gone_already = child.kill();
            anyhow::bail!("thalamus {args:?} ended with {}", child.wait()?);
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            _runtime: runtime,
            http,
        })
    }

    /// CPU time used so far, in microseconds.
    ///
    /// # Errors
    /// A process is gone.
    pub fn cpu_us(&self) -> Result<Cost> {
        self.sum(process::cpu_us)
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// A process is gone.
    pub fn resident_kib(&self) -> Result<Cost> {
        self.sum(process::resident_kib)
    }

    /// Sums what `of` says of its processes.
    ///
    /// # Errors
    /// A process is gone.
    pub fn sum(&self, of: fn(u32) -> Result<u64>) -> Result<Cost> {
        let front = of(self.child.id())?;
        let mut cost = Cost {
            front,
            ..Cost::default()
        };
        for child in process::children(self.child.id()) {
            if process::name(child).starts_with("nats") {
                cost.server += of(child)?;
            } else {
                cost.workers += of(child)?;
            }
        }
        Ok(cost)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let deadline = Instant::now() + LEAVE_WITHIN;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("thalamus");
    ensure!(
        program.is_file(),
        "{} is not there: build it with the same profile",
        program.display()
    );
    Ok(program)
}
