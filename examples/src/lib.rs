//! What the numbered examples share: a whole cluster in this process.
//!
//! It wires what `thalamus up` wires, on free ports and an in-memory bus, and decides nothing. It never reads
//! the environment or a file. Start reading at `examples/01_hash_blocks.rs`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bus_schemas::{NodeId, Role, Roles};
use nats::{Bus, MemServer};
use node::{
    cluster::{Process, ProcessArgs, load_models},
    config::{Config, Flag, Sources, load},
    fabric_choice,
    logging::Levels,
};
use transport::MemNetwork;

/// Scripted workers are ready at once; a loaded machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A gateway, a router, a prefill worker and a decode worker.
pub struct Cluster {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// The bus that all of them are on.
    pub bus: Arc<dyn Bus>,
    process: Process,
}

impl Cluster {
    /// Starts one that serves `model`; every prompt is prefilled away from where it is decoded.
    ///
    /// # Errors
    /// A member does not start.
    pub async fn start(model: &str) -> anyhow::Result<Self> {
        let config = config(model)?;
        let server = MemServer::default();
        let args = ProcessArgs {
            config: config.clone(),
            bus: server.connect(),
            levels: Levels::default(),
            cookie: "an example has no secrets".to_owned(),
        };
        let mut process = Process::start(args).await?;
        process.add_router(NodeId::new("router-0")?).await?;
        let network = MemNetwork::default();
        let roles = [Role::Prefill, Role::Decode];
        for (role, model) in roles.into_iter().zip(load_models(&config, roles.len())?) {
            let name = NodeId::new(&format!("{}-0", role.as_str()))?;
            let fabric = fabric_choice::choose(&config.fabric, true, &network)?;
            let roles = Roles::only(role);
            process.add_worker(name, roles, model, fabric).await?;
        }
        let http = process.add_gateway(NodeId::new("gateway-0")?).await?;
        process.complete();
        let ready = process.wait_ready(READY_WITHIN).await;
        ensure!(ready, "no worker was ready in time");
        Ok(Self {
            http,
            bus: server.connect(),
            process,
        })
    }

    /// Lets it drain and leave.
    pub async fn stop(self) {
        self.process.stop(false).await;
    }
}

fn config(model: &str) -> anyhow::Result<Config> {
    let flags = [
        ("worker.model", model),
        ("worker.kv_blocks", "64"),
        ("worker.local_prefill_max", "0"),
        ("gateway.listen", "127.0.0.1:0"),
        ("admin.listen", "127.0.0.1:0"),
    ];
    let flags = flags.map(|(key, value)| Flag {
        flag: format!("--set {key}"),
        key: key.to_owned(),
        value: value.to_owned(),
    });
    let sources = Sources {
        flags: flags.to_vec(),
        ..Sources::default()
    };
    Ok(load(&sources).context("the settings above")?.config)
}
