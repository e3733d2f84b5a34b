//! The ways to run: which processes a cluster of this test is made of. It asks them nothing.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nats::server::{NatsServer, ServerSettings};
use serde_json::json;
use thalamus_tests::up::{Thalamus, repository};
use tokio::runtime::{Builder, Runtime};

use super::{
    door::{Door, Login},
    manner::Start,
    reference::{BLOCK_TOKENS, Reference},
};

/// Enough for every prompt of the test.
const KV_BLOCKS: &str = "128";
/// Some beats, on a loaded machine.
const HEARD_WITHIN: Duration = Duration::from_secs(20);

/// How the cluster is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// `up` with one worker that does both.
    Aggregated,
    /// `up` with a prefill and a decode worker in one process.
    OneProcess,
    /// Two worker processes over shared memory.
    SharedMemory,
    /// Two worker processes over UCX tcp.
    Ucx,
}

impl Setting {
    pub(super) const ALL: [Self; 4] = [
        Self::Aggregated,
        Self::OneProcess,
        Self::SharedMemory,
        Self::Ucx,
    ];

    /// Doors that a client outside can reach: in one process, NATS only where there is a server to join.
    pub(super) const fn doors(self, nats: bool) -> &'static [Door] {
        match self {
            Self::Aggregated | Self::OneProcess if !nats => &[Door::Http],
            Self::Aggregated | Self::OneProcess | Self::SharedMemory | Self::Ucx => {
                &[Door::Http, Door::Nats]
            }
        }
    }

    /// Prefill and decode are different workers.
    pub(super) const fn is_disaggregated(self) -> bool {
        match self {
            Self::Aggregated => false,
            Self::OneProcess | Self::SharedMemory | Self::Ucx => true,
        }
    }

    pub(super) const fn needs_nats(self) -> bool {
        match self {
            Self::Aggregated | Self::OneProcess => false,
            Self::SharedMemory | Self::Ucx => true,
        }
    }

    pub(super) const fn needs_ucx(self) -> bool {
        matches!(self, Self::Ucx)
    }

    const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Aggregated => &["--prefill", "0", "--decode", "0", "--worker", "1"],
            Self::OneProcess => &[
                "--prefill",
                "1",
                "--decode",
                "1",
                "--local-prefill-max",
                "0",
            ],
            Self::SharedMemory => &[
                "--processes",
                "--fabric",
                "shm",
                "--prefill",
                "1",
                "--decode",
                "1",
                "--local-prefill-max",
                "0",
            ],
            Self::Ucx => &[
                "--processes",
                "--fabric",
                "ucx",
                "--prefill",
                "1",
                "--decode",
                "1",
                "--local-prefill-max",
                "0",
            ],
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Aggregated => "aggregated, one process",
            Self::OneProcess => "disaggregated, one process",
            Self::SharedMemory => "two processes, shared memory",
            Self::Ucx => "two processes, UCX tcp",
        })
    }
}

/// A running cluster. Fields are dropped in this order: processes before their server.
pub(super) struct Running {
    pub(super) setting: Setting,
    pub(super) front: Thalamus,
    pub(super) login: Option<Login>,
    _server: Option<NatsServer>,
    _folder: tempfile::TempDir,
    pub(super) runtime: Runtime,
}

impl Running {
    /// Starts it; one process joins a real server where there is one.
    pub(super) fn start(
        setting: Setting,
        checkpoint: &str,
        start: Start,
        nats: bool,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let folder = tempfile::Builder::new().prefix("th-").tempdir()?;
        let model = repository()
            .join("tests/checkpoints")
            .join(checkpoint)
            .display()
            .to_string();
        let mut args = vec![
            "--model",
            &model,
            "--kv-blocks",
            KV_BLOCKS,
            "--threads",
            "1",
        ];
        args.extend_from_slice(setting.args());
        args.extend_from_slice(start.args());
        let (front, login, server) = match setting {
            Setting::Aggregated | Setting::OneProcess if nats => {
                let server = runtime.block_on(NatsServer::start(ServerSettings::default()))?;
                let config = server.config();
                let user = config.user.unwrap_or_default();
                let password = config.password.unwrap_or_default();
                let login = Login {
                    url: server.url(),
                    user,
                    password,
                };
                let front = joined(&args, &login, folder.path())?;
                (front, Some(login), Some(server))
            }
            Setting::Aggregated | Setting::OneProcess => (Thalamus::up(&args)?, None, None),
            Setting::SharedMemory | Setting::Ucx => {
                let front = Thalamus::up(&args)?;
                let login = printed_login(&front.said)?;
                (front, Some(login), None)
            }
        };
        Ok(Self {
            setting,
            front,
            login,
            _server: server,
            _folder: folder,
            runtime,
        })
    }

    /// Asks until blocks cross the fabric: workers that have not heard each other yet prefill by themselves.
    pub(super) fn warm_up(&self, reference: &Reference) -> Result<()> {
        let deadline = Instant::now() + HEARD_WITHIN;
        let prompt = vec![7; BLOCK_TOKENS];
        for salt in 0.. {
            let salt = format!("warm {salt}");
            let body = json!({
                "model": reference.checkpoint, "prompt": prompt, "max_tokens": 4, "cache_salt": salt,
            });
            self.front.ask("/v1/completions", &body)?;
            let taken = self
                .counters()?
                .get("blocks_taken")
                .copied()
                .unwrap_or_default();
            if taken > 0 || !self.setting.is_disaggregated() {
                break;
            }
            ensure!(Instant::now() < deadline, "no block crossed the fabric");
        }
        Ok(())
    }

    /// Counters of all workers, added up.
    pub(super) fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let rows = self.front.ctl_json(&["kv", "top"])?;
        let mut sums = BTreeMap::new();
        for row in rows.as_array().context("kv top is a list")? {
            for (name, value) in row["counters"].as_object().context("a worker counts")? {
                *sums.entry(name.clone()).or_default() += value.as_u64().context("a count")?;
            }
        }
        Ok(sums)
    }
}

/// `up --nats` on this server.
fn joined(args: &[&str], login: &Login, folder: &Path) -> Result<Thalamus> {
    let file = folder.join("password").display().to_string();
    std::fs::write(&file, &login.password)?;
    let mut all = vec!["--nats", login.url.as_str()];
    all.extend_from_slice(args);
    let variables = [
        ("THALAMUS_NATS_USER", login.user.as_str()),
        ("THALAMUS_NATS_PASSWORD_FILE", &file),
    ];
    Thalamus::up_logging(&all, &variables, std::process::Stdio::inherit())
}

/// What `up --processes` says about the server that it started.
fn printed_login(said: &[String]) -> Result<Login> {
    let line = said
        .iter()
        .find_map(|line| line.strip_prefix("nats-server "));
    let (url, rest) = line
        .and_then(|line| line.split_once(" (its credential: "))
        .with_context(|| format!("no NATS server is named in {said:?}"))?;
    let file = PathBuf::from(rest.trim_end_matches(')'));
    let password = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(Login {
        url: url.to_owned(),
        user: "thalamus".to_owned(),
        password: password.trim().to_owned(),
    })
}

/// Whether a real nats-server can be started here.
pub(super) fn nats_server() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { NatsServer::start(ServerSettings::default()).await.map(drop) })?;
    Ok(())
}

/// Whether UCX can be opened here.
pub(super) fn ucx() -> Result<()> {
    transport::probe_ucx()?;
    Ok(())
}
