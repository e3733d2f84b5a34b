//! One process of a cluster: its bus, its members, its doors, and how it leaves.
//!
//! Start order: admin port, gateways, routers, workers, doors. Stop order: doors take nothing new, workers and
//! gateways drain, then everything stops in reverse.

mod members;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use actors::{
    Clock,
    admin::{AdminHandler, AdminServer},
    supervisor::{Health, Supervised},
};
use anyhow::Context;
use bus_schemas::{Roles, subjects::Subjects};
use gateway::{http, nats_door};
use logic::role::{gateway as gateway_core, worker as worker_core};
use nats::Bus;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    admin::{Local, Members},
    models::Models,
    streams::Streams,
};
use crate::{config::Config, logging::Levels};

/// After a drain's own deadline, until letters are out and confirmed.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Time for the last letters to leave.
const FLUSH: Duration = Duration::from_secs(1);

/// What a process is made of.
pub struct ProcessArgs {
    /// Its configuration.
    pub config: Config,
    /// Its bus.
    pub bus: Arc<dyn Bus>,
    /// The handle to its log.
    pub levels: Levels,
    /// The cookie of `ctl`.
    pub cookie: String,
}

/// A running process.
pub struct Process {
    config: Config,
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    clock: Clock,
    admin: AdminServer,
    members: Members,
    handler: Arc<OnceLock<Members>>,
    models: Arc<Models>,
    supervised: Vec<Supervised>,
    streams: Vec<Arc<Streams>>,
    drained: Vec<(Roles, Arc<Notify>)>,
    doors: Vec<http::Running>,
    probes: Vec<http::Probe>,
    nats_doors: Vec<nats_door::Running>,
    tasks: JoinSet<()>,
}

impl Process {
    /// Opens the admin port; members are added next.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(args: ProcessArgs) -> anyhow::Result<Self> {
        let ProcessArgs {
            config,
            bus,
            levels,
            cookie,
        } = args;
        let handler = Arc::new(OnceLock::new());
        let local = Local {
            members: handler.clone(),
            levels,
            drain_ms: config.limits.drain_ms,
        };
        let local: Arc<dyn AdminHandler> = Arc::new(local);
        let name = format!("thalamus-{}", std::process::id());
        let admin = AdminServer::start(config.admin.listen, &name, cookie, local)
            .await
            .context("choose another port with --admin-listen, or 0 for a free one")?;
        Ok(Self {
            subjects: Subjects::new(&config.cluster.to_string()),
            config,
            bus,
            clock: Clock::start(),
            admin,
            members: Members::default(),
            handler,
            models: Arc::default(),
            supervised: Vec::new(),
            streams: Vec::new(),
            drained: Vec::new(),
            doors: Vec::new(),
            probes: Vec::new(),
            nats_doors: Vec::new(),
            tasks: JoinSet::new(),
        })
    }

    /// Where `ctl` reaches it.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// All members are there: `ctl` may ask about them.
    pub fn complete(&self) {
        let _set_once = self.handler.set(self.members.clone());
    }

    /// Waits until every model of this process can be served, or the time is over.
    pub async fn wait_ready(&self, within: Duration) -> bool {
        let ready = async {
            while !self.models.list().iter().any(|m| m.ready) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(within, ready).await.is_ok()
    }

    /// Names of the models known here.
    #[must_use]
    pub fn model_names(&self) -> Vec<String> {
        self.models.list().into_iter().map(|m| m.name).collect()
    }

    /// Returns when a member broke too often, or when every worker here has drained by order of `ctl`.
    pub async fn ended(&self) -> Ended {
        let mut watching = JoinSet::new();
        for supervised in &self.supervised {
            let mut health = supervised.health();
            watching.spawn(async move {
                let _gone = health.wait_for(|h| *h == Health::Failed).await;
                Ended::Broken
            });
        }
        let notified: Vec<Arc<Notify>> = self.drained.iter().map(|(_, n)| n.clone()).collect();
        if !notified.is_empty() {
            watching.spawn(async move {
                for one in notified {
                    one.notified().await;
                }
                Ended::Drained
            });
        }
        match watching.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Ended::Broken,
            None => std::future::pending().await,
        }
    }

    /// Takes nothing new, lets what runs finish within the drain's time, and stops.
    pub async fn stop(mut self, drained_already: bool) {
        for streams in &self.streams {
            streams.close();
        }
        if !drained_already {
            self.drain().await;
        }
        for door in std::mem::take(&mut self.doors) {
            if !door.stop(DRAIN_GRACE).await {
                tracing::warn!("some connections were closed while they were open");
            }
        }
        for door in std::mem::take(&mut self.nats_doors) {
            if !door.stop(DRAIN_GRACE).await {
                tracing::warn!("some NATS requests were ended while they ran");
            }
        }
        self.tasks.abort_all();
        for supervised in self.supervised.iter().rev() {
            supervised.stop().await;
        }
        self.admin.stop();
        if !self.bus.flush(FLUSH).await {
            tracing::warn!("the last letters may not have left");
        }
        self.bus.close().await;
    }

    async fn drain(&self) {
        let drain_ms = self.config.limits.drain_ms;
        let within_us = drain_ms.saturating_mul(1000);
        for (_, gateway) in &self.members.gateways {
            if let Some(shell) = gateway.borrow().clone() {
                let input = gateway_core::Input::Drain;
                let _gone = shell.cast(actors::ShellMsg::Input(input, None));
            }
        }
        for (_, worker) in &self.members.workers {
            if let Some(current) = worker.borrow().clone() {
                let input = worker_core::Input::Drain { within_us };
                let _gone = current.shell.cast(actors::ShellMsg::Input(input, None));
            }
        }
        let all = async {
            for (_, drained) in &self.drained {
                drained.notified().await;
            }
        };
        let within = Duration::from_millis(drain_ms) + DRAIN_GRACE;
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!("drained as far as the time allowed");
        }
    }
}

/// Why a process ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A member broke too often.
    Broken,
    /// Every member that holds requests has drained.
    Drained,
}
