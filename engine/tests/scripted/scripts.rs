//! What the scripts say, and what they are called.

use engine::scripted::{Script, ScriptError, TEXT, expected};
use engine::text::{END, GO, START};

use super::rig::{config, draw, engine, plan, prompt, region, row, step, text};
use engine::Engine;

fn script(name: &str) -> Script {
    name.parse().expect("a script's name")
}

fn says(name: &str, prompt: &[u32]) -> Vec<u32> {
    expected(script(name), prompt, 0, 1, 500)
}

#[test]
fn names_are_read_and_written() {
    for name in [
        "script/hash",
        "script/hash-9",
        "script/echo",
        "script/text",
        "script/count-3",
    ] {
        assert_eq!(script(name).to_string(), name);
    }
    assert_eq!(script("script/count"), Script::Count(20));
    for name in [
        "hash",
        "script/",
        "script/huh",
        "script/echo-3",
        "script/count-0",
        "script/hash-x",
    ] {
        let error = name.parse::<Script>().expect_err(name);
        assert!(error.to_string().contains("script/count-N"), "{error}");
    }
}

#[test]
fn echo_says_a_completions_prompt_again() {
    let mut answer = says("script/echo", &prompt("Grüße, 漢字"));
    assert_eq!(answer.pop(), Some(END));
    assert_eq!(text(&answer), "Grüße, 漢字");
}

#[test]
fn echo_says_the_last_message_of_a_chat_again() {
    let chat = "<|start|>system\nbe kind<|end|><|start|>user\nhow\nare you<|end|><|start|>assistant\n<|go|>";
    let mut ids = prompt(chat);
    assert_eq!(
        ids.pop(),
        Some(GO),
        "the tokenizer adds a second mark, which a chat does without"
    );
    assert_eq!(ids.iter().filter(|id| **id == START).count(), 3);
    assert_eq!(text(&says("script/echo", &ids)), "how\nare you");
    ids.push(GO);
    assert_eq!(
        text(&says("script/echo", &ids)),
        "how\nare you",
        "and bears"
    );
}

#[test]
fn text_and_count_are_fixed() {
    assert_eq!(text(&says("script/text", &prompt("anything"))), TEXT);
    assert_eq!(
        text(&says("script/count-12", &prompt("go"))),
        "1 2 3 4 5 6 7 8 9 10 11 12"
    );
    assert_eq!(
        says("script/text", &[104, 105]),
        [END],
        "without a mark nothing was asked for"
    );
}

#[test]
fn hash_is_endless_and_printable_and_follows_from_everything() {
    let base = says("script/hash", &prompt("one"));
    assert_eq!(base.len(), 500);
    assert!(base.iter().all(|id| (0x20..0x7f).contains(id)));
    let hash =
        |text: &str, choice, seed| expected(Script::Hash(None), &prompt(text), choice, seed, 500);
    assert_eq!(hash("one", 0, 1), base);
    for other in [hash("two", 0, 1), hash("one", 1, 1), hash("one", 0, 2)] {
        assert_ne!(other, base);
    }
    let limited = says("script/hash-5", &prompt("one"));
    assert_eq!((&limited[..5], &limited[5..]), (&base[..5], &[END][..]));
}

#[test]
fn banned_ids_give_way() {
    let (mut engine, kv, ids) = (engine("script/echo"), region(), prompt(""));
    assert_eq!(
        step(&mut engine, &kv, row(&ids, 0, 1, &[3], Some(1))),
        [END]
    );
    let mut banning = row(&ids, 0, 1, &[3], Some(1));
    banning.draws[0].banned = [END].into();
    let letter = step(&mut engine, &kv, banning.clone())[0];
    assert!((0x20..0x7f).contains(&letter));
    banning.draws[0].banned = [END, letter].into();
    assert!(![END, letter].contains(&step(&mut engine, &kv, banning)[0]));
}

#[test]
fn logprobs_are_a_distribution_with_the_drawn_token_first() {
    let (mut engine, kv, ids) = (engine("script/text"), region(), prompt("x"));
    let mut asking = row(&ids, 0, ids.len(), &[0], Some(1));
    let mut sampling = (*asking.draws[0].sampling).clone();
    sampling.logprobs = Some(20);
    asking.draws[0].sampling = sampling.into();
    asking.draws.push(draw(ids.len(), 1, 1));
    let result = engine.step(&plan(vec![asking]), &kv).expect("a valid plan");
    let [with, without] = &result.rows[0][..] else {
        panic!("two draws, two tokens")
    };
    assert_eq!((with.top.len(), with.top[0]), (20, (with.id, with.logprob)));
    assert!(with.top.is_sorted_by(|a, b| a.1 > b.1));
    let mass: f32 = with.top.iter().map(|(_, logprob)| logprob.exp()).sum();
    assert!((0.5..=1.0).contains(&mass), "{mass}");
    let mut ids: Vec<u32> = with.top.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "each id once");
    assert_eq!(
        (without.id, without.logprob, without.top.len()),
        (with.id, 0.0, 0)
    );
}

#[test]
fn block_sizes_that_cannot_be_are_refused() {
    let make = |block_bytes, block_tokens| {
        let config = engine::scripted::ScriptedConfig {
            block_bytes,
            block_tokens,
            ..config("script/hash")
        };
        engine::scripted::ScriptedEngine::new(config).map(|_| ())
    };
    assert_eq!(make(256, 16), Ok(()));
    for (block_bytes, block_tokens) in [(128, 16), (0, 16), (16_385, 16), (16_384, 0)] {
        let refused = ScriptError::BlockSize {
            block_bytes,
            block_tokens,
        };
        assert_eq!(make(block_bytes, block_tokens), Err(refused));
    }
}
