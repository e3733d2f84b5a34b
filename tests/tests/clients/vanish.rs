//! A client goes away in the middle of its stream, and every worker gets its memory back.
//!
//! How fast is the product's promise, so it is read from the gateway's own clock: from hearing that the client is
//! gone until the worker confirms that it let go. It never trusts one attempt of a loaded machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use thalamus_tests::up::Thalamus;

use crate::{
    SLOW,
    python::{Python, Script},
    started,
};

/// A leak would last until the request's deadline; asking by `ctl` takes some tenths of a second.
const FREE_WITHIN: Duration = Duration::from_secs(5);
/// Attempts, of which one must keep the promise: somebody else's work may stop this machine for longer.
const ATTEMPTS: usize = 5;
/// The gateway's histogram, its bucket of 100 ms, and its count.
const WITHIN_100_MS: &str = "thalamus_cancel_to_free_seconds_bucket{le=\"0.1\"}";
const CONFIRMED: &str = "thalamus_cancel_to_free_seconds_count";

/// Runs a script that tells `running` in the middle of a stream and `vanished` when it has left it.
pub(crate) fn frees_blocks(name: &str) -> Result<()> {
    let Some(python) = Python::needed() else {
        return Ok(());
    };
    let server = started(&SLOW)?;
    for attempt in 1..=ATTEMPTS {
        let before = [sample(&server, WITHIN_100_MS)?, sample(&server, CONFIRMED)?];
        vanish(name, &python, &server)?;
        let fast = sample(&server, WITHIN_100_MS)? - before[0];
        let all = sample(&server, CONFIRMED)? - before[1];
        ensure!(all > 0, "{name}: no worker confirmed that it let go");
        println!("{name}: attempt {attempt}: {fast} of {all} confirmed within 100 ms");
        if fast == all {
            return Ok(());
        }
    }
    anyhow::bail!("{name}: in none of {ATTEMPTS} attempts were the blocks free within 100 ms")
}

/// One client that vanishes, and the look whether anything is left of it.
fn vanish(name: &str, python: &Python, server: &Thalamus) -> Result<()> {
    let mut script = Script::start(python, name, server, &[])?;
    script.tells("running")?;
    ensure!(
        !is_idle(server)?,
        "nothing runs, so that nothing can be freed"
    );
    script.go_on()?;
    script.tells("vanished")?;
    let since = Instant::now();
    while !is_idle(server)? {
        let waited = since.elapsed();
        ensure!(
            waited < FREE_WITHIN,
            "not free after {waited:?}: {}",
            kv(server)?
        );
    }
    script.go_on()?;
    script.finish()
}

/// A sample of `/metrics`; zero before there is one.
fn sample(server: &Thalamus, series: &str) -> Result<u64> {
    let (status, text) = server.get("/metrics")?;
    ensure!(status == 200, "/metrics answered {status}: {text}");
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map_or(Ok(0), |value| {
        value.parse().with_context(|| value.to_owned())
    })
}

/// Whether no request is anywhere and every block is free or cached, by books that agree.
fn is_idle(server: &Thalamus) -> Result<bool> {
    let requests = server.ctl_json(&["req", "ls"])?;
    let workers = kv(server)?;
    let workers = workers.as_array().context("kv top is a list")?;
    ensure!(!workers.is_empty(), "no worker answers");
    for worker in workers {
        ensure!(
            worker["fault"].is_null(),
            "the books do not agree: {worker}"
        );
    }
    Ok(requests.as_array().is_some_and(Vec::is_empty) && workers.iter().all(is_free))
}

fn is_free(worker: &Value) -> bool {
    let count = |name: &str| worker[name].as_u64().unwrap_or_default();
    count("jobs") == 0 && count("free") + count("cached") == count("total")
}

fn kv(server: &Thalamus) -> Result<Value> {
    server.ctl_json(&["kv", "audit"])
}
