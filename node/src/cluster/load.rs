//! Loads a model: its text side, its engine, and how many blocks of memory it gets.
//!
//! Every worker packs the weights for its own kernels; only with `--backend reference` they stay in the map that all share.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use engine::{
    Engine,
    card::CardFiles,
    model::{ModelEngine, ModelOptions, WeightFormat},
    scripted::{Script, ScriptedConfig, ScriptedEngine},
    simulated::{Profile, SimulatedEngine},
    text::TextModel,
};
use gpu::Region;
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{Config, ModelSource};

/// Share of the free memory that blocks of all workers of a process get together.
const MEMORY_SHARE: u64 = 4;
/// Blocks that a worker gets at least and at most unless told otherwise.
const BLOCKS_DEFAULT: (u64, u64) = (64, 8192);

/// A model ready to be worked with.
pub struct LoadedModel {
    /// Name that clients use.
    pub name: String,
    /// Its files.
    pub card: CardFiles,
    /// Its engine.
    pub engine: Box<dyn Engine>,
    /// Memory of its blocks.
    pub region: Arc<Region>,
}

/// A model's card, and an engine for each worker.
type Loaded = (CardFiles, Vec<Box<dyn Engine>>);

/// Loads the configured model for all `workers` workers of this process; its weights are there once.
///
/// # Errors
/// Whatever is wrong with the checkpoint, or not enough memory.
pub fn load_models(config: &Config, workers: usize) -> anyhow::Result<Vec<LoadedModel>> {
    let source = config
        .worker
        .model
        .as_ref()
        .context("no model: give --model DIR (a Hugging Face folder) or --model script/NAME")?;
    let profile = config
        .worker
        .profile
        .as_deref()
        .map(Profile::load)
        .transpose()?;
    let (card, engines) = match (source, profile) {
        (ModelSource::Directory(dir), None) => load_directory(dir, config, workers)?,
        (ModelSource::Directory(dir), Some(profile)) => {
            load_simulated(dir, &profile, config, workers)?
        }
        (ModelSource::Script(script), profile) => {
            load_script(script, profile.as_ref(), config, workers)?
        }
    };
    let name = config
        .worker
        .model_name
        .clone()
        .unwrap_or_else(|| card.name().to_owned());
    let loaded = |engine: Box<dyn Engine>| {
        let block_bytes = engine.shape().block_bytes;
        let slots = match config.worker.kv_blocks {
            0 => blocks_for(block_bytes as u64, workers as u64),
            blocks => blocks,
        };
        Ok(LoadedModel {
            name: name.clone(),
            card: card.clone(),
            region: Region::new(slots, block_bytes)?,
            engine,
        })
    };
    engines.into_iter().map(loaded).collect()
}

fn load_directory(dir: &Path, config: &Config, workers: usize) -> anyhow::Result<Loaded> {
    let block_tokens = config.worker.block_tokens;
    let mut card = CardFiles::read(dir, block_tokens)?;
    if config.worker.quantize != WeightFormat::default() {
        card = card.quantised(config.worker.quantize.name())?;
    }
    let text = TextModel::from_files(&card)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match config.worker.threads {
        0 => (cores / workers.max(1)).max(1),
        threads => threads as usize,
    };
    let options = ModelOptions {
        block_tokens,
        threads: Some(threads),
        context_tokens: Some(text.context_tokens()),
        backend: config.worker.backend,
        weights: config.worker.quantize,
        ..ModelOptions::default()
    };
    let bar = progress_bar();
    let engine = ModelEngine::load(dir, text.vocabulary(), options, |p| {
        bar.set_length(p.total_bytes);
        bar.set_position(p.done_bytes);
    })?;
    bar.finish_and_clear();
    let facts: Vec<String> = engine
        .spec()
        .describe()
        .into_iter()
        .map(|(what, value)| format!("{what} {value}"))
        .collect();
    let backend = engine.backend().name();
    let quantize = config.worker.quantize.name();
    tracing::info!(model = %dir.display(), backend, quantize, "model loaded: {}", facts.join(", "));
    let twins: Result<Vec<_>, _> = (1..workers).map(|_| engine.twin()).collect();
    let engines = twins?.into_iter().chain([engine]);
    Ok((
        card,
        engines
            .map(|engine| Box::new(engine) as Box<dyn Engine>)
            .collect(),
    ))
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(
        "loading weights [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn load_script(
    script: &str,
    profile: Option<&Profile>,
    config: &Config,
    workers: usize,
) -> anyhow::Result<Loaded> {
    let name = format!("script/{script}");
    let scripted = scripted(name.parse()?, config);
    let card = CardFiles::scripted(
        &name,
        scripted.context_tokens,
        scripted.block_bytes,
        scripted.block_tokens,
    );
    let engine = |_| -> anyhow::Result<Box<dyn Engine>> {
        Ok(match profile {
            None => Box::new(ScriptedEngine::new(scripted.clone())?),
            Some(profile) => Box::new(SimulatedEngine::new(profile.clone(), scripted.clone())?),
        })
    };
    Ok((
        card,
        (0..workers).map(engine).collect::<anyhow::Result<_>>()?,
    ))
}

/// Engines that take the time of the model in `dir`, of which only the tokenizer is read.
fn load_simulated(
    dir: &Path,
    profile: &Profile,
    config: &Config,
    workers: usize,
) -> anyhow::Result<Loaded> {
    let mut scripted = scripted(Script::Hash(None), config);
    let card = CardFiles::read(dir, scripted.block_tokens)?.simulated(scripted.block_bytes)?;
    let text = TextModel::from_files(&card)?;
    scripted.context_tokens = text.context_tokens();
    let engine = |_| -> anyhow::Result<Box<dyn Engine>> {
        let (profile, scripted) = (profile.clone(), scripted.clone());
        Ok(Box::new(SimulatedEngine::speaking(
            profile,
            scripted,
            text.vocabulary(),
        )?))
    };
    Ok((
        card,
        (0..workers).map(engine).collect::<anyhow::Result<_>>()?,
    ))
}

fn scripted(script: Script, config: &Config) -> ScriptedConfig {
    let settings = &config.script;
    ScriptedConfig {
        block_tokens: config.worker.block_tokens,
        block_bytes: settings.block_bytes as usize,
        step_delay: Duration::from_micros(settings.step_delay_us),
        token_delay: Duration::from_micros(settings.token_delay_us),
        ..ScriptedConfig::new(script)
    }
}

/// Blocks that fit this worker's share of what memory is free.
fn blocks_for(block_bytes: u64, workers: u64) -> u32 {
    let share = available_bytes() / MEMORY_SHARE / workers.max(1);
    let blocks = (share / block_bytes.max(1)).clamp(BLOCKS_DEFAULT.0, BLOCKS_DEFAULT.1);
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

/// What the system says is available; 1 GiB where it does not say.
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kb| kb.trim().parse::<u64>().ok())
        .map_or(1 << 30, |kb| kb * 1024)
}
