//! A folder whose model is simulated: its tokenizer, a profile's time, scripted tokens.
//!
//! No weights are needed, so a router and a gateway can be tried at the speed of hardware that is not there.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use thalamus_tests::up::{Thalamus, program, repository};

/// A pass of two milliseconds for each row that decodes.
const PROFILE: &str = r#"{"a": 0.0, "c": 2.0, "d": 0.0, "e": 0.01, "g": 0.0}"#;

/// A folder with a model's small files and no weights, and a profile beside it.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let from = repository().join("tests/checkpoints/llama3").join(file);
        if from.is_file() {
            fs::copy(from, folder.path().join(file))?;
        }
    }
    fs::write(folder.path().join("profile.json"), PROFILE)?;
    Ok(folder)
}

fn args(folder: &tempfile::TempDir) -> Vec<String> {
    let path = folder.path().display();
    let all = [
        "--model".into(),
        format!("{path}"),
        "--profile".into(),
        format!("{path}/profile.json"),
    ];
    all.into()
}

#[test]
fn a_folder_without_weights_is_served_in_the_time_of_a_profile() -> Result<()> {
    let folder = folder()?;
    let args = args(&folder);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["--model-name", "made-up", "--local-prefill-max", "0"]);
    let thalamus = Thalamus::up(&args)?;
    let body = json!({
        "model": "made-up", "prompt": "one two three", "max_tokens": 20, "ignore_eos": true,
        "return_token_ids": true,
    });
    let (status, first) = thalamus.post("/v1/completions", &body)?;
    ensure!(status == 200, "{status}: {first}");
    let first: Value = serde_json::from_str(&first)?;
    ensure!(first["usage"]["completion_tokens"] == 20, "{first}");
    let asked = json!({ "model": "made-up", "prompt": "one two three" });
    let count: Value = serde_json::from_str(&thalamus.post("/tokenize", &asked)?.1)?;
    ensure!(
        first["usage"]["prompt_tokens"] == count["count"],
        "{first} {count}"
    );
    Ok(())
}

#[test]
fn a_profile_that_is_none_is_named() -> Result<()> {
    let folder = folder()?;
    fs::write(folder.path().join("profile.json"), "{}")?;
    let output = Command::new(program()?)
        .arg("up")
        .args(args(&folder))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("XDG_RUNTIME_DIR", folder.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("profile.json cannot be used"),
        "{said}"
    );
    Ok(())
}
