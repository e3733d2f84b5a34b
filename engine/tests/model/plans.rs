//! Plans that make no sense are refused before anything is written, and the engine goes on.

use std::sync::Arc;

use bus_schemas::Sampling;
use engine::{Engine, EngineError};
use logic::batch::{History, Row, StepPlan};

use crate::rig::{Rig, draw};

/// Breaks a good plan with `spoil`, and expects a refusal that `says` what is wrong and leaves the region as it was.
fn refused(says: &str, spoil: impl Fn(&mut StepPlan)) {
    let mut rig = Rig::new("llama3");
    let row = Row {
        start: 0,
        tokens: vec![1, 2, 3],
        blocks: vec![0],
        draws: Vec::new(),
    };
    let mut plan = StepPlan {
        number: 1,
        copies: vec![(2, 3)],
        rows: vec![row.clone(), row],
    };
    plan.rows[1].blocks = vec![1];
    plan.rows[1].draws = vec![draw(0, 3, Sampling::greedy())];
    let good = plan.clone();
    spoil(&mut plan);
    rig.kv.write(2, 0, b"not to be copied");
    let before = content(&rig);
    let error = rig.engine.step(&plan, &rig.kv).expect_err(says);
    assert!(matches!(error, EngineError::Plan(_)), "{error}");
    assert!(
        error.to_string().contains(says),
        "{error:?} does not say {says:?}"
    );
    assert!(content(&rig) == before, "a refused plan wrote: {says}");
    rig.engine
        .step(&good, &rig.kv)
        .expect("the engine is usable afterwards");
}

fn content(rig: &Rig) -> Vec<u8> {
    let mut bytes = vec![0; rig.kv.bytes()];
    for (slot, bytes) in (0..).zip(bytes.chunks_exact_mut(rig.kv.slot_bytes())) {
        rig.kv.read(slot, 0, bytes);
    }
    bytes
}

fn spoil_sampling(plan: &mut StepPlan, change: impl Fn(&mut Sampling)) {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    plan.rows[1].draws[0].sampling = Arc::new(sampling);
}

#[test]
fn ids_slots_and_positions_must_exist() {
    refused("row 1 runs id 384, the vocabulary has 384", |p| {
        p.rows[1].tokens[2] = 384
    });
    refused("row 0 has no tokens", |p| p.rows[0].tokens.clear());
    refused("row 1 names slot 256 of 256", |p| p.rows[1].blocks[0] = 256);
    refused("row 1 has 0 blocks and needs 1", |p| {
        p.rows[1].blocks.clear()
    });
    refused("row 1 has 1 blocks and needs 2", |p| p.rows[1].start = 14);
    refused("row 0 ends at position 1026, the context at 1024", |p| {
        p.rows[0].start = 1023
    });
    refused("row 0 ends at position", |p| p.rows[0].start = u32::MAX);
    refused("copy 2 -> 256", |p| p.copies[0].1 = 256);
    refused("neither rows nor copies", |p| *p = StepPlan::default());
}

#[test]
fn draws_must_make_sense() {
    refused("out of range", |p| {
        spoil_sampling(p, |s| s.temperature = f32::NAN)
    });
    refused("out of range", |p| {
        spoil_sampling(p, |s| s.temperature = -1.0)
    });
    refused("out of range", |p| spoil_sampling(p, |s| s.top_p = 0.0));
    refused("out of range", |p| {
        spoil_sampling(p, |s| s.repetition_penalty = 0.0)
    });
    refused("out of range", |p| {
        spoil_sampling(p, |s| s.logit_bias = vec![(1, f32::INFINITY)])
    });
    refused("biases id 999", |p| {
        spoil_sampling(p, |s| s.logit_bias = vec![(999, 1.0)])
    });
    refused("no history", |p| {
        spoil_sampling(p, |s| s.presence_penalty = 1.0)
    });
    refused("remembers id 1000", |p| {
        let history = History {
            prompt: Arc::new([1]),
            output: vec![1000],
        };
        p.rows[1].draws[0].history = Some(history);
    });
    refused("bans every id", |p| {
        p.rows[1].draws[0].banned = (0..384).collect()
    });
}
