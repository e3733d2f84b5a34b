//! Timing profiles: what they predict, what is refused, and that a simulated engine keeps to them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{
    Engine,
    card::CardFiles,
    scripted::{Script, ScriptError, ScriptedConfig, ScriptedEngine, expected},
    simulated::{Pass, Profile, SimulatedEngine},
};
use logic::text::Vocabulary;
use serde_json::{Value, json};

use super::rig::{SEED, config, generate, plan, prompt, region, row};

/// A vocabulary of so many ids that say nothing.
#[derive(Debug)]
struct Few(u32);

impl Vocabulary for Few {
    fn len(&self) -> u32 {
        self.0
    }
    fn append_bytes(&self, _: u32, _: &mut Vec<u8>) {}
    fn end_ids(&self) -> &[u32] {
        &[]
    }
}

fn profile(value: &Value) -> Profile {
    Profile::parse(&value.to_string()).expect("a profile")
}

/// A table with round numbers.
fn table() -> Value {
    json!({
        "id": "round",
        "prefill_ms": [[16, 8.0], [64, null], [1024, 20.0], [2048, 40.0]],
        "prefill_prefix_ms": [[2048, 1024, 30.0], [2048, 512, null]],
        "decode_ms": {"batch": [1, 8], "context": [1000, 2000], "ms": [[4.0, 6.0], [8.0, null]]},
    })
}

fn pass(decodes: u32, decode_context: u64, prefills: &[(u32, u32)]) -> Pass {
    Pass {
        decodes,
        decode_context,
        prefills: prefills.to_vec(),
    }
}

#[test]
fn constants_predict_by_the_pass_model() {
    let linear = profile(&json!({"a": 5.0, "c": 0.5, "d": 0.25, "e": 0.01, "g": 1e-6}));
    let check = |pass: Pass, us| assert_eq!(linear.pass_us(&pass), us, "{pass:?}");
    check(pass(0, 0, &[]), 5_000);
    check(pass(4, 8_000, &[]), 5_000 + 2_000 + 2_000);
    check(pass(0, 0, &[(1_000, 0)]), 5_000 + 10_000 + 500);
    check(
        pass(0, 0, &[(1_000, 2_000), (1_000, 0)]),
        5_000 + 20_000 + 2_500 + 500,
    );
}

#[test]
fn a_table_is_kept_at_its_entries_and_linear_between_them() {
    let table = profile(&table());
    let check = |pass: Pass, us| assert_eq!(table.pass_us(&pass), us, "{pass:?}");
    check(pass(0, 0, &[(16, 0)]), 8_000);
    check(pass(0, 0, &[(1, 0)]), 8_000);
    check(pass(0, 0, &[(1024, 0)]), 20_000);
    check(pass(0, 0, &[(1536, 0)]), 30_000);
    check(pass(0, 0, &[(3072, 0)]), 60_000);
    check(pass(0, 0, &[(1024, 1024)]), 30_000);
    check(pass(0, 0, &[(1024, 0), (1024, 0)]), 40_000);
    check(pass(1, 1_500, &[]), 5_000);
    check(pass(1, 3_000, &[]), 8_000);
    check(pass(8, 8_000, &[]), 8_000);
    check(pass(1, 1_000, &[(1024, 0)]), 20_000 + 4_000 - 4_000);
    check(Pass::default(), 0);
    check(pass(0, 0, &[(0, 5)]), 0);
}

#[test]
fn rows_count_as_decodes_or_chunks() {
    let ids = prompt("a prompt of more than sixteen bytes");
    let rows = vec![
        row(&ids, 0, 16, &[0], None),
        row(&ids, 16, 18, &[0, 1], Some(1)),
        row(&ids, 18, 19, &[0, 1], Some(1)),
        row(&ids, 19, 20, &[0, 1], None),
        row(&ids, 0, 1, &[2], Some(1)),
    ];
    let prefills = &[(16, 0), (2, 16), (1, 19), (1, 0)];
    assert_eq!(Pass::of(&plan(rows)), pass(1, 19, prefills));
}

#[test]
fn what_is_no_profile_is_refused_by_name() {
    let check = |text: &str, words: &str| {
        let problem = Profile::parse(text).expect_err(words);
        assert!(
            problem.contains(words),
            "{problem:?} does not say {words:?}"
        );
    };
    let changed = |path: &str, value: Value| {
        let mut table = table();
        *table.pointer_mut(path).expect("a key of the table") = value;
        table.to_string()
    };
    check("", "EOF");
    check("[1]", "neither");
    check("{}", "neither");
    check(r#"{"a": 1}"#, "missing field `c`");
    check(
        r#"{"a": 1, "c": 1, "d": 1, "e": 1, "g": -1}"#,
        "\"g\" is negative",
    );
    check(
        r#"{"a": 1, "c": 1, "d": 1, "e": 1, "g": 1, "f": 1}"#,
        "unknown field `f`",
    );
    check(&changed("/prefill_ms", json!([])), "prefill_ms is empty");
    check(
        &changed("/prefill_ms", json!([[1, null]])),
        "prefill_ms is empty",
    );
    check(
        &changed("/prefill_ms", json!([[2, 1.0], [2, 1.0]])),
        "prefill_ms is not in ascending",
    );
    check(
        &changed("/prefill_ms/0/1", json!(-8.0)),
        "prefill_ms is negative",
    );
    check(
        &changed("/decode_ms/ms", json!([[1.0, 2.0]])),
        "decode_ms.ms is not a table of 2 rows",
    );
    check(
        &changed("/decode_ms/batch", json!([8, 1])),
        "decode_ms.batch is not in ascending",
    );
    check(
        &changed("/decode_ms/ms/0", json!([null, null])),
        "decode_ms is empty",
    );
    check(&changed("/decode_ms", json!(5)), "decode_ms");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Profile::load("/nowhere/profile.json".as_ref()).expect_err("no such file");
    assert!(
        error.to_string().contains("/nowhere/profile.json"),
        "{error}"
    );
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), table().to_string()).expect("a profile in it");
    assert_eq!(
        Profile::load(file.path()).expect("a profile"),
        profile(&table())
    );
}

#[test]
fn a_simulated_engine_says_what_the_script_says_in_no_less_time() {
    let profile = profile(&json!({"a": 2.0, "c": 0, "d": 0, "e": 0, "g": 0}));
    let mut engine = SimulatedEngine::new(profile, config("script/hash")).expect("small blocks");
    let ids = prompt("how long");
    let begun = Instant::now();
    let answer = generate(&mut engine, &region(), &[0, 1], &ids, &[], 10);
    assert!(begun.elapsed() >= Duration::from_millis(20));
    assert_eq!(answer, expected(Script::Hash(None), &ids, 0, SEED, 10));
    let plan = plan(vec![row(&ids, 0, ids.len(), &[0], Some(1))]);
    assert!(
        engine
            .step(&plan, &region())
            .expect("a valid plan")
            .elapsed_us
            >= 2_000
    );
}

#[test]
fn a_vocabulary_without_letters_is_refused() {
    let vocabulary = Arc::new(Few(126));
    let error = ScriptedEngine::speaking(ScriptedConfig::new(Script::Hash(None)), vocabulary);
    assert_eq!(error.err(), Some(ScriptError::Vocabulary(126)));
}

#[test]
fn the_card_of_a_simulated_model_is_another_card() {
    let real = CardFiles::scripted("script/hash", 128, 4096, 16);
    let simulated = real
        .clone()
        .simulated(4096)
        .expect("its config is an object");
    assert_ne!(real.hash(), simulated.hash());
    let quantised = real.clone().quantised("int8").expect("the same");
    assert!(![real.hash(), simulated.hash()].contains(&quantised.hash()));
    assert_ne!(
        simulated.hash(),
        real.simulated(8192).expect("the same").hash()
    );
}
