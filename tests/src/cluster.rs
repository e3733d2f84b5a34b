//! A cluster for a test: a real nats-server, and `thalamus serve` processes that join it.
//!
//! It never decides which processes there are; the test starts and ends each.

use std::{future::Future, path::Path};

use anyhow::Result;
use nats::server::{NatsServer, ServerSettings};
use tokio::runtime::{Builder, Runtime};

use crate::{ledger, up::Thalamus};

/// A server, and the folder that its processes share. Processes must be dropped before it.
pub struct Cluster {
    server: NatsServer,
    folder: tempfile::TempDir,
    password: String,
    runtime: Runtime,
}

impl Cluster {
    /// Starts the server; none, and said so in the ledger, where there is no nats-server.
    ///
    /// # Errors
    /// A folder or a file cannot be made.
    pub fn start() -> Result<Option<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let started = runtime.block_on(NatsServer::start(ServerSettings::default()));
        let Some(server) = ledger::need("nats", started) else {
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("th-").tempdir()?;
        let password = folder.path().join("password").display().to_string();
        std::fs::write(&password, server.config().password.unwrap_or_default())?;
        Ok(Some(Self {
            server,
            folder,
            password,
            runtime,
        }))
    }

    /// Starts `thalamus serve` with these arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(&self, args: &[&str]) -> Result<Thalamus> {
        let url = self.server.url();
        let user = self.server.config().user.unwrap_or_default();
        let all: Vec<&str> = ["--nats", url.as_str()]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let variables = [
            ("THALAMUS_NATS_USER", user.as_str()),
            ("THALAMUS_NATS_PASSWORD_FILE", self.password.as_str()),
        ];
        Thalamus::serve(&all, self.folder.path(), &variables)
    }

    /// The runtime folder that its processes share.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a future to its end beside the server.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A connection of our own to the server.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn client(&self) -> Result<async_nats::Client> {
        let config = self.server.config();
        let options = async_nats::ConnectOptions::with_user_and_password(
            config.user.unwrap_or_default(),
            config.password.unwrap_or_default(),
        );
        Ok(options.connect(self.server.url()).await?)
    }
}
