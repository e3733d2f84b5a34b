//! One process of a cluster: its bus, its members, its doors, and how it leaves.
//!
//! Start order: admin port, gateways, routers, workers, doors. Stop order: doors take nothing new, workers and
//! gateways drain, then everything stops in reverse.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use actors::{
    Clock,
    admin::{AdminHandler, AdminServer},
    engine_thread::EngineThread,
    gateway::{GatewayRef, GatewayRole},
    post::name_is_taken,
    router::{RouterRef, RouterRole},
    supervisor::{Health, Supervised},
    worker::{Current, OpenFabric, WorkerRole},
};
use anyhow::Context;
use bus_schemas::{
    Epoch, NodeId, NodeRef, Role, Roles, limits, messages::Pass, subjects::Subjects,
};
use gateway::{Doors, Options, http, nats_door};
use logic::role::{gateway as gateway_core, router as router_core, worker as worker_core};
use nats::Bus;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use transport::{FabricConfig, FabricKind};

use super::{
    admin::{Local, Members},
    cards,
    load::LoadedModel,
    meter,
    models::{Models, watch_models},
    runtime::random_key,
    streams::{Shared, Streams},
};
use crate::{config::Config, logging::Levels};

/// Requests that a worker holds at once, of each side: some kilobytes each.
const JOBS_MAX: usize = 4096;
/// How long a request that found everything full is tried again.
const PATIENCE_US: u64 = 5_000_000;
/// First guess of a pass on this CPU, in microseconds: corrected by every step.
const PASS: Pass = Pass {
    a: 500.0,
    c: 100.0,
    d: 10.0,
    e: 100.0,
};
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
            nats_doors: Vec::new(),
            tasks: JoinSet::new(),
        })
    }

    /// Where `ctl` reaches it.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    async fn claim(&self, name: NodeId) -> anyhow::Result<NodeRef> {
        let taken = name_is_taken(&self.bus, &self.subjects, name).await?;
        anyhow::ensure!(
            !taken,
            "a live node of cluster {} is already called {name}: choose another --name",
            self.config.cluster
        );
        Ok(NodeRef {
            node: name,
            epoch: Epoch(0),
        })
    }

    /// Adds a router.
    ///
    /// # Errors
    /// Its name is taken, or it does not start.
    pub async fn add_router(&mut self, name: NodeId) -> anyhow::Result<()> {
        let me = self.claim(name).await?;
        let (current, watch) = watch::channel::<Option<RouterRef>>(None);
        let config = router_core::Config {
            me,
            local_prefill_max: self.config.worker.local_prefill_max,
            expected_output: self.config.worker.expected_output,
            admin: self.admin.address().to_string(),
        };
        let role = RouterRole {
            node: name,
            config,
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            clock: self.clock,
            current,
        };
        self.supervised
            .push(Supervised::start(Box::new(role)).await?);
        self.members.routers.push((name.to_string(), watch));
        Ok(())
    }

    /// Adds a gateway with its doors.
    ///
    /// # Errors
    /// Its name or port is taken, or it does not start.
    pub async fn add_gateway(&mut self, name: NodeId) -> anyhow::Result<SocketAddr> {
        let me = self.claim(name).await?;
        let (current, watch) = watch::channel::<Option<GatewayRef>>(None);
        let settings = &self.config.gateway;
        let open_max = settings.open_max as usize;
        let streams = Streams::new(watch.clone(), self.models.clone(), open_max);
        let drained = Arc::new(Notify::new());
        let config = gateway_core::Config {
            me,
            open_max,
            patience_us: PATIENCE_US,
            migrations_max: limits::MIGRATIONS_MAX,
            admin: self.admin.address().to_string(),
        };
        let role = GatewayRole {
            node: name,
            config,
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            clock: self.clock,
            doors: streams.clone(),
            current,
            drained: drained.clone(),
        };
        self.supervised
            .push(Supervised::start(Box::new(role)).await?);
        let looking = watch_models(
            self.models.clone(),
            self.bus.clone(),
            self.subjects.clone(),
            watch.clone(),
        );
        self.tasks.spawn(looking);
        self.members.gateways.push((name.to_string(), watch));
        self.drained.push((Roles::only(Role::Gateway), drained));
        self.streams.push(streams.clone());
        self.open_doors(streams).await
    }

    async fn open_doors(&mut self, streams: Arc<Streams>) -> anyhow::Result<SocketAddr> {
        let settings = &self.config.gateway;
        let doors = Doors::new(Arc::new(Shared(streams)), Options::default());
        let tls = match (&settings.tls.cert, &settings.tls.key) {
            (Some(cert), Some(key)) => Some(http::TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        let config = http::HttpConfig {
            listen: settings.listen,
            tls,
            keys_file: settings.api_keys_file.clone(),
            cors_origins: settings.cors_origins.clone(),
            body_bytes_max: usize::try_from(settings.body_bytes_max).unwrap_or(usize::MAX),
            ..http::HttpConfig::default()
        };
        let running = http::serve(config, doors.clone()).await?;
        let address = running.addr;
        self.doors.push(running);
        if settings.nats {
            let config = nats_door::NatsConfig {
                open_max: settings.open_max as usize,
                ..nats_door::NatsConfig::default()
            };
            self.nats_doors
                .push(nats_door::serve(self.bus.clone(), doors, config).await?);
        }
        Ok(address)
    }

    /// Adds a worker around a loaded model.
    ///
    /// # Errors
    /// Its name is taken, or it does not start.
    pub async fn add_worker(
        &mut self,
        name: NodeId,
        roles: Roles,
        model: LoadedModel,
        fabric: FabricKind,
    ) -> anyhow::Result<()> {
        let me = self.claim(name).await?;
        let (current, watch) = watch::channel::<Option<Current>>(None);
        let LoadedModel {
            name: model_name,
            card,
            engine,
            region,
        } = model;
        let engine = EngineThread::start(&name.to_string(), engine, region)?;
        let config = self.worker_config(me, roles, model_name.clone(), card.hash(), &engine)?;
        self.models.add(&model_name, &card)?;
        cards::serve(self.bus.clone(), self.subjects.clone(), card).await?;
        let open_fabric: OpenFabric = Arc::new(move |me, region, sink| {
            let config = FabricConfig { me, region, sink };
            transport::start(fabric.clone(), config).map_err(|e| e.to_string())
        });
        let drained = Arc::new(Notify::new());
        let role = WorkerRole {
            node: name,
            config,
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            engine,
            open_fabric,
            clock: self.clock,
            current,
            drained: drained.clone(),
        };
        self.supervised
            .push(Supervised::start(Box::new(role)).await?);
        self.tasks.spawn(meter::watch_worker(watch.clone()));
        self.members.workers.push((name.to_string(), watch));
        self.drained.push((roles, drained));
        Ok(())
    }

    fn worker_config(
        &self,
        me: NodeRef,
        roles: Roles,
        model: String,
        card: u64,
        engine: &EngineThread,
    ) -> anyhow::Result<worker_core::Config> {
        let (settings, shape) = (&self.config.worker, engine.shape());
        let secret = random_key()?;
        Ok(worker_core::Config {
            me,
            roles,
            model,
            card,
            slots: engine.region().slots(),
            quarantined: Vec::new(),
            block_tokens: shape.block_tokens,
            context_tokens: shape.context_tokens,
            vocabulary: shape.vocabulary.clone(),
            fabric: Vec::new(),
            admin: self.admin.address().to_string(),
            step_tokens_max: settings.step_tokens_max,
            chunk_tokens_max: settings.prefill_chunk,
            rows_max: settings.running_max as usize,
            jobs_max: JOBS_MAX,
            expected_output: settings.expected_output,
            drill_preempt_after: (settings.drill_preempt_after > 0)
                .then_some(settings.drill_preempt_after),
            pass: PASS,
            secret,
        })
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
