//! Law 8: a row's bits depend on its tokens and positions alone.

use std::sync::Arc;

use bus_schemas::Sampling;
use engine::{
    Engine,
    model::{Backend, KvDtype, ModelOptions, WeightFormat},
};
use gpu::Region;
use logic::batch::{Row, StepPlan};

use crate::rig::{CHECKPOINTS, Rig, Sequence, dir, draw, expected};

const COUNT: usize = 12;

fn options(threads: usize, kv_dtype: KvDtype) -> ModelOptions {
    ModelOptions {
        threads: Some(threads),
        kv_dtype,
        ..ModelOptions::default()
    }
}

/// Every backend and number format of weights, on some threads.
fn kernels(threads: usize) -> impl Iterator<Item = ModelOptions> {
    Backend::available().into_iter().flat_map(move |backend| {
        [WeightFormat::Kept, WeightFormat::Int8].map(|weights| ModelOptions {
            backend: Some(backend),
            weights,
            ..options(threads, KvDtype::F32)
        })
    })
}

/// Every checkpoint, a prompt of whole blocks and a long one, run whole and alone on one thread, and the same as `other` runs it on `threads`.
fn check(what: &str, threads: usize, other: impl Fn(&mut Rig, &[u32]) -> Sequence) {
    for (alone, options) in kernels(1).zip(kernels(threads)) {
        for name in CHECKPOINTS {
            for case in expected(name).cases.iter().skip(1).step_by(2) {
                let plain =
                    Rig::with(&dir(name), alone).complete(&case.prompt_ids, usize::MAX, COUNT);
                let found = other(&mut Rig::with(&dir(name), options), &case.prompt_ids);
                let what = format!("{options:?} {name} {} {what}", case.name);
                assert_eq!(found.ids, plain.ids, "{what}");
                assert!(found.logits == plain.logits, "{what}: bits differ");
            }
        }
    }
}

#[test]
fn chunks_change_no_bit() {
    for chunk in [1, 7] {
        check(&format!("in chunks of {chunk}"), 1, |rig, prompt| {
            rig.complete(prompt, chunk, COUNT)
        });
    }
}

#[test]
fn threads_change_no_bit() {
    check("on 3 threads", 3, |rig, prompt| {
        rig.complete(prompt, usize::MAX, COUNT)
    });
}

#[test]
fn company_changes_no_bit() {
    for others in [3, 15] {
        check(&format!("among {others} others"), 2, |rig, prompt| {
            let other = |i: usize| {
                (0..150 - 9 * i as u32)
                    .map(|t| (t * 7 + i as u32) % 384)
                    .collect()
            };
            let prompts: Vec<Vec<u32>> = (0..others).map(other).collect();
            let mut company: Vec<_> = prompts.iter().map(|p| rig.sequence(p, 30)).collect();
            let mut sequence = rig.sequence(prompt, COUNT);
            let end = prompt.len() + COUNT;
            while sequence.ids.len() < end {
                let (before, after) = company.split_at_mut(others / 2);
                let mut all: Vec<_> = before.iter_mut().collect();
                all.push(&mut sequence);
                all.extend(after);
                rig.step(&mut all, 40);
            }
            sequence
        });
    }
}

#[test]
fn rounded_keys_and_values_obey_the_same_law() {
    for name in CHECKPOINTS {
        let prompt = &expected(name).cases[3].prompt_ids;
        let whole =
            Rig::with(&dir(name), options(1, KvDtype::Bf16)).complete(prompt, usize::MAX, COUNT);
        let parts = Rig::with(&dir(name), options(2, KvDtype::Bf16)).complete(prompt, 7, COUNT);
        assert!(
            whole.ids == parts.ids && whole.logits == parts.logits,
            "{name}"
        );
    }
}

#[test]
fn blocks_moved_to_other_slots_of_another_region_go_on_identically() {
    for options in kernels(2) {
        for name in CHECKPOINTS {
            let prompt = &expected(name).cases[2].prompt_ids;
            let plain = Rig::with(&dir(name), options).complete(prompt, usize::MAX, COUNT);
            let moved = moved(name, options, prompt);
            assert!(
                plain.ids == moved.ids && plain.logits == moved.logits,
                "{options:?} {name}"
            );
        }
    }
}

/// Half of a sequence in one engine, the other half in another.
fn moved(name: &str, options: ModelOptions, prompt: &[u32]) -> Sequence {
    let mut first = Rig::with(&dir(name), options);
    let mut sequence = first.sequence(prompt, COUNT);
    first.run(&mut sequence, 16, COUNT / 2);
    let mut second = Rig::with(&dir(name), options);
    let _elsewhere = second.sequence(&[0; 100], 0);
    let blocks = second.sequence(prompt, COUNT).blocks;
    let mut bytes = vec![0; first.kv.slot_bytes()];
    for (from, to) in sequence.blocks.iter().zip(&blocks) {
        first.kv.read(*from, 0, &mut bytes);
        second.kv.write(*to, 0, &bytes);
    }
    sequence.blocks = blocks;
    second.run(&mut sequence, usize::MAX, COUNT - COUNT / 2);
    sequence
}

#[test]
fn a_copied_tail_block_forks_a_sequence() {
    let mut rig = Rig::new("qwen3");
    let prompt = &expected("qwen3").cases[2].prompt_ids;
    let mut trunk = rig.sequence(prompt, COUNT);
    rig.run(&mut trunk, usize::MAX, 1);
    let tail = prompt.len() / 16;
    let spare = rig.sequence(&[0; 48], 0).blocks;
    let mut fork = trunk.clone();
    fork.blocks.truncate(tail);
    fork.blocks.extend(&spare);
    let plan = StepPlan {
        copies: vec![(trunk.blocks[tail], spare[0])],
        ..StepPlan::default()
    };
    rig.engine
        .step(&plan, &rig.kv.clone())
        .expect("copies alone are a plan");
    rig.run(&mut trunk, 1, COUNT - 1);
    rig.run(&mut fork, 1, COUNT - 1);
    assert!(trunk.ids == fork.ids && trunk.logits == fork.logits);
}

#[test]
fn many_draws_from_one_row_follow_their_own_counters() {
    let sampling = Sampling {
        seed: 9,
        logprobs: Some(3),
        ..Sampling::default()
    };
    let prompt = expected("llama3").cases[0].prompt_ids.clone();
    let end = prompt.len() as u32;
    let run = |choices: &[u16]| {
        let mut rig = Rig::new("llama3");
        let blocks = rig.sequence(&prompt, 1).blocks;
        let draws = choices
            .iter()
            .map(|c| draw(*c, end, sampling.clone()))
            .collect();
        let rows = vec![Row {
            start: 0,
            tokens: prompt.clone(),
            blocks,
            draws,
        }];
        let plan = StepPlan {
            rows,
            ..StepPlan::default()
        };
        rig.engine
            .step(&plan, &rig.kv)
            .expect("a good plan")
            .rows
            .remove(0)
    };
    let choices: Vec<u16> = (0..16).collect();
    let all = run(&choices);
    for (choice, drawn) in choices.iter().zip(&all) {
        assert_eq!(run(&[*choice])[0], *drawn);
        assert!(drawn.logprob < 0.0 && drawn.top.len() == 3);
        assert!(drawn.top[0].1 >= drawn.top[1].1 && drawn.top[1].1 >= drawn.top[2].1);
    }
    assert!(
        all.iter().any(|drawn| drawn.id != all[0].id),
        "sixteen choices, one token"
    );
}

#[test]
fn blocks_of_other_sizes_give_the_same_ids() {
    for block_tokens in [1, 5, 64] {
        for name in CHECKPOINTS {
            let options = ModelOptions {
                block_tokens,
                ..options(2, KvDtype::F32)
            };
            let case = &expected(name).cases[0];
            let mut rig = Rig::with(&dir(name), options);
            let sequence = rig.complete(&case.prompt_ids, 3, COUNT);
            assert_eq!(sequence.ids[case.prompt_ids.len()..], case.greedy_ids);
        }
    }
}

#[test]
fn a_region_of_another_engine_is_refused() {
    let mut rig = Rig::new("qwen3");
    let mut sequence = rig.sequence(&[1, 2, 3], 1);
    let other = Region::new(4, rig.kv.slot_bytes() / 2).expect("memory");
    let kv = std::mem::replace(&mut rig.kv, Arc::clone(&other));
    let plan = StepPlan {
        copies: vec![(0, 1)],
        ..StepPlan::default()
    };
    let refused = rig.engine.step(&plan, &other).expect_err("half a block");
    assert!(
        refused.to_string().contains("a block of this model has"),
        "{refused}"
    );
    rig.kv = kv;
    rig.run(&mut sequence, 1, 1);
}
