//! Models for the tests of the text side: the checked-in checkpoints, and directories made on the spot.

use std::{fs, path::PathBuf};

use engine::text::{TextError, TextModel};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Directory of a checked-in checkpoint.
pub(crate) fn checkpoint(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/checkpoints")
        .join(name)
}

/// The checkpoint's text side.
pub(crate) fn model(name: &str) -> TextModel {
    TextModel::load(&checkpoint(name)).expect("the checkpoint is whole")
}

/// A model directory of these files.
pub(crate) fn directory(files: &[(&str, String)]) -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    for (name, content) in files {
        fs::write(dir.path().join(name), content).expect("a file in it");
    }
    dir
}

/// Loads a model of these files.
pub(crate) fn load(files: &[(&str, String)]) -> Result<TextModel, TextError> {
    TextModel::load(directory(files).path())
}

/// A configuration with nothing but a context.
pub(crate) fn config() -> (&'static str, String) {
    (
        "config.json",
        json!({"max_position_embeddings": 128}).to_string(),
    )
}

/// The files of a model whose tokenizer has pieces with space marks and falls back to bytes.
pub(crate) fn pieces(decoder: Value) -> [(&'static str, String); 3] {
    let mut vocab = serde_json::Map::new();
    let mut add = |token: String| {
        let id = vocab.len();
        vocab.entry(token).or_insert(json!(id));
    };
    ["<unk>", "<s>", "</s>"]
        .into_iter()
        .for_each(|token| add(token.into()));
    (0..=255).for_each(|byte| add(format!("<0x{byte:02X}>")));
    "▁abcdeéhlorw".chars().for_each(|letter| add(letter.into()));
    ["▁h", "▁w", "lo", "▁▁", "el"]
        .into_iter()
        .for_each(|token| add(token.into()));
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "decoder": decoder,
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
                  "vocab": vocab, "merges": [["▁", "h"], ["▁", "w"], ["l", "o"], ["▁", "▁"], ["e", "l"]]},
    });
    let words = json!({"eos_token": {"content": "</s>"}, "bos_token": "<s>"});
    [
        config(),
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", words.to_string()),
    ]
}

/// The decoder of most models with pieces.
pub(crate) fn piece_decoder() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]})
}
