//! Streaming ids into text: the same as decoding them at once, in whole characters, for every kind of tokenizer.

use engine::text::TextModel;
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::fixtures::{checkpoint, directory, load, model, piece_decoder, pieces};
use tokenizers::Tokenizer;

/// All pieces that streaming gives, the last one at the end.
fn stream(model: &TextModel, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = model.detokenizer();
    let mut parts: Vec<String> = ids
        .iter()
        .map(|id| detokenizer.push(*id).to_owned())
        .collect();
    parts.push(detokenizer.finish());
    parts
}

fn metaspace() -> serde_json::Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})
}

/// Texts, which are valid UTF-8, go through ids and come back as the reference library gives them.
fn agrees(model: &TextModel, reference: &Tokenizer, text: &str) {
    let ids = model
        .encode(text, false)
        .expect("any text can be tokenized");
    let whole = reference.decode(&ids, true).expect("the reference decodes");
    assert_eq!(model.decode(&ids, true), whole, "{text:?}");
    assert_eq!(stream(model, &ids).concat(), whole, "{text:?}");
}

proptest! {
    #[test]
    fn letters_of_bytes_stream_like_the_reference(text in "\\PC{0,40}[ \\n\\t]{0,3}\\PC{0,9}") {
        let reference = Tokenizer::from_file(checkpoint("qwen3").join("tokenizer.json"));
        agrees(&model("qwen3"), &reference.expect("the checkpoint is whole"), &text);
    }

    #[test]
    fn pieces_stream_like_the_reference(
        text in "[ abhelowé漢🙂]{0,24}",
        marked in any::<bool>(),
    ) {
        let decoder = if marked { metaspace() } else { piece_decoder() };
        // A decoder of marks alone does not know bytes, so such a model has only texts of its own letters.
        let text = if marked { text.replace(['漢', '🙂'], "") } else { text };
        let dir = directory(&pieces(decoder));
        let reference = Tokenizer::from_file(dir.path().join("tokenizer.json"));
        let model = TextModel::load(dir.path()).expect("a whole model");
        agrees(&model, &reference.expect("a whole tokenizer"), &text);
    }

    #[test]
    fn any_ids_stream_as_they_decode(ids in vec(0u32..400, 0..60)) {
        let model = model("llama3");
        prop_assert_eq!(stream(&model, &ids).concat(), model.decode(&ids, true));
        let bytes: Vec<u8> = ids
            .iter()
            .filter(|id| !model.is_special(**id))
            .flat_map(|id| model.token_bytes(*id))
            .collect();
        prop_assert_eq!(model.decode(&ids, true), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_valid_text_never_shows_a_replacement_before_its_end(
        text in "[a-zé漢🙂👩‍🚀]{0,20}",
        cut in any::<prop::sample::Index>(),
    ) {
        let model = TextModel::byte_level("script/text");
        let ids = model.encode(&text, false).expect("any text can be tokenized");
        let parts = stream(&model, &ids[..cut.index(ids.len() + 1)]);
        let (last, before) = parts.split_last().expect("the end is a part");
        prop_assert!(text.starts_with(&before.concat()));
        prop_assert!(last.is_empty() || last == "\u{fffd}", "{:?}", last);
    }
}

#[test]
fn invalid_bytes_are_shown_as_soon_as_they_are_certain() {
    let model = TextModel::byte_level("script/text");
    let check = |bytes: &[u32], expected: &[&str]| assert_eq!(stream(&model, bytes), expected);
    check(&[0xe6, 0xbc, 0xa2], &["", "", "漢", ""]);
    check(&[0xe6, 0xbc, 0x41], &["", "", "\u{fffd}A", ""]);
    check(&[0xff, 0x41], &["\u{fffd}", "A", ""]);
    check(&[0xe6, 0xbc], &["", "", "\u{fffd}"]);
    check(&[0xc3, 256, 0xa9], &["", "", "é", ""]);
}

#[test]
fn a_continuation_keeps_the_space_that_a_beginning_loses() {
    let model = load(&pieces(piece_decoder())).expect("a whole model");
    let ids = model
        .encode("hello", false)
        .expect("any text can be tokenized");
    assert_eq!(model.decode(&ids, true), "hello");
    let mut continuation = model.continuation();
    let text: String = ids
        .iter()
        .map(|id| continuation.push(*id).to_owned())
        .collect();
    assert_eq!(text, " hello");
}
