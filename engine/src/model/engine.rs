//! [`crate::Engine`] over a checkpoint: checks a plan, runs its batches, draws its tokens.
//!
//! It keeps no sequence and no block: all that lasts between steps is in the region and with the worker's core.

use std::{io, num::NonZeroUsize, path::Path, sync::Arc, thread, time::Instant};

use gpu::Region;
use logic::{
    batch::{StepPlan, StepResult},
    text::Vocabulary,
};

use crate::{
    Engine, EngineError, Shape,
    checkpoint::{Checkpoint, CheckpointError},
    sample::Sampler,
};

use super::{
    Backend, KvDtype, KvLayout, Observer, Spec, WeightFormat,
    batch::Batch,
    check::Bounds,
    cpu::{Pool, QUADS_INPUTS_MAX},
    forward::Forward,
    linear::PackError,
    weights::Weights,
};

/// Most threads that may be asked for: far above any machine, far below what would exhaust one.
const THREADS_MAX: usize = 1024;
/// Largest block: a tile's scratch is as long, and hashing wants small ones.
const BLOCK_TOKENS_MAX: u32 = 1024;

/// How to run a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Threads that compute; none is one per available core. No result depends on it.
    pub threads: Option<usize>,
    /// Longest sequence, if shorter than the model's own.
    pub context_tokens: Option<u32>,
    /// Number format of stored keys and values.
    pub kv_dtype: KvDtype,
    /// Kernels; none is the fastest.
    pub backend: Option<Backend>,
    /// Number format that weights are brought into when they are loaded.
    pub weights: WeightFormat,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            block_tokens: bus_schemas::limits::BLOCK_TOKENS,
            threads: None,
            context_tokens: None,
            kv_dtype: KvDtype::default(),
            backend: None,
            weights: WeightFormat::default(),
        }
    }
}

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights read and checked.
    pub done_bytes: u64,
    /// Bytes of all weights.
    pub total_bytes: u64,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The checkpoint is not fit.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Tokenizer and model are not of one kind.
    #[error(
        "the tokenizer has {tokenizer} ids, the model only {model}; they belong to different models"
    )]
    Vocabulary {
        /// Ids of the tokenizer.
        tokenizer: u32,
        /// Ids of the model.
        model: usize,
    },
    /// An option out of range.
    #[error("{option} is {found}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        found: usize,
        /// What it may be.
        expected: String,
    },
    /// The system gives no memory.
    #[error("no memory for the weights: {0}; choose a smaller model, or quantise it")]
    Memory(io::Error),
    /// The system gives no threads.
    #[error("cannot start {threads} compute threads: {source}; ask for fewer")]
    Threads {
        /// How many.
        threads: usize,
        /// The system's answer.
        source: io::Error,
    },
}

/// A decoder on the CPU.
pub struct ModelEngine {
    shape: Shape,
    bounds: Bounds,
    threads: usize,
    kernels: (Backend, WeightFormat),
    forward: Forward,
    sampler: Sampler,
    batch: Batch,
    /// Tokens of the batch whose logits are wanted.
    drawn: Vec<usize>,
}

impl ModelEngine {
    /// Opens the checkpoint in `dir`, binds and checks every weight, and tells `progress` after each piece.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays behind.
    pub fn load(
        dir: &Path,
        vocabulary: Arc<dyn Vocabulary>,
        options: ModelOptions,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self, LoadError> {
        let checkpoint = Checkpoint::open(dir)?;
        let spec = Spec::from_config(checkpoint.config())?;
        if vocabulary.len() as usize > spec.vocab {
            return Err(LoadError::Vocabulary {
                tokenizer: vocabulary.len(),
                model: spec.vocab,
            });
        }
        let pool = start_pool(options.threads)?;
        let bounds = bounds(&spec, options)?;
        let backend = options.backend.unwrap_or_else(Backend::fastest);
        let mut weights = Weights::bind(&checkpoint, &spec)?;
        let (mut done_bytes, total_bytes) = (0, weights.bytes());
        let mut report = |bytes| {
            done_bytes += bytes;
            progress(Progress {
                done_bytes,
                total_bytes,
            });
        };
        if backend == Backend::REFERENCE {
            weights.check_finite(&mut report)?;
        } else {
            let quantised = options.weights == WeightFormat::Int8;
            weights.pack(quantised, &pool, &mut report)?;
        }
        let shape = Shape {
            block_bytes: bounds.layout.block_bytes(),
            block_tokens: options.block_tokens,
            context_tokens: bounds.context as u32,
            vocabulary,
        };
        let (threads, kernels) = (pool.threads(), (backend, options.weights));
        let forward = Forward::new(spec, Arc::new(weights), bounds.layout, pool, kernels);
        Ok(Self {
            shape,
            bounds,
            threads,
            kernels,
            sampler: Sampler::new(forward.spec().vocab),
            forward,
            batch: Batch::default(),
            drawn: Vec::new(),
        })
    }

    /// Another engine over the same weights, with threads and room of its own.
    ///
    /// # Errors
    /// [`LoadError::Threads`].
    pub fn twin(&self) -> Result<Self, LoadError> {
        let pool = start_pool(Some(self.threads))?;
        Ok(Self {
            shape: self.shape.clone(),
            bounds: self.bounds,
            threads: self.threads,
            kernels: self.kernels,
            sampler: Sampler::new(self.spec().vocab),
            forward: self.forward.twin(pool, self.kernels),
            batch: Batch::default(),
            drawn: Vec::new(),
        })
    }

    /// The model's description.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        self.forward.spec()
    }

    /// The kernels that run it.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.kernels.0
    }

    /// Runs a step and shows `observer` what happens inside.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn observe(
        &mut self,
        plan: &StepPlan,
        kv: &Region,
        observer: &mut dyn Observer,
    ) -> Result<StepResult, EngineError> {
        let started = Instant::now();
        self.bounds.check(plan, kv).map_err(EngineError::Plan)?;
        for (from, to) in &plan.copies {
            kv.copy_slot(*from, *to);
        }
        let mut result = StepResult {
            number: plan.number,
            rows: vec![Vec::new(); plan.rows.len()],
            elapsed_us: 0,
        };
        let mut cursor = (0, 0);
        while self.batch.refill(plan, &mut cursor) {
            self.forward.run(plan, &self.batch, kv, observer);
            self.draw(plan, observer, &mut result)?;
        }
        result.elapsed_us = started.elapsed().as_micros() as u64;
        Ok(result)
    }

    /// Draws what is due at the rows' ends within the batch that just ran.
    fn draw(
        &mut self,
        plan: &StepPlan,
        observer: &mut dyn Observer,
        result: &mut StepResult,
    ) -> Result<(), EngineError> {
        let due = |s: &&super::batch::Segment| s.last && !plan.rows[s.row].draws.is_empty();
        self.drawn.clear();
        self.drawn.extend(
            self.batch
                .segments
                .iter()
                .filter(due)
                .map(|s| s.at + s.count - 1),
        );
        if self.drawn.is_empty() {
            return Ok(());
        }
        self.forward.project(&self.batch, &self.drawn, observer);
        for (index, token) in self.drawn.iter().enumerate() {
            let row = self.batch.segments[self.batch.segment_of[*token]].row;
            let logits = self.forward.logits(index);
            observer.logits(row, logits);
            for draw in &plan.rows[row].draws {
                let drawn = self
                    .sampler
                    .draw(logits, draw)
                    .map_err(|e| EngineError::Fatal(e.to_string()))?;
                result.rows[row].push(drawn);
            }
        }
        Ok(())
    }
}

impl Engine for ModelEngine {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn step(&mut self, plan: &StepPlan, kv: &Region) -> Result<StepResult, EngineError> {
        self.observe(plan, kv, &mut ())
    }
}

impl From<PackError> for LoadError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Checkpoint(error) => Self::Checkpoint(error),
            PackError::Memory(error) => Self::Memory(error),
            PackError::Inputs(found) => Self::Option {
                option: "inputs of a quantised layer",
                found,
                expected: format!("1 to {QUADS_INPUTS_MAX}"),
            },
        }
    }
}

fn start_pool(threads: Option<usize>) -> Result<Pool, LoadError> {
    let threads = match threads {
        Some(threads) => threads,
        None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    check_range("threads", threads, THREADS_MAX)?;
    Pool::new(threads).map_err(|source| LoadError::Threads { threads, source })
}

fn bounds(spec: &Spec, options: ModelOptions) -> Result<Bounds, LoadError> {
    check_range(
        "block_tokens",
        options.block_tokens as usize,
        BLOCK_TOKENS_MAX as usize,
    )?;
    let cap = options
        .context_tokens
        .map_or(spec.context, |cap| cap as usize);
    check_range("context_tokens", cap, spec.context)?;
    Ok(Bounds {
        layout: KvLayout::new(spec, options.block_tokens as usize, options.kv_dtype),
        vocab: spec.vocab,
        context: cap,
    })
}

fn check_range(option: &'static str, found: usize, most: usize) -> Result<(), LoadError> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    Err(LoadError::Option {
        option,
        found,
        expected: format!("1 to {most}"),
    })
}
