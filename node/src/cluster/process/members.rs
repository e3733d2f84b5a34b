//! Members join a process: routers, gateways with their doors, workers around loaded models.
//!
//! A name is claimed before anything starts under it. Nothing is stopped here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actors::{
    engine_thread::EngineThread,
    gateway::{GatewayRef, GatewayRole},
    post::name_is_taken,
    router::{RouterRef, RouterRole},
    supervisor::Supervised,
    worker::{Current, OpenFabric, WorkerRole},
};
use bus_schemas::{Epoch, NodeId, NodeRef, Role, Roles, limits, messages::Pass};
use gateway::{Doors, Options, http, nats_door};
use logic::role::{gateway as gateway_core, router as router_core, worker as worker_core};
use tokio::sync::{Notify, watch};
use transport::{Checks, FabricConfig, FabricKind};

use super::{
    super::{
        cards,
        load::LoadedModel,
        meter,
        models::learn_models,
        runtime::{random_key, random_word},
        streams::{Shared, Streams},
    },
    Process,
};

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
impl Process {
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
            secret: random_word()?,
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
        let learning = learn_models(self.models.clone(), self.bus.clone(), self.subjects.clone());
        self.tasks.spawn(learning);
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
            bodies_bytes_max: usize::try_from(settings.bodies_bytes_max).unwrap_or(usize::MAX),
            connections_max: settings.connections_max as usize,
            times: http::Times {
                idle: Duration::from_millis(settings.idle_ms),
                ..http::Times::default()
            },
            ..http::HttpConfig::default()
        };
        if let Some(listen) = settings.probe_listen {
            let probe = http::probe(listen, doors.clone()).await?;
            tracing::info!(address = %probe.addr, "probes are answered here");
            self.probes.push(probe);
        }
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
            let checks = Checks::default();
            let config = FabricConfig {
                me,
                region,
                sink,
                checks,
            };
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
}
