//! Plans that make no sense are refused whole, and failures come when they are scripted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{Engine, EngineError, scripted::ScriptedEngine};
use gpu::Region;
use logic::batch::{Row, StepPlan};

use super::rig::{BLOCK_BYTES, SLOTS, config, engine, plan, prompt, region, row};

/// A plan with one change is refused with these words, and nothing is written.
fn check(change: impl FnOnce(&mut StepPlan), words: &str) {
    let (mut engine, kv, ids) = (engine("script/hash"), region(), prompt("hello"));
    let mut plan = plan(vec![row(&ids, 0, ids.len(), &[4], Some(1))]);
    plan.copies = vec![(0, 4)];
    change(&mut plan);
    kv.write(0, 0, &[9; BLOCK_BYTES]);
    match engine.step(&plan, &kv) {
        Err(EngineError::Plan(problem)) => assert!(problem.contains(words), "{problem}"),
        other => panic!("{words}: {other:?}"),
    }
    let mut block = [1; BLOCK_BYTES];
    kv.read(4, 0, &mut block);
    assert_eq!(block, [0; BLOCK_BYTES], "{words}: nothing was written");
}

fn change_row(change: impl FnOnce(&mut Row)) -> impl FnOnce(&mut StepPlan) {
    |plan| change(&mut plan.rows[0])
}

#[test]
fn senseless_plans_are_refused_before_anything_is_written() {
    check(|plan| plan.copies.push((0, SLOTS)), "beyond");
    check(
        |plan| *plan = StepPlan::default(),
        "neither rows nor copies",
    );
    check(change_row(|row| row.tokens.clear()), "no tokens");
    check(change_row(|row| row.tokens[1] = 259), "id 259");
    check(change_row(|row| row.blocks.clear()), "0 blocks and needs 1");
    check(change_row(|row| row.blocks[0] = SLOTS), "slot 64 of 64");
    check(change_row(|row| row.start = 11), "1 blocks and needs 2");
    check(change_row(|row| row.start = u32::MAX), "the context");
    check(
        change_row(|row| row.draws[0].position += 1),
        "draws position",
    );
    check(
        change_row(|row| row.draws[0].banned = (0..259).collect()),
        "bans every id",
    );
}

#[test]
fn a_region_of_other_blocks_is_refused() {
    let other = Region::new(4, BLOCK_BYTES * 2).expect("4 KiB");
    let ids = prompt("hello");
    let plan = plan(vec![row(&ids, 0, ids.len(), &[0], Some(1))]);
    let refused = engine("script/hash").step(&plan, &other);
    assert!(matches!(refused, Err(EngineError::Plan(_))));
}

#[test]
fn copies_alone_are_a_step() {
    let (mut engine, kv) = (engine("script/hash"), region());
    kv.write(1, 0, &[7; BLOCK_BYTES]);
    let copies = StepPlan {
        number: 3,
        copies: vec![(1, 2)],
        rows: Vec::new(),
    };
    assert_eq!(
        engine.step(&copies, &kv).expect("a valid plan").rows.len(),
        0
    );
    let mut block = [0; BLOCK_BYTES];
    kv.read(2, 0, &mut block);
    assert_eq!(block, [7; BLOCK_BYTES]);
}

#[test]
fn it_fails_before_or_after_the_first_token_as_scripted() {
    let (kv, ids) = (region(), prompt("hello"));
    let draws_until_failure = |after| {
        let config = engine::scripted::ScriptedConfig {
            fail_after_draws: Some(after),
            ..config("script/hash")
        };
        let mut engine = ScriptedEngine::new(config).expect("small blocks are possible");
        let plan = plan(vec![row(&ids, 0, ids.len(), &[0], Some(1))]);
        (0..5)
            .take_while(|_| engine.step(&plan, &kv).is_ok())
            .count()
    };
    assert_eq!((draws_until_failure(0), draws_until_failure(1)), (0, 1));
}

#[test]
fn delays_are_kept() {
    let delays = engine::scripted::ScriptedConfig {
        step_delay: Duration::from_millis(5),
        token_delay: Duration::from_millis(1),
        ..config("script/hash")
    };
    let mut engine = ScriptedEngine::new(delays).expect("small blocks are possible");
    let (kv, ids): (Arc<Region>, _) = (region(), prompt("0123456789"));
    let begun = Instant::now();
    let result = engine.step(&plan(vec![row(&ids, 0, ids.len(), &[0], None)]), &kv);
    let least = 5_000 + 1_000 * ids.len() as u64;
    assert!(result.expect("a valid plan").elapsed_us >= least);
    assert!(begun.elapsed() >= Duration::from_micros(least));
}
