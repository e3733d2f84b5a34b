//! `thalamus up`: a whole cluster on this machine, in one process or in several.
//!
//! In one process it needs nothing but itself; `--nats` puts its subjects on a server where clients reach them.
//! With `--processes` it starts a nats-server and the workers as children, which end with it. It never starts a
//! server that others use.

mod children;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use bus_schemas::{NodeId, Role, Roles};
use nats::{Bus, MemServer, server::NatsServer, server::ServerSettings};
use transport::MemNetwork;

use self::children::Children;
use crate::{
    cluster::{Process, ProcessArgs, connect, cookie, load_models, nats_config},
    config::{Config, schema::Nats},
    exit::Failure,
    fabric_choice, logging, serve,
};

/// Workers must be heard within this time, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Largest payload of the bus in one process: there is no wire to protect.
const PAYLOAD_MAX: usize = 64 * 1024 * 1024;
/// Largest payload of the child server: API section 6 recommends 8 MB.
const SERVER_PAYLOAD_MAX: usize = 8 * 1024 * 1024;

/// Runs until told to leave.
///
/// # Errors
/// [`Failure`].
pub fn run(config: Config) -> Result<(), Failure> {
    if config.up.decode + config.up.worker == 0 {
        return Err(Failure::Usage(
            "nobody would decode: give --decode or --worker".to_owned(),
        ));
    }
    if config.up.processes && config.up.nats.is_some() {
        return Err(Failure::Usage(
            "--processes starts a nats-server of its own: leave --nats out, or use thalamus serve"
                .to_owned(),
        ));
    }
    let levels = logging::init(&config.log).map_err(|e| Failure::Usage(e.to_string()))?;
    let runtime = serve::runtime()?;
    runtime.block_on(async {
        if config.up.processes {
            up_processes(config, levels).await
        } else {
            up_one(config, levels).await
        }
    })
}

fn node(name: &str) -> anyhow::Result<NodeId> {
    Ok(NodeId::new(name)?)
}

/// The workers to start: name and roles.
fn workers(config: &Config) -> anyhow::Result<Vec<(NodeId, Roles)>> {
    let kinds = [
        ("prefill", config.up.prefill, Roles::only(Role::Prefill)),
        ("decode", config.up.decode, Roles::only(Role::Decode)),
        ("worker", config.up.worker, Roles::WORKER),
    ];
    let mut workers = Vec::new();
    for (kind, count, roles) in kinds {
        for index in 0..count {
            workers.push((node(&format!("{kind}-{index}"))?, roles));
        }
    }
    Ok(workers)
}

async fn front(
    config: &Config,
    levels: logging::Levels,
    bus: Arc<dyn Bus>,
) -> anyhow::Result<Process> {
    let cookie = cookie(config.admin.cookie_file.as_deref(), true)?;
    let args = ProcessArgs {
        config: config.clone(),
        bus,
        levels,
        cookie,
    };
    let mut process = Process::start(args).await?;
    process.add_router(node("router-0")?).await?;
    Ok(process)
}

async fn up_one(config: Config, levels: logging::Levels) -> Result<(), Failure> {
    let mut process = front(&config, levels, bus(&config).await?).await?;
    let network = MemNetwork::default();
    let workers = workers(&config)?;
    let models = load_models(&config, workers.len())?;
    for ((name, roles), model) in workers.into_iter().zip(models) {
        let fabric = fabric_choice::choose(&config.fabric, true, &network)?;
        process.add_worker(name, roles, model, fabric).await?;
    }
    let address = process.add_gateway(node("gateway-0")?).await?;
    process.complete();
    announce(&process, &config, address).await?;
    serve::finish(process).await
}

/// The bus of one process: its own, or the server that `--nats` names.
async fn bus(config: &Config) -> Result<Arc<dyn Bus>, Failure> {
    let Some(url) = &config.up.nats else {
        return Ok(MemServer::with_max_payload(PAYLOAD_MAX).connect());
    };
    let settings = Nats {
        url: vec![url.clone()],
        ..config.nats.clone()
    };
    connect(&nats_config(&settings, "thalamus-up")?).await
}

async fn up_processes(config: Config, levels: logging::Levels) -> Result<(), Failure> {
    let settings = ServerSettings {
        max_payload: Some(SERVER_PAYLOAD_MAX),
        ..ServerSettings::default()
    };
    let server = NatsServer::start(settings)
        .await
        .map_err(|e| Failure::Failed(e.into()))?;
    let bus = connect(&server.config()).await?;
    let mut process = front(&config, levels, bus).await?;
    let mut children = Children::new(&config, &server)?;
    for (name, roles) in workers(&config)? {
        children.start(name, roles)?;
    }
    let address = process.add_gateway(node("gateway-0")?).await?;
    process.complete();
    println!(
        "nats-server {} (its credential: {})",
        server.url(),
        children.credential().display()
    );
    tokio::select! {
        announced = announce(&process, &config, address) => announced?,
        failed = children.watch() => return Err(Failure::Failed(failed)),
    }
    let ended = tokio::select! {
        ended = serve::finish(process) => ended,
        failed = children.watch() => Err(Failure::Failed(failed)),
    };
    children.stop().await;
    drop(server);
    ended
}

/// Says where it is and how to try it, once a model can be served.
async fn announce(process: &Process, config: &Config, address: SocketAddr) -> anyhow::Result<()> {
    let ready = process.wait_ready(READY_WITHIN).await;
    anyhow::ensure!(
        ready,
        "no worker was ready within {READY_WITHIN:?}; see the log above"
    );
    let model = process
        .model_names()
        .into_iter()
        .next()
        .context("a ready model has a name")?;
    let scheme = if config.gateway.tls.cert.is_some() {
        "https"
    } else {
        "http"
    };
    println!("thalamus is up");
    println!("  url    {scheme}://{address}/v1");
    println!("  model  {model}");
    println!(
        "  pools  prefill {}, decode {}, worker {}",
        config.up.prefill, config.up.decode, config.up.worker
    );
    if let Some(url) = &config.up.nats {
        println!("  nats   {url} (subjects thalamus.v1.>)");
    }
    println!(
        "  admin  {} (thalamus ctl node ls)",
        process.admin_address()
    );
    println!();
    println!("try:");
    println!(
        "  curl -N {scheme}://{address}/v1/chat/completions -H 'content-type: application/json' \\"
    );
    println!(
        "    -d '{{\"model\": \"{model}\", \"stream\": true, \"max_tokens\": 64, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'"
    );
    Ok(())
}
