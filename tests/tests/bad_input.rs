//! Bad input at the doors of real processes: one clear error each, and nothing else suffers.
//!
//! Bytes that are no letter, old letters, strangers in a pool, taken ports and names, no server, wrong keys.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bus_schemas::{
    Attempt, Epoch, Kind, Meta, NodeId, NodeRef, Placement, RequestId,
    messages::{AnyMessage, Cancel},
    subjects::Subjects,
};
use serde_json::json;
use thalamus_tests::{
    cluster::Cluster,
    up::{Thalamus, program, repository, request},
};

/// Long enough for a beat to be heard on a loaded machine.
const HEARD_WITHIN: Duration = Duration::from_secs(20);

fn run(args: &[&str], folder: &Path) -> Result<Output> {
    Ok(Command::new(program()?)
        .args(args)
        .env("XDG_RUNTIME_DIR", folder)
        .stdin(Stdio::null())
        .output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn model(name: &str) -> String {
    repository()
        .join("tests/checkpoints")
        .join(name)
        .display()
        .to_string()
}

fn works(thalamus: &Thalamus, model: &str) -> Result<()> {
    let body = json!({ "model": model, "prompt": [11, 12, 13, 14, 15], "max_tokens": 4 });
    let deadline = Instant::now() + HEARD_WITHIN;
    loop {
        let (status, answer) = thalamus.post("/v1/completions", &body)?;
        if status == 200 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{status}: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn audit_is_clean(thalamus: &Thalamus) -> Result<()> {
    let rows = thalamus.ctl_json(&["kv", "audit"])?;
    for row in rows.as_array().context("rows")? {
        ensure!(row["fault"].is_null(), "{row}");
    }
    Ok(())
}

#[test]
fn garbage_and_stale_letters_harm_nobody() -> Result<()> {
    let Some(server) = Cluster::start()? else {
        return Ok(());
    };
    let model = model("llama3");
    let front = server.serve(&["--role", "gateway,router", "--name", "front"])?;
    let worker = server.serve(&["--role", "worker", "--name", "work", "--model", &model])?;
    works(&front, "llama3")?;
    server.block_on(async {
        let client = server.client().await?;
        let subjects = Subjects::new("local");
        let node = NodeId::new("work")?;
        let stranger = NodeRef {
            node: NodeId::new("stranger")?,
            epoch: Epoch(1),
        };
        let old = NodeRef {
            node,
            epoch: Epoch(1),
        };
        let meta = Meta {
            from: stranger,
            to: old,
            request: RequestId(7),
            attempt: Attempt(1),
            remaining_us: 1_000_000,
        };
        let letter = AnyMessage::from(Cancel {
            placement: Placement(1),
        })
        .encode(meta);
        for kind in Kind::ALL {
            for target in ["work", "front-gateway", "front-router"] {
                let subject = subjects.node(NodeId::new(target)?, *kind);
                for payload in [
                    &b""[..],
                    b"TH",
                    b"not a letter at all",
                    &letter[..letter.len() / 2],
                ] {
                    client
                        .publish(subject.clone(), payload.to_vec().into())
                        .await?;
                }
                client.publish(subject, letter.clone()).await?;
            }
        }
        for subject in [
            subjects.beat(stranger.node),
            subjects.notice(stranger.node),
            subjects.admit_any(),
        ] {
            client.publish(subject, vec![0xff; 4096].into()).await?;
        }
        client.flush().await?;
        anyhow::Ok(())
    })?;
    works(&front, "llama3")?;
    audit_is_clean(&front)?;
    ensure!(worker.get("/health").is_err(), "a worker has no HTTP door");
    Ok(())
}

#[test]
fn a_worker_with_another_block_size_is_not_used_and_the_rest_serves_on() -> Result<()> {
    let Some(server) = Cluster::start()? else {
        return Ok(());
    };
    let model = model("qwen2");
    let front = server.serve(&["--role", "gateway,router", "--name", "front"])?;
    let _first = server.serve(&["--role", "worker", "--name", "one", "--model", &model])?;
    let _second = server.serve(&["--role", "worker", "--name", "two", "--model", &model])?;
    works(&front, "qwen2")?;
    let _odd = server.serve(&[
        "--role",
        "worker",
        "--name",
        "odd",
        "--model",
        &model,
        "--set",
        "worker.block_tokens=32",
    ])?;
    std::thread::sleep(Duration::from_secs(1)); // four beats: the odd one has been heard
    for _ in 0..12 {
        works(&front, "qwen2")?;
    }
    let rows = front.ctl_json(&["kv", "top"])?;
    let odd = rows
        .as_array()
        .context("rows")?
        .iter()
        .find(|r| r["node"] == "odd")
        .context("odd")?;
    ensure!(
        odd["counters"]["promised"] == 0,
        "the odd worker was used: {odd}"
    );
    Ok(())
}

#[test]
fn a_taken_name_and_a_taken_port_are_refused_by_name() -> Result<()> {
    let Some(server) = Cluster::start()? else {
        return Ok(());
    };
    let front = server.serve(&["--role", "gateway,router", "--name", "front"])?;
    let again = server.serve(&["--role", "gateway,router", "--name", "front"]);
    ensure!(again.is_err(), "a second node of one name started");
    let http = front.http.context("it has a gateway")?.to_string();
    let output = run(
        &[
            "up",
            "--model",
            "script/echo",
            "--listen",
            &http,
            "--admin-listen",
            "127.0.0.1:0",
        ],
        server.folder(),
    )?;
    ensure!(output.status.code() == Some(1), "{:?}", output.status);
    ensure!(
        said(&output).contains(&http),
        "the port is named: {}",
        said(&output)
    );
    works_not_at_all(&front)
}

/// Without workers a request is refused at once, with a reason.
fn works_not_at_all(front: &Thalamus) -> Result<()> {
    let (status, answer) = front.post(
        "/v1/completions",
        &json!({ "model": "nothing", "prompt": "x" }),
    )?;
    ensure!(
        status == 404 && answer.contains("nothing"),
        "{status}: {answer}"
    );
    Ok(())
}

#[test]
fn no_server_no_model_no_checkpoint_are_said_plainly() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = run(
        &["serve", "--role", "router", "--nats", "nats://127.0.0.1:1"],
        folder.path(),
    )?;
    ensure!(
        output.status.code() == Some(3),
        "{:?}: {}",
        output.status,
        said(&output)
    );
    ensure!(said(&output).contains("127.0.0.1:1"), "{}", said(&output));
    let output = run(
        &[
            "up",
            "--model",
            "/nowhere/at/all",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ],
        folder.path(),
    )?;
    ensure!(output.status.code() == Some(1), "{:?}", output.status);
    ensure!(
        said(&output).contains("/nowhere/at/all"),
        "{}",
        said(&output)
    );
    let output = run(
        &[
            "up",
            "--model",
            "script/nonsense",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ],
        folder.path(),
    )?;
    ensure!(
        said(&output).contains("script/echo"),
        "the scripts are listed: {}",
        said(&output)
    );
    Ok(())
}

#[test]
fn prompts_that_cannot_fit_and_wrong_keys_get_their_status() -> Result<()> {
    let keys = tempfile::NamedTempFile::new()?;
    let key = format!("th_{}", "ab".repeat(32));
    std::fs::write(keys.path(), format!("{key}\n"))?;
    let keys_path = keys.path().display().to_string();
    let model = model("qwen3");
    let set = format!("gateway.api_keys_file={keys_path}");
    let up = Thalamus::up(&["--model", &model, "--kv-blocks", "8", "--set", &set])?;
    let http = up.http.context("it has a gateway")?;
    let ask = |key: &str, tokens: usize| {
        let bearer = format!("Bearer {key}");
        let body =
            json!({ "model": "qwen3", "prompt": vec![7; tokens], "max_tokens": 2 }).to_string();
        request(
            http,
            "POST",
            "/v1/completions",
            &[("authorization", &bearer)],
            body.as_bytes(),
        )
    };
    let (status, answer) = ask("th_wrong", 4)?;
    ensure!(status == 401, "{status}: {answer}");
    let (status, answer) = ask(&key, 4)?;
    ensure!(status == 200, "{status}: {answer}");
    let (status, answer) = ask(&key, 4000)?;
    ensure!(
        status == 400 && answer.contains("context_length_exceeded"),
        "{status}: {answer}"
    );
    let (status, answer) = ask(&key, 400)?;
    ensure!(
        status == 400,
        "larger than all KV memory: {status}: {answer}"
    );
    let (status, _) = ask(&key, 4)?;
    ensure!(status == 200, "it serves on");
    audit_is_clean(&up)
}
