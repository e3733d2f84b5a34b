//! A test that steps allocate nothing but their answer: every allocation of a thread is counted.
//!
//! It is here, and not among the integration tests, because an allocator cannot be written without unsafe code.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    path::Path,
    sync::Arc,
};

use bus_schemas::Sampling;
use gpu::Region;
use logic::{
    batch::{Draw, Row, StepPlan},
    text::Vocabulary,
};

use crate::{
    Engine,
    model::{Backend, ModelEngine, ModelOptions, WeightFormat},
};

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; the counter neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; `at` came from the system.
        unsafe { System.dealloc(at, layout) };
    }
}

#[derive(Debug)]
struct Wordless;

impl Vocabulary for Wordless {
    fn len(&self) -> u32 {
        384
    }
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.to_le_bytes());
    }
    fn end_ids(&self) -> &[u32] {
        &[]
    }
}

/// Rows of `count` tokens each from `start` on, which draw.
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
        tokens: (0..count).map(|t| (7 * row + t) % 384).collect(),
        blocks: (row * 4..row * 4 + 4).collect(),
        draws: vec![draw.clone()],
    };
    StepPlan {
        rows: (0..rows).map(row).collect(),
        ..StepPlan::default()
    }
}

#[test]
fn steps_allocate_nothing_but_their_answer() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/checkpoints/qwen3");
    for backend in Backend::available() {
        for weights in [WeightFormat::Kept, WeightFormat::Int8] {
            let options = ModelOptions {
                backend: Some(backend),
                weights,
                threads: Some(2),
                ..ModelOptions::default()
            };
            let mut engine =
                ModelEngine::load(&dir, Arc::new(Wordless), options, |_| {}).expect("a good model");
            let kv = Region::new(20, engine.shape().block_bytes).expect("memory");
            engine.step(&plan(5, 0, 40), &kv).expect("the largest step");
            for (rows, count) in [(1, 1), (2, 1), (5, 1), (3, 8)] {
                let plan = plan(rows, 40, count);
                let before = COUNT.get();
                let result = engine.step(&plan, &kv).expect("a good plan");
                let found = COUNT.get() - before;
                // One list of rows, and one of a row's draws for each.
                assert_eq!(
                    found,
                    1 + rows as usize,
                    "{backend:?} {weights:?} {rows} rows"
                );
                assert_eq!(result.rows.len(), rows as usize);
            }
        }
    }
}
