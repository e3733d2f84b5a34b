//! Ids, logits and hidden states against the references that came with the checkpoints.

use engine::model::{Backend, KvDtype, ModelOptions, WeightFormat};

use crate::rig::{CHECKPOINTS, Case, Rig, dir, expected};

/// Both sides compute in f32 and differ by the order of sums alone: far less than a bf16 run may differ.
const LOGIT_ERROR: f32 = 2e-3;
/// Relative, for norms given with six digits.
const NORM_ERROR: f32 = 1e-4;

#[test]
fn every_checkpoint_and_case_gives_the_expected_ids_and_logits() {
    for backend in Backend::available() {
        for name in CHECKPOINTS {
            let expected = expected(name);
            let most = LOGIT_ERROR.min(2.0 * expected.bf16_max_abs_logit_diff);
            for case in &expected.cases {
                let mut rig = Rig::on(backend, name);
                let count = case.greedy_ids.len();
                let sequence = rig.complete(&case.prompt_ids, usize::MAX, count);
                let what = format!("{backend:?} {name} {}", case.name);
                let found = &sequence.ids[case.prompt_ids.len()..];
                assert_eq!(found, case.greedy_ids, "{what}");
                check_logits(case, &sequence.logits, most, &what);
            }
        }
    }
}

#[test]
fn int8_gives_the_ids_and_logits_of_its_own_reference() {
    for backend in Backend::available() {
        for name in CHECKPOINTS {
            let expected = expected(name);
            // A quantised activation may fall on either side of a rounding where norms or attentions differ in the
            // last bit. What that does to a logit is bounded as rounding to bf16 is.
            let most = 2.0 * expected.bf16_max_abs_logit_diff;
            for case in &expected.cases {
                let run = |backend| {
                    let options = ModelOptions {
                        backend: Some(backend),
                        weights: WeightFormat::Int8,
                        threads: Some(1),
                        ..ModelOptions::default()
                    };
                    let mut rig = Rig::with(&dir(name), options);
                    rig.complete(&case.prompt_ids, usize::MAX, case.greedy_ids.len())
                };
                let (found, reference) = (run(backend), run(Backend::REFERENCE));
                let what = format!("{backend:?} {name} {}", case.name);
                assert_eq!(found.ids, reference.ids, "{what}");
                let pairs = found
                    .logits
                    .iter()
                    .flatten()
                    .zip(reference.logits.iter().flatten());
                for (found, reference) in pairs {
                    let error = f32::from_bits(*found) - f32::from_bits(*reference);
                    assert!(error.abs() <= most, "{what}: {error}");
                }
                let kept = Rig::on(backend, name).complete(&case.prompt_ids, usize::MAX, 1);
                assert!(
                    kept.logits[0] != found.logits[0],
                    "{what}: bytes round nothing"
                );
            }
        }
    }
}

fn check_logits(case: &Case, logits: &[Vec<u32>], most: f32, what: &str) {
    let close = |bits: u32, expected: f32| {
        let found = f32::from_bits(bits);
        assert!(
            (found - expected).abs() <= most,
            "{what}: {found}, expected {expected}"
        );
    };
    assert_eq!(logits[0].len(), case.prompt_last_logits.len());
    for (found, expected) in logits[0].iter().zip(&case.prompt_last_logits) {
        close(*found, *expected);
    }
    assert_eq!(logits.len(), case.steps.len());
    for (found, step) in logits.iter().zip(&case.steps) {
        for (id, expected) in &step.top {
            close(found[*id as usize], *expected);
        }
    }
}

#[test]
fn hidden_states_have_the_expected_norms_after_every_layer() {
    let backends = Backend::available();
    for (backend, name) in backends
        .iter()
        .flat_map(|b| CHECKPOINTS.map(|name| (b, name)))
    {
        for case in &expected(name).cases {
            let mut rig = Rig::on(*backend, name);
            let mut sequence = rig.sequence(&case.prompt_ids, 1);
            let seen = rig.step(&mut [&mut sequence], usize::MAX);
            let last = case.prompt_ids.len() - 1;
            let norms = seen
                .norms
                .iter()
                .filter(|(_, position, ..)| *position == last);
            let found: Vec<_> = norms.map(|(_, _, depth, norm)| (*depth, *norm)).collect();
            assert_eq!(found.len(), case.hidden_l2.len());
            for ((depth, found), expected) in found.iter().zip(&case.hidden_l2) {
                let error = (found / expected - 1.0).abs();
                assert!(
                    error < NORM_ERROR,
                    "{name} depth {depth}: {found}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn bf16_keys_and_values_stay_within_the_tolerance_of_bf16() {
    for name in CHECKPOINTS {
        let expected = expected(name);
        let options = ModelOptions {
            kv_dtype: KvDtype::Bf16,
            threads: Some(1),
            ..ModelOptions::default()
        };
        for case in &expected.cases {
            let mut rig = Rig::with(&dir(name), options);
            let sequence = rig.complete(&case.prompt_ids, usize::MAX, 1);
            for (found, expected_logit) in sequence.logits[0].iter().zip(&case.prompt_last_logits) {
                let error = (f32::from_bits(*found) - expected_logit).abs();
                assert!(
                    error <= 2.0 * expected.bf16_max_abs_logit_diff,
                    "{name}: {error}"
                );
            }
        }
    }
}
