//! `thalamus ctl` from another process: it lists, explains, drains and cancels, and says why when it cannot.
//!
//! Real processes and the real command; nothing is asked of a process in any other way.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use thalamus_tests::up::{Thalamus, request};

/// Far more than a test waits for: only a cancel ends such a stream.
const ENDLESS_TOKENS: u32 = 20_000;
/// A loaded machine takes its time.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// Exit codes of `ctl`, which are part of its interface.
const UNREACHABLE: i32 = 3;
const TIMEOUT: i32 = 4;
const REFUSED: i32 = 5;

fn up() -> Result<Thalamus> {
    Thalamus::up(&[
        "--model",
        "script/hash",
        "--prefill",
        "1",
        "--decode",
        "1",
        "--kv-blocks",
        "1600",
        "--local-prefill-max",
        "0",
        "--set",
        "script.step_delay_us=20000",
        "--set",
        "limits.drain_ms=1000",
    ])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The rows of a listing.
fn rows(up: &Thalamus, args: &[&str]) -> Result<Vec<Value>> {
    let listed = up.ctl_json(args)?;
    Ok(listed
        .as_array()
        .with_context(|| format!("{args:?} is a list"))?
        .clone())
}

/// Looks again until something is there, or has gone.
fn until<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + SEEN_WITHIN;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(
            Instant::now() < deadline,
            "it did not come within {SEEN_WITHIN:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// A stream that goes on and on; gives all that was said once it has ended.
fn endless(up: &Thalamus) -> Result<thread::JoinHandle<Result<(u16, String)>>> {
    let http = up.http.context("it has a gateway")?;
    let prompt: Vec<u32> = (0..40).map(|i| 40 + i).collect();
    let body = json!({
        "model": "script/hash", "prompt": prompt, "max_tokens": ENDLESS_TOKENS, "stream": true,
    });
    let body = body.to_string();
    Ok(thread::spawn(move || {
        request(http, "POST", "/v1/completions", &[], body.as_bytes())
    }))
}

/// Id of the request that runs on the decode worker.
fn running(up: &Thalamus) -> Result<String> {
    until(|| {
        let rows = rows(up, &["req", "ls"])?;
        let job = rows
            .iter()
            .find(|r| r["node"] == "decode-0" && r["state"] == "running");
        Ok(job.and_then(|r| r["request"].as_str()).map(str::to_owned))
    })
}

#[test]
fn nodes_and_pools_are_listed() -> Result<()> {
    let up = up()?;
    let nodes = rows(&up, &["node", "ls"])?;
    let names: Vec<&str> = nodes.iter().filter_map(|n| n["node"].as_str()).collect();
    ensure!(
        names == ["decode-0", "gateway-0", "prefill-0", "router-0"],
        "{names:?}"
    );
    let pools = rows(&up, &["pool", "ls"])?;
    let roles: Vec<&str> = pools.iter().filter_map(|p| p["roles"].as_str()).collect();
    ensure!(roles == ["decode", "prefill"], "{pools:?}");
    ensure!(
        pools.iter().all(|p| p["model"] == "script/hash"),
        "{pools:?}"
    );
    let table = up.ctl(&["node", "ls"])?;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    ensure!(
        table.starts_with("NODE") && table.contains("decode-0"),
        "{table}"
    );
    Ok(())
}

#[test]
fn a_running_request_is_listed_explained_and_cancelled() -> Result<()> {
    let up = up()?;
    let stream = endless(&up)?;
    let id = running(&up)?;
    let why = up.ctl_json(&["req", "why", &id])?;
    let lines = why[0]["lines"].as_array().context("a router explains")?;
    let chosen = lines
        .first()
        .and_then(Value::as_str)
        .context("the choice")?;
    ensure!(
        chosen.contains("decode-0") && chosen.contains("prefill-0"),
        "{chosen}"
    );
    ensure!(lines.len() > 1, "no candidate is priced: {lines:?}");
    let done = up.ctl(&["req", "cancel", &id])?;
    ensure!(done.status.success(), "{}", said(&done));
    let (_, text) = stream.join().ok().context("the client lives")??;
    let tokens = text.matches("\"choices\"").count();
    ensure!(tokens < ENDLESS_TOKENS as usize, "it ended by itself");
    until(|| {
        let rows = rows(&up, &["kv", "audit"])?;
        let free = rows.iter().all(|r| {
            let count = |key: &str| r[key].as_u64().unwrap_or_default();
            r["fault"].is_null() && count("free") + count("cached") == count("total")
        });
        Ok((rows.len() == 2 && free).then_some(()))
    })?;
    let again = up.ctl(&["req", "cancel", &id])?;
    ensure!(
        again.status.code() == Some(REFUSED),
        "{:?}: {}",
        again.status,
        said(&again)
    );
    ensure!(said(&again).contains(&id), "{}", said(&again));
    Ok(())
}

#[test]
fn a_drained_node_takes_nothing_new_and_a_stranger_is_refused_by_name() -> Result<()> {
    let up = up()?;
    let _ended_with_its_process = endless(&up)?;
    running(&up)?;
    let told = up.ctl(&["node", "drain", "nobody"])?;
    ensure!(told.status.code() == Some(REFUSED), "{:?}", told.status);
    ensure!(
        said(&told).contains("decode-0"),
        "those that live are named: {}",
        said(&told)
    );
    let told = up.ctl(&["node", "drain", "prefill-0"])?;
    ensure!(told.status.success(), "{}", said(&told));
    until(|| {
        let nodes = rows(&up, &["node", "ls"])?;
        let open = nodes
            .iter()
            .any(|n| n["node"] == "prefill-0" && n["intake"] == "open");
        Ok((!open).then_some(()))
    })?;
    let cordoned = up.ctl(&["node", "cordon", "decode-0"])?;
    ensure!(cordoned.status.success(), "{}", said(&cordoned));
    let body = json!({ "model": "script/hash", "prompt": [50, 51], "max_tokens": 1 });
    until(|| {
        let (status, _) = up.post("/v1/completions", &body)?;
        Ok((status == 503 || status == 429).then_some(()))
    })?;
    let opened = up.ctl(&["node", "uncordon", "decode-0"])?;
    ensure!(opened.status.success(), "{}", said(&opened));
    until(|| Ok((up.post("/v1/completions", &body)?.0 == 200).then_some(())))
}

#[test]
fn a_wrong_cookie_and_an_empty_port_are_told_apart() -> Result<()> {
    let up = up()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cookie");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(b"not the cookie of this cluster")?;
    let path = path.display().to_string();
    let wrong = up.ctl(&["--cookie-file", &path, "node", "ls"])?;
    ensure!(
        wrong.status.code() == Some(TIMEOUT),
        "{:?}: {}",
        wrong.status,
        said(&wrong)
    );
    ensure!(said(&wrong).contains("cookie"), "{}", said(&wrong));
    ensure!(
        said(&wrong).contains("5s"),
        "it waits five seconds: {}",
        said(&wrong)
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .to_string();
    let set = format!("admin.listen={nobody}");
    let none = up.ctl(&["--set", &set, "node", "ls"])?;
    ensure!(
        none.status.code() == Some(UNREACHABLE),
        "{:?}: {}",
        none.status,
        said(&none)
    );
    ensure!(said(&none).contains(&nobody), "{}", said(&none));
    Ok(())
}
