//! A model, a region and a stupid allocator: runs prompts through step plans as a worker's core would.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bus_schemas::Sampling;
use engine::{
    Engine,
    model::{Backend, ModelEngine, ModelOptions, Observer},
};
use gpu::Region;
use logic::{
    batch::{Draw, Row, StepPlan},
    text::Vocabulary,
};
use serde::Deserialize;

pub(crate) const CHECKPOINTS: [&str; 3] = ["llama3", "qwen2", "qwen3"];
/// Slots of a test's region.
const SLOTS: u32 = 256;

/// Ids without text.
#[derive(Debug)]
pub(crate) struct Wordless(pub(crate) u32);

impl Vocabulary for Wordless {
    fn len(&self) -> u32 {
        self.0
    }
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.to_le_bytes());
    }
    fn end_ids(&self) -> &[u32] {
        &[]
    }
}

/// `expected.json`.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) bf16_max_abs_logit_diff: f32,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) prompt_ids: Vec<u32>,
    pub(crate) greedy_ids: Vec<u32>,
    pub(crate) steps: Vec<Step>,
    pub(crate) prompt_last_logits: Vec<f32>,
    pub(crate) hidden_l2: Vec<f32>,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) top: Vec<(u32, f32)>,
}

pub(crate) fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/checkpoints")
        .join(name)
}

pub(crate) fn expected(name: &str) -> Expected {
    let text =
        std::fs::read_to_string(dir(name).join("expected.json")).expect("a file in the tree");
    serde_json::from_str(&text).expect("a file of the known form")
}

/// What happened inside a step.
#[derive(Default)]
pub(crate) struct Seen {
    /// Per drawn row.
    pub(crate) logits: Vec<(usize, Vec<f32>)>,
    /// Row, position, depth, L2 norm.
    pub(crate) norms: Vec<(usize, usize, usize, f32)>,
}

impl Observer for Seen {
    fn hidden(&mut self, row: usize, position: usize, depth: usize, values: &[f32]) {
        let squares: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        self.norms
            .push((row, position, depth, squares.sqrt() as f32));
    }
    fn logits(&mut self, row: usize, logits: &[f32]) {
        self.logits.push((row, logits.to_vec()));
    }
}

/// A sequence that runs greedily.
#[derive(Clone)]
pub(crate) struct Sequence {
    /// Prompt and output.
    pub(crate) ids: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    /// Tokens whose keys and values are stored.
    pub(crate) done: usize,
    /// Logits of every draw, as bits.
    pub(crate) logits: Vec<Vec<u32>>,
}

pub(crate) struct Rig {
    pub(crate) engine: ModelEngine,
    pub(crate) kv: Arc<Region>,
    taken: u32,
    steps: u64,
}

impl Rig {
    pub(crate) fn new(name: &str) -> Self {
        Self::on(Backend::fastest(), name)
    }

    /// On one thread of a backend.
    pub(crate) fn on(backend: Backend, name: &str) -> Self {
        let options = ModelOptions {
            threads: Some(1),
            backend: Some(backend),
            ..ModelOptions::default()
        };
        Self::with(&dir(name), options)
    }

    pub(crate) fn with(dir: &Path, options: ModelOptions) -> Self {
        let vocabulary = Arc::new(Wordless(384));
        let engine =
            ModelEngine::load(dir, vocabulary, options, |_| {}).expect("a good checkpoint");
        let kv = Region::new(SLOTS, engine.shape().block_bytes).expect("memory");
        // Whatever lies in unwritten slots must not matter.
        for slot in 0..SLOTS {
            kv.write(slot, 0, &vec![0x7f; kv.slot_bytes()]);
        }
        Self {
            engine,
            kv,
            taken: 0,
            steps: 0,
        }
    }

    /// Takes slots for a prompt and `more` tokens; neighbours are never in order.
    pub(crate) fn sequence(&mut self, prompt: &[u32], more: usize) -> Sequence {
        let block_tokens = self.engine.shape().block_tokens as usize;
        let count = (prompt.len() + more).div_ceil(block_tokens) as u32;
        assert!(self.taken + count <= SLOTS, "a test takes too many slots");
        let slot = |i| (i * 37 + 11) % SLOTS;
        let blocks = (self.taken..self.taken + count).map(slot).collect();
        self.taken += count;
        Sequence {
            ids: prompt.to_vec(),
            blocks,
            done: 0,
            logits: Vec::new(),
        }
    }

    /// One step: each sequence runs at most `chunk` tokens, and draws if that reaches its end.
    pub(crate) fn step(&mut self, sequences: &mut [&mut Sequence], chunk: usize) -> Seen {
        self.steps += 1;
        let plan = StepPlan {
            number: self.steps,
            copies: Vec::new(),
            rows: sequences.iter().map(|s| row(s, chunk)).collect(),
        };
        let mut seen = Seen::default();
        let result = self
            .engine
            .observe(&plan, &self.kv, &mut seen)
            .expect("a good plan");
        assert_eq!(result.number, self.steps);
        for (index, sequence) in sequences.iter_mut().enumerate() {
            sequence.done += plan.rows[index].tokens.len();
            sequence
                .ids
                .extend(result.rows[index].iter().map(|drawn| drawn.id));
        }
        for (row, logits) in &seen.logits {
            let bits = logits.iter().map(|l| l.to_bits()).collect();
            sequences[*row].logits.push(bits);
        }
        seen
    }

    /// Runs until `count` tokens were drawn.
    pub(crate) fn run(&mut self, sequence: &mut Sequence, chunk: usize, count: usize) {
        let end = sequence.ids.len() + count;
        while sequence.ids.len() < end {
            self.step(&mut [sequence], chunk);
        }
    }

    /// A fresh sequence, run to its end.
    pub(crate) fn complete(&mut self, prompt: &[u32], chunk: usize, count: usize) -> Sequence {
        let mut sequence = self.sequence(prompt, count);
        self.run(&mut sequence, chunk, count);
        sequence
    }
}

fn row(sequence: &Sequence, chunk: usize) -> Row {
    let end = sequence.ids.len().min(sequence.done.saturating_add(chunk));
    let draws = if end == sequence.ids.len() {
        vec![draw(0, end as u32, Sampling::greedy())]
    } else {
        Vec::new()
    };
    Row {
        start: sequence.done as u32,
        tokens: sequence.ids[sequence.done..end].to_vec(),
        blocks: sequence.blocks.clone(),
        draws,
    }
}

pub(crate) fn draw(choice: u16, position: u32, sampling: Sampling) -> Draw {
    Draw {
        choice,
        position,
        sampling: Arc::new(sampling),
        history: None,
        banned: Arc::new([]),
    }
}
