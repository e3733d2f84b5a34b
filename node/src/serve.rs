//! `thalamus serve`: one process of a cluster, with one or more roles.
//!
//! It needs a NATS server and never starts one. Its name is unique in the cluster, or it refuses to start.

use anyhow::Context;
use bus_schemas::{NodeId, Role, Roles};
use transport::MemNetwork;

use crate::{
    cluster::{Ended, Process, ProcessArgs, connect, cookie, load_models, nats_config},
    config::Config,
    exit::Failure,
    fabric_choice, logging, signals,
};

/// Runs until told to leave, drained, or broken.
///
/// # Errors
/// [`Failure`].
pub fn run(config: Config) -> Result<(), Failure> {
    if config.roles == Roles::default() {
        return Err(Failure::Usage(
            "say what this node does: --role gateway, router, prefill, decode or worker".to_owned(),
        ));
    }
    let levels = logging::init(&config.log).map_err(|e| Failure::Usage(e.to_string()))?;
    runtime()?.block_on(serve(config, levels))
}

/// The runtime of a process.
///
/// # Errors
/// The system gives no threads.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn serve(config: Config, levels: logging::Levels) -> Result<(), Failure> {
    let base = base_name(&config)?;
    let bus = connect(&nats_config(&config.nats, &base)?).await?;
    let cookie = cookie(config.admin.cookie_file.as_deref(), true)?;
    let args = ProcessArgs {
        config: config.clone(),
        bus,
        levels,
        cookie,
    };
    let mut process = Process::start(args).await?;
    add_members(&mut process, &config, &base).await?;
    process.complete();
    println!(
        "thalamus {} of cluster {} is up: admin {}",
        config.roles,
        config.cluster,
        process.admin_address()
    );
    finish(process).await
}

/// Waits for the end of a process and lets it go in order.
///
/// # Errors
/// A member broke too often.
pub async fn finish(process: Process) -> Result<(), Failure> {
    let ended = tokio::select! {
        left = signals::leave() => {
            left.context("cannot listen for signals")?;
            None
        }
        ended = process.ended() => Some(ended),
    };
    process.stop(ended == Some(Ended::Drained)).await;
    match ended {
        Some(Ended::Broken) => Err(Failure::Failed(anyhow::anyhow!(
            "a role broke more often than its restart budget allows; its log says why"
        ))),
        Some(Ended::Drained) | None => Ok(()),
    }
}

async fn add_members(process: &mut Process, config: &Config, base: &str) -> anyhow::Result<()> {
    let roles = config.roles;
    let workers = Roles(roles.0 & Roles::WORKER.0);
    let several = [
        roles.has(Role::Gateway),
        roles.has(Role::Router),
        workers != Roles::default(),
    ]
    .into_iter()
    .filter(|held| *held)
    .count()
        > 1;
    let name = |role: &str| -> anyhow::Result<NodeId> {
        let text = if several {
            format!("{base}-{role}")
        } else {
            base.to_owned()
        };
        Ok(NodeId::new(&text)?)
    };
    if roles.has(Role::Router) {
        process.add_router(name("router")?).await?;
    }
    if workers != Roles::default() {
        let fabric = fabric_choice::choose(&config.fabric, false, &MemNetwork::default())?;
        for model in load_models(config, 1)? {
            // Peers read these blocks: better no start than a lack of memory in the middle of their requests.
            model.region.commit()?;
            let name = name(&workers.to_string())?;
            process
                .add_worker(name, workers, model, fabric.clone())
                .await?;
        }
    }
    if roles.has(Role::Gateway) {
        let address = process.add_gateway(name("gateway")?).await?;
        println!("listening on http://{address}");
    }
    Ok(())
}

/// The configured name, or one made of the role and the process.
fn base_name(config: &Config) -> anyhow::Result<String> {
    if let Some(name) = config.name {
        return Ok(name.to_string());
    }
    let mut bytes = [0u8; 3];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
    let role = config.roles.to_string().replace('+', "-");
    let role = if role.len() > 16 {
        "node".to_owned()
    } else {
        role
    };
    Ok(format!(
        "{role}-{:02x}{:02x}{:02x}",
        bytes[0], bytes[1], bytes[2]
    ))
}
