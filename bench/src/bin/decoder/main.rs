//! How fast the CPU engine runs a decoder, beside what the machine can do: `decoder [0.5b|1b] [ROUNDS] [BACKEND] [none|int8]`.
//!
//! Weights are random; nothing is downloaded. Every round reads memory, multiplies and adds in registers, prefills and
//! decodes in turn, so that noise falls on all alike; what counts is the ratio to the probes of the same run. It never judges.

mod shapes;

use std::{path::Path, sync::Arc, thread, time::Instant};

use anyhow::{Context, Result};
use bench::spread::Spread;
use bus_schemas::Sampling;
use engine::{
    Engine,
    model::{Backend, ModelEngine, ModelOptions, WeightFormat},
};
use gpu::Region;
use logic::{
    batch::{Draw, Row, StepPlan},
    text::Vocabulary,
};
use shapes::{ModelShape, SHAPES};

const ROUNDS: usize = 5;
/// Memory that the read probe walks: far larger than any cache.
const READ_BYTES: usize = 512 << 20;
const PREFILLS: [u32; 2] = [512, 2048];
const BATCHES: [u32; 2] = [1, 8];
/// Steps of one decode measurement, and the context they start from.
const STEPS: u32 = 8;
const CONTEXT: u32 = 128;
/// Blocks of one sequence.
const BLOCKS: u32 = PREFILLS[1] / 16 + 1;

#[derive(Debug)]
struct Wordless(u32);

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

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let shape = args.next().unwrap_or_else(|| SHAPES[0].name.into());
    let shape = SHAPES
        .into_iter()
        .find(|known| known.name == shape)
        .context("the shapes are 0.5b and 1b")?;
    let rounds = args.next().map_or(Ok(ROUNDS), |text| text.parse())?;
    let backend = args
        .next()
        .map_or(Ok(Backend::fastest()), |name| name.parse())?;
    let weights: WeightFormat = args.next().map_or(Ok(WeightFormat::Kept), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    shape.write(dir.path())?;
    measure(&shape, dir.path(), rounds, backend, weights)
}

fn measure(
    shape: &ModelShape,
    dir: &Path,
    rounds: usize,
    backend: Backend,
    weights: WeightFormat,
) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let options = ModelOptions {
        backend: Some(backend),
        weights,
        ..ModelOptions::default()
    };
    let file = dir.join("model.safetensors");
    let (read_s, _) = timed(|| std::fs::read(&file).map(|bytes| bytes.len()));
    let vocabulary = Arc::new(Wordless(shape.vocab()));
    let (load_s, engine) = timed(|| ModelEngine::load(dir, vocabulary, options, |_| {}));
    let mut engine = engine?;
    let kv = Region::new(BLOCKS * BATCHES[1], engine.shape().block_bytes)?;
    println!(
        "{}, {backend}, weights {}, {threads} threads, medians (quartiles) of {rounds} rounds",
        shape.name,
        weights.name()
    );
    println!(
        "load {load_s:.2} s, {:.2} x reading the file",
        load_s / read_s
    );
    let memory = vec![1u64; READ_BYTES / 8];
    let mut seen: [Vec<f64>; 8] = Default::default();
    let parameter_bytes = match weights {
        WeightFormat::Kept => 2.0,
        WeightFormat::Int8 => 1.0,
    };
    prefill(&mut engine, &kv, BATCHES[1], CONTEXT)?;
    for _ in 0..rounds {
        let (read, peak) = (read_rate(&memory, threads), peak(backend, threads));
        for (i, tokens) in PREFILLS.into_iter().enumerate() {
            let rate = f64::from(tokens) / prefill(&mut engine, &kv, 1, tokens)?;
            let operations = shape.prefill_operations(tokens as usize) / f64::from(tokens);
            seen[2 * i].push(rate);
            seen[2 * i + 1].push(rate * operations / peak);
        }
        for (i, rows) in BATCHES.into_iter().enumerate() {
            let steps = 1.0 / decode(&mut engine, &kv, rows)?;
            let bytes = shape.step_parameters() * parameter_bytes;
            seen[4 + 2 * i].push(steps * f64::from(rows));
            seen[5 + 2 * i].push(steps * bytes / read);
        }
    }
    let names = ["prefill 512", "prefill 2048", "decode b1", "decode b8"];
    let against = ["of the multiply-add peak", "of the read rate"];
    for (i, name) in names.into_iter().enumerate() {
        let spread = |values: &Vec<f64>| Spread::of(values.iter().copied());
        let (rate, share) = (spread(&seen[2 * i]), spread(&seen[2 * i + 1]));
        println!(
            "{name}: {:.1} ({:.1} to {:.1}) tok/s, {:.2} ({:.2} to {:.2}) {}",
            rate.median,
            rate.low,
            rate.high,
            share.median,
            share.low,
            share.high,
            against[i / 2]
        );
    }
    Ok(())
}

fn timed<T>(run: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = run();
    (started.elapsed().as_secs_f64(), result)
}

/// Bytes a second that all threads read together.
fn read_rate(memory: &[u64], threads: usize) -> f64 {
    let (elapsed, ()) = timed(|| {
        thread::scope(|scope| {
            for part in memory.chunks(memory.len().div_ceil(threads)) {
                scope.spawn(move || {
                    let fold = |sums: [u64; 16], words: &[u64; 16]| {
                        std::array::from_fn(|i| sums[i] ^ words[i])
                    };
                    std::hint::black_box(part.as_chunks::<16>().0.iter().fold([0; 16], fold));
                });
            }
        });
    });
    READ_BYTES as f64 / elapsed
}

/// Floating-point operations a second of all threads together.
fn peak(backend: Backend, threads: usize) -> f64 {
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| scope.spawn(move || backend.peak()))
            .collect();
        all.into_iter().filter_map(|one| one.join().ok()).sum()
    })
}

/// Seconds to prefill `rows` sequences of `tokens` from the start.
fn prefill(engine: &mut ModelEngine, kv: &Region, rows: u32, tokens: u32) -> Result<f64> {
    let plan = plan(rows, 0, tokens);
    let (elapsed, result) = timed(|| engine.step(&plan, kv));
    result?;
    Ok(elapsed)
}

/// Seconds of one step of `rows` sequences.
fn decode(engine: &mut ModelEngine, kv: &Region, rows: u32) -> Result<f64> {
    let (elapsed, result) = timed(|| {
        (0..STEPS).try_for_each(|step| engine.step(&plan(rows, CONTEXT + step, 1), kv).map(drop))
    });
    result?;
    Ok(elapsed / f64::from(STEPS))
}

fn plan(rows: u32, start: u32, count: u32) -> StepPlan {
    let draw = Draw {
        choice: 0,
        position: start + count,
        sampling: Arc::new(Sampling::greedy()),
        history: None,
        banned: Arc::new([]),
    };
    let row = |row: u32| Row {
        start,
        tokens: (start..start + count)
            .map(|t| (row + 7 * t) % 1000)
            .collect(),
        blocks: (row * BLOCKS..(row + 1) * BLOCKS).collect(),
        draws: vec![draw.clone()],
    };
    StepPlan {
        rows: (0..rows).map(row).collect(),
        ..StepPlan::default()
    }
}
