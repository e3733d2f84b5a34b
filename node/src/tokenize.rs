//! `thalamus tokenize`: text to ids or back, with the model's own tokenizer, without any server.

use std::io::Read;

use anyhow::Context;
use engine::text::TextModel;

use crate::{cli::Tokenize, exit::Failure};

/// Longest text that is read from standard input.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Prints ids of a text, or the text of ids.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Tokenize) -> Result<(), Failure> {
    let model = if let Some(name) = args.model.strip_prefix("script/") {
        TextModel::byte_level(&format!("script/{name}"))
    } else {
        TextModel::load(args.model.as_ref()).map_err(|e| Failure::Failed(e.into()))?
    };
    if !args.ids.is_empty() {
        model
            .check_ids(&args.ids)
            .map_err(|e| Failure::Usage(e.to_string()))?;
        let text = model.decode(&args.ids, false);
        print_line(args.json, &serde_json::json!({ "text": text }), &text);
        return Ok(());
    }
    let text = match &args.text {
        Some(text) => text.clone(),
        None => read_input()?,
    };
    let ids = model
        .encode(&text, !args.no_special)
        .map_err(|e| Failure::Failed(e.into()))?;
    let line = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    print_line(
        args.json,
        &serde_json::json!({ "count": ids.len(), "tokens": ids }),
        &line,
    );
    Ok(())
}

fn read_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read the text from standard input")?;
    Ok(text)
}

fn print_line(json: bool, value: &serde_json::Value, line: &str) {
    if json {
        println!("{value}");
    } else {
        println!("{line}");
    }
}
