//! The sampler against a slow, obvious model, and its promises one by one.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;

/// Sorts everything, filters step by step, and walks the rest in the order of ids.
fn obvious(logits: &[f32], draw: &Draw) -> u32 {
    let s = &*draw.sampling;
    let mut left: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    if let Some(history) = &draw.history {
        let mut counts = BTreeMap::new();
        history
            .output
            .iter()
            .for_each(|id| *counts.entry(*id).or_insert(0) += 1);
        for (id, logit) in &mut left {
            let count = counts.get(id).copied().unwrap_or(0);
            if count > 0 || history.prompt.contains(id) {
                *logit *= if *logit > 0.0 {
                    1.0 / s.repetition_penalty
                } else {
                    s.repetition_penalty
                };
            }
            if count > 0 {
                *logit -= s.frequency_penalty * count as f32 + s.presence_penalty;
            }
        }
    }
    for (id, bias) in &s.logit_bias {
        left[*id as usize].1 += bias;
    }
    left.retain(|(id, _)| !draw.banned.contains(id));
    left.sort_by(|a, b| rank((a.1, a.0), (b.1, b.0)));
    if s.temperature == 0.0 {
        return left[0].0;
    }
    let top = left[0].1;
    let mut left: Vec<(u32, f64)> = left
        .into_iter()
        .map(|(id, logit)| (id, f64::from(exp((logit - top) / s.temperature))))
        .filter(|(_, weight)| *weight >= f64::from(s.min_p))
        .collect();
    if s.top_k > 0 {
        left.truncate(s.top_k as usize);
    }
    let wanted = left.iter().map(|c| c.1).sum::<f64>() * f64::from(s.top_p);
    let mut held = 0.0;
    let enough = left.iter().position(|c| {
        held += c.1;
        held >= wanted
    });
    left.truncate(enough.map_or(left.len(), |last| last + 1));
    left.sort_by_key(|c| c.0);
    let mut at =
        philox::uniform(s.seed, draw.choice, draw.position) * left.iter().map(|c| c.1).sum::<f64>();
    for (id, weight) in &left {
        at -= weight;
        if at < 0.0 {
            return *id;
        }
    }
    left[left.len() - 1].0
}

fn draw(sampling: Sampling) -> Draw {
    Draw {
        choice: 0,
        position: 5,
        sampling: Arc::new(sampling),
        history: None,
        banned: Arc::new([]),
    }
}

fn drawn(logits: &[f32], draw: &Draw) -> u32 {
    Sampler::new(logits.len())
        .draw(logits, draw)
        .expect("finite logits")
        .id
}

const VOCAB: usize = 600;

prop_compose! {
    fn samplings()(
        temperature in prop_oneof![Just(0.0f32), Just(1.0), 0.05f32..3.0],
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
        top_k in prop_oneof![Just(0u32), 1u32..20, 1u32..700],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..0.5],
        frequency_penalty in prop_oneof![Just(0.0f32), -1.0f32..1.0],
        presence_penalty in prop_oneof![Just(0.0f32), -1.0f32..1.0],
        // Powers of two, so that dividing and multiplying by the inverse round alike.
        repetition_penalty in prop_oneof![Just(1.0f32), Just(2.0), Just(0.5)],
        logit_bias in proptest::collection::vec((0..VOCAB as u32, -9.0f32..9.0), 0..4),
        seed in any::<u64>(),
    ) -> Sampling {
        Sampling {
            temperature, top_p, top_k, min_p, frequency_penalty, presence_penalty,
            repetition_penalty, logit_bias, seed, logprobs: None,
        }
    }
}

proptest! {
    #[test]
    fn equals_the_obvious_model(
        sampling in samplings(),
        // Some logits on a coarse grid, so that ties are common.
        logits in proptest::collection::vec(prop_oneof![-8.0f32..8.0, (-4i8..4).prop_map(f32::from)], VOCAB),
        prompt in proptest::collection::vec(0..VOCAB as u32, 0..30),
        output in proptest::collection::vec(0..50u32, 0..30),
        banned in proptest::collection::vec(0..2 * VOCAB as u32, 0..5),
        choice in any::<u16>(),
        position in any::<u32>(),
    ) {
        let draw = Draw {
            choice,
            position,
            sampling: Arc::new(sampling),
            history: Some(History { prompt: prompt.into(), output }),
            banned: banned.into(),
        };
        let mut sampler = Sampler::new(VOCAB);
        let first = sampler.draw(&logits, &draw).expect("finite").id;
        prop_assert_eq!(first, obvious(&logits, &draw));
        prop_assert_eq!(sampler.draw(&logits, &draw).expect("finite").id, first, "scratch leaks");
    }
}

#[test]
fn ties_go_to_the_lowest_id() {
    let logits = [1.0, 3.0, 3.0, 3.0];
    assert_eq!(drawn(&logits, &draw(Sampling::greedy())), 1);
    for seed in 0..50 {
        let one = Sampling {
            top_k: 1,
            seed,
            ..Sampling::default()
        };
        assert_eq!(drawn(&logits, &draw(one)), 1);
    }
}

#[test]
fn frequencies_follow_the_softmax() {
    let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let mut counts = [0u32; 4];
    let mut sampler = Sampler::new(4);
    let mut draw = draw(Sampling {
        seed: 1,
        ..Sampling::default()
    });
    for position in 0..20_000 {
        draw.position = position;
        counts[sampler.draw(&logits, &draw).expect("finite").id as usize] += 1;
    }
    for (count, share) in counts.iter().zip([0.5, 0.3, 0.15, 0.05]) {
        assert!(
            (f64::from(*count) / 20_000.0 - share).abs() < 0.012,
            "{counts:?}"
        );
    }
}

#[test]
fn logprobs_are_of_the_unmodified_distribution() {
    let logits = [0.0, 2.0, 1.0, 2.0];
    let sampling = Sampling {
        logprobs: Some(3),
        logit_bias: vec![(0, 50.0)],
        ..Sampling::greedy()
    };
    let found = Sampler::new(4)
        .draw(&logits, &draw(sampling))
        .expect("finite");
    let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
    let logprob = |l: f64| (l - sum.ln()) as f32;
    assert_eq!(found.id, 0);
    assert!((found.logprob - logprob(0.0)).abs() < 1e-5);
    let ids: Vec<u32> = found.top.iter().map(|t| t.0).collect();
    assert_eq!(ids, [1, 3, 2]);
    assert!((found.top[2].1 - logprob(1.0)).abs() < 1e-5);
    let more = Sampling {
        logprobs: Some(20),
        ..Sampling::greedy()
    };
    assert_eq!(
        Sampler::new(4)
            .draw(&logits, &draw(more))
            .expect("finite")
            .top
            .len(),
        4
    );
    let none = Sampling {
        logprobs: Some(0),
        ..Sampling::greedy()
    };
    assert!(
        Sampler::new(4)
            .draw(&logits, &draw(none))
            .expect("finite")
            .top
            .is_empty()
    );
}

#[test]
fn garbage_is_an_error_not_a_token() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let found = Sampler::new(3).draw(&[0.0, bad, 1.0], &draw(Sampling::default()));
        assert_eq!(found, Err(SampleError::NotFinite));
    }
}

#[test]
fn a_tiny_temperature_is_greedy_and_a_huge_one_is_even() {
    let logits = [1.0, 1.001, 0.5];
    let cold = Sampling {
        temperature: 1e-30,
        ..Sampling::default()
    };
    assert_eq!(drawn(&logits, &draw(cold)), 1);
    let mut seen = [false; 3];
    for seed in 0..100 {
        let hot = Sampling {
            temperature: 1e30,
            seed,
            ..Sampling::default()
        };
        seen[drawn(&logits, &draw(hot)) as usize] = true;
    }
    assert_eq!(seen, [true; 3]);
}
