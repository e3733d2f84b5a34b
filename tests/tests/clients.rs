//! Clients that others wrote, against real processes: the openai SDK and nats-py, one script a test.
//!
//! The scripts in `tests/clients` judge the answers; this file starts the server, watches its memory, and makes
//! the virtual environment once. It never installs anything outside the target folder.

#[path = "clients/python.rs"]
mod python;
#[path = "clients/vanish.rs"]
mod vanish;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::{Context, Result, ensure};
use thalamus_tests::up::{Thalamus, repository};

use python::{Python, Script};

/// A key of the shape that the gateway asks for.
const API_KEY: &str = "th_0123456789abcdefghijklmnopqrstuv";
/// Counts for half a minute, and so is always met in the middle.
const SLOW: [&str; 4] = [
    "--model",
    "script/count-2000",
    "--set",
    "script.token_delay_us=5000",
];

/// Runs one script against `thalamus up --processes` with these arguments.
fn run(script: &str, up: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let Some(python) = Python::needed() else {
        return Ok(());
    };
    let server = started(up)?;
    Script::start(&python, script, &server, variables)?.finish()
}

fn started(up: &[&str]) -> Result<Thalamus> {
    Thalamus::up(&[&["--processes"], up].concat())
}

#[test]
fn openai_chats() -> Result<()> {
    run("http_chat", &["--model", "script/echo"], &[])
}

#[test]
fn openai_calls_a_tool_and_reads_its_result() -> Result<()> {
    run("http_tools", &["--model", "script/echo"], &[])
}

#[test]
fn openai_streams_with_and_without_usage() -> Result<()> {
    run("http_stream", &["--model", "script/echo"], &[])
}

#[test]
fn openai_sees_cached_tokens() -> Result<()> {
    run("http_cached", &["--model", "script/echo"], &[])
}

#[test]
fn openai_gets_seed_choices_stops_and_logprobs() -> Result<()> {
    run("http_sampling", &["--model", "script/hash-40"], &[])
}

#[test]
fn openai_lists_models() -> Result<()> {
    run("http_models", &["--model", "script/echo"], &[])
}

#[test]
fn openai_knows_every_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let keys = folder.path().join("keys");
    fs::write(&keys, format!("{API_KEY} tests\n"))?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
    let setting = format!("gateway.api_keys_file={}", keys.display());
    let up = ["--model", "script/echo", "--set", &setting];
    run("http_errors", &up, &[("TEST_API_KEY", API_KEY)])
}

#[test]
fn openai_meets_its_deadline() -> Result<()> {
    run("http_deadline", &SLOW, &[])
}

#[test]
fn openai_gets_the_words_of_a_real_checkpoint() -> Result<()> {
    let folder = repository().join("tests/checkpoints/llama3");
    let model = folder.to_str().context("the repository's path is UTF-8")?;
    let expected = format!("{model}/expected.json");
    run(
        "http_checkpoint",
        &["--model", model],
        &[("TEST_EXPECTED", &expected)],
    )
}

#[test]
fn nats_client_chats() -> Result<()> {
    run("nats_chat", &["--model", "script/echo"], &[])
}

#[test]
fn nats_client_streams() -> Result<()> {
    run("nats_stream", &["--model", "script/echo"], &[])
}

#[test]
fn nats_client_sees_errors_in_headers() -> Result<()> {
    run("nats_errors", &["--model", "script/echo"], &[])
}

#[test]
fn nats_client_meets_its_deadline() -> Result<()> {
    run("nats_deadline", &SLOW, &[])
}

#[test]
fn nats_client_finds_the_service() -> Result<()> {
    run("nats_info", &["--model", "script/echo"], &[])
}

#[test]
fn closing_the_http_stream_frees_the_blocks() -> Result<()> {
    vanish::frees_blocks("http_vanish")
}

#[test]
fn closing_the_nats_connection_frees_the_blocks() -> Result<()> {
    vanish::frees_blocks("nats_vanish")
}

#[test]
fn cancelling_by_subject_frees_the_blocks() -> Result<()> {
    vanish::frees_blocks("nats_cancel")
}

#[test]
fn the_example_of_the_readme_prints_the_answer() -> Result<()> {
    let Some(python) = Python::needed() else {
        return Ok(());
    };
    let server = started(&["--model", "script/echo"])?;
    let nats = python::nats_of(&server)?;
    let output = Command::new(python.program())
        .arg(repository().join("examples/python/nats_chat.py"))
        .args([
            nats.url,
            "thalamus",
            nats.password_file,
            "script/echo",
            "Hello over NATS!",
        ])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8(output.stdout)?,
        "Hello over NATS!\n",
        "{errors}"
    );
    Ok(())
}
