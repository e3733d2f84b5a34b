//! The same tokens on any path: chunks, batches, reuse, resumption; and how much of it was run.

use std::sync::atomic::Ordering::Relaxed;

use engine::{Engine, scripted::expected};
use proptest::{collection::vec, prelude::*};

use super::rig::{SEED, config, draw, engine, generate, plan, prompt, region, row, step};

const BLOCKS: [u32; 8] = [7, 3, 60, 12, 33, 1, 0, 63];

proptest! {
    #[test]
    fn chunks_do_not_matter(
        script in prop::sample::select(vec!["script/hash", "script/echo", "script/count"]),
        text in "[ -~]{0,60}",
        chunks in vec(1usize..40, 0..8),
    ) {
        let ids = prompt(&text);
        let answer = generate(&mut engine(script), &region(), &BLOCKS, &ids, &chunks, 30);
        prop_assert_eq!(answer, expected(config(script).script, &ids, 0, SEED, 30));
    }

    #[test]
    fn resuming_anywhere_goes_on_in_the_same_sequence(text in "[ -~]{0,40}", cut in 1usize..20) {
        let ids = prompt(&text);
        let whole = expected(config("script/hash").script, &ids, 0, SEED, 20);
        let resumed = [&ids[..], &whole[..cut]].concat();
        let rest = generate(&mut engine("script/hash"), &region(), &BLOCKS, &resumed, &[7], 20 - cut);
        prop_assert_eq!(&rest, &whole[cut..]);
    }
}

#[test]
fn rows_of_a_batch_do_not_touch_each_other() {
    let (mut engine, kv) = (engine("script/hash"), region());
    let prompts: Vec<_> = (0..20)
        .map(|i| prompt(&format!("request number {i}")))
        .collect();
    let rows = prompts.iter().enumerate().map(|(i, ids)| {
        let blocks = [i as u32 * 2, i as u32 * 2 + 1];
        row(ids, 0, ids.len(), &blocks, Some(i as u64))
    });
    let result = engine
        .step(&plan(rows.collect()), &kv)
        .expect("a valid plan");
    for (i, ids) in prompts.iter().enumerate() {
        let right = expected(config("script/hash").script, ids, 0, i as u64, 1);
        assert_eq!(vec![result.rows[i][0].id], right, "row {i}");
    }
}

#[test]
fn choices_of_one_row_each_have_their_own_token() {
    let (mut engine, kv, ids) = (engine("script/hash"), region(), prompt("many"));
    let mut shared = row(&ids, 0, ids.len(), &BLOCKS, None);
    shared.draws = (0..8).map(|choice| draw(ids.len(), choice, SEED)).collect();
    let drawn = step(&mut engine, &kv, shared);
    for (choice, id) in (0..).zip(&drawn) {
        assert_eq!(
            vec![*id],
            expected(config("script/hash").script, &ids, choice, SEED, 1)
        );
    }
    assert!(drawn.iter().any(|id| *id != drawn[0]), "{drawn:?}");
}

#[test]
fn what_is_run_and_what_is_reused_is_counted() {
    let (mut engine, kv) = (engine("script/hash"), region());
    let ids = prompt("thirty-two and three tokens, all told");
    generate(&mut engine, &kv, &BLOCKS, &ids, &[16, 16], 5);
    let counters = engine.counters();
    let read = || {
        [
            &counters.prefilled,
            &counters.reused,
            &counters.decoded,
            &counters.drawn,
            &counters.steps,
        ]
        .map(|counter| counter.load(Relaxed))
    };
    let len = ids.len() as u64;
    assert_eq!(read(), [len, 0, 4, 5, 7]);
    let tail = [BLOCKS[0], BLOCKS[1], 40];
    generate(&mut engine, &kv, &tail[..], &ids, &[], 0);
    step(
        &mut engine,
        &kv,
        row(&ids, 32, ids.len(), &tail, Some(SEED)),
    );
    assert_eq!(
        read(),
        [len + (len - 32), 32, 4, 6, 8],
        "the second time two blocks are found"
    );
}
