//! Workers as child processes of `thalamus up --processes`.
//!
//! A child that ends by itself is started again, as a new epoch, within a budget. Children get their secrets by
//! files, never on the command line, and are told to leave with SIGTERM.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use bus_schemas::{NodeId, Roles};
use nats::server::NatsServer;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::{
    cluster::{runtime_dir, secret_file},
    config::{Config, FabricKind},
};

/// Unexpected ends of one child within [`BUDGET_WINDOW`] before `up` gives up.
const ENDS_MAX: usize = 5;
const BUDGET_WINDOW: Duration = Duration::from_secs(60);
/// Between two looks at the children.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After the drain's time, before a child is killed.
const KILL_AFTER: Duration = Duration::from_secs(5);

struct Worker {
    name: NodeId,
    roles: Roles,
    child: Child,
    ends: Vec<Instant>,
}

/// The children.
pub(super) struct Children {
    config: Config,
    url: String,
    user: String,
    credential: PathBuf,
    workers: Vec<Worker>,
}

impl Children {
    pub(super) fn new(config: &Config, server: &NatsServer) -> anyhow::Result<Self> {
        let connection = server.config();
        let credential = runtime_dir()?.join(format!("nats-password-{}", std::process::id()));
        let _old = std::fs::remove_file(&credential); // of an earlier process with this id
        secret_file(&credential, &connection.password.unwrap_or_default())?;
        Ok(Self {
            config: config.clone(),
            url: server.url(),
            user: connection.user.unwrap_or_default(),
            credential,
            workers: Vec::new(),
        })
    }

    /// The file with the server's password.
    pub(super) fn credential(&self) -> &Path {
        &self.credential
    }

    pub(super) fn start(&mut self, name: NodeId, roles: Roles) -> anyhow::Result<()> {
        let child = self.spawn(name, roles)?;
        self.workers.push(Worker {
            name,
            roles,
            child,
            ends: Vec::new(),
        });
        Ok(())
    }

    fn spawn(&self, name: NodeId, roles: Roles) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let model = self
            .config
            .worker
            .model
            .as_ref()
            .context("no model: give --model")?;
        let fabric = match self.config.fabric.kind {
            FabricKind::Auto | FabricKind::Memory => FabricKind::Shm,
            kind @ (FabricKind::Shm | FabricKind::Ucx) => kind,
        };
        let mut command = Command::new(program);
        command
            .args([
                "serve",
                "--role",
                &roles.to_string(),
                "--name",
                &name.to_string(),
            ])
            .args([
                "--nats",
                &self.url,
                "--cluster",
                &self.config.cluster.to_string(),
            ])
            .args(["--model", &model.to_string(), "--fabric", fabric.as_str()])
            .args(["--admin-listen", "127.0.0.1:0"])
            .env("THALAMUS_NATS_USER", &self.user)
            .env("THALAMUS_NATS_PASSWORD_FILE", &self.credential)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        for (key, value) in self.inherited() {
            command.env(key, value);
        }
        command
            .spawn()
            .with_context(|| format!("cannot start {name}"))
    }

    /// Settings that flags of `up` may have changed, handed on as variables.
    fn inherited(&self) -> Vec<(&'static str, String)> {
        let (worker, script) = (&self.config.worker, &self.config.script);
        let quantize = worker.quantize.name().to_owned();
        let mut all = vec![
            ("THALAMUS_WORKER_KV_BLOCKS", worker.kv_blocks.to_string()),
            (
                "THALAMUS_WORKER_BLOCK_TOKENS",
                worker.block_tokens.to_string(),
            ),
            ("THALAMUS_WORKER_THREADS", worker.threads.to_string()),
            ("THALAMUS_WORKER_QUANTIZE", quantize),
            (
                "THALAMUS_WORKER_STEP_TOKENS_MAX",
                worker.step_tokens_max.to_string(),
            ),
            (
                "THALAMUS_WORKER_PREFILL_CHUNK",
                worker.prefill_chunk.to_string(),
            ),
            (
                "THALAMUS_WORKER_RUNNING_MAX",
                worker.running_max.to_string(),
            ),
            (
                "THALAMUS_WORKER_EXPECTED_OUTPUT",
                worker.expected_output.to_string(),
            ),
            (
                "THALAMUS_WORKER_DRILL_PREEMPT_AFTER",
                worker.drill_preempt_after.to_string(),
            ),
            (
                "THALAMUS_SCRIPT_STEP_DELAY_US",
                script.step_delay_us.to_string(),
            ),
            (
                "THALAMUS_SCRIPT_TOKEN_DELAY_US",
                script.token_delay_us.to_string(),
            ),
            (
                "THALAMUS_SCRIPT_BLOCK_BYTES",
                script.block_bytes.to_string(),
            ),
            (
                "THALAMUS_LIMITS_DRAIN_MS",
                self.config.limits.drain_ms.to_string(),
            ),
            ("THALAMUS_LOG_FILTER", self.config.log.filter.clone()),
            ("THALAMUS_LOG_JSON", self.config.log.json.to_string()),
        ];
        if let Some(backend) = worker.backend {
            all.push(("THALAMUS_WORKER_BACKEND", backend.name().to_owned()));
        }
        if let Some(name) = &worker.model_name {
            all.push(("THALAMUS_WORKER_MODEL_NAME", name.clone()));
        }
        if let Some(profile) = &worker.profile {
            all.push(("THALAMUS_WORKER_PROFILE", profile.display().to_string()));
        }
        if let Some(file) = &self.config.admin.cookie_file {
            all.push(("THALAMUS_ADMIN_COOKIE_FILE", file.display().to_string()));
        }
        if let Some(dir) = &self.config.fabric.dir {
            all.push(("THALAMUS_FABRIC_DIR", dir.display().to_string()));
        }
        all
    }

    /// Starts children that ended again; returns once one has ended too often.
    pub(super) async fn watch(&mut self) -> anyhow::Error {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for index in 0..self.workers.len() {
                if let Err(error) = self.look_at(index) {
                    return error;
                }
            }
        }
    }

    fn look_at(&mut self, index: usize) -> anyhow::Result<()> {
        let worker = &mut self.workers[index];
        let Some(status) = worker.child.try_wait()? else {
            return Ok(());
        };
        let now = Instant::now();
        worker
            .ends
            .retain(|at| now.duration_since(*at) < BUDGET_WINDOW);
        worker.ends.push(now);
        let (name, roles, ends) = (worker.name, worker.roles, worker.ends.len());
        tracing::warn!(node = %name, how = how(status), "a worker's process ended; it is started again");
        anyhow::ensure!(
            ends <= ENDS_MAX,
            "{name} ended {ends} times within {BUDGET_WINDOW:?}; its log is above"
        );
        self.workers[index].child = self.spawn(name, roles)?;
        Ok(())
    }

    /// Tells all children to leave and waits for them.
    pub(super) async fn stop(mut self) {
        for worker in &self.workers {
            terminate(&worker.child);
        }
        let within = Duration::from_millis(self.config.limits.drain_ms) + KILL_AFTER;
        let deadline = Instant::now() + within;
        for worker in &mut self.workers {
            if tokio::time::timeout_at(deadline, worker.child.wait())
                .await
                .is_err()
            {
                tracing::warn!(node = %worker.name, "did not leave in time and is killed");
            }
        }
        let _already_gone = std::fs::remove_file(&self.credential);
    }
}

/// SIGTERM, by the system's own command: this crate has no unsafe code.
fn terminate(child: &Child) {
    let Some(pid) = child.id() else { return };
    let told = std::process::Command::new("kill")
        .arg(pid.to_string())
        .status();
    if !told.is_ok_and(|status| status.success()) {
        tracing::debug!(pid, "could not be told to leave; it may have left");
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
