//! A client goes away in the middle of its stream, and every worker gets its memory back.
//!
//! The time is printed, with what the asking itself costs; the bound is only there to notice a leak, which
//! would last until the request's deadline. It never judges speed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use thalamus_tests::up::Thalamus;

use crate::{
    SLOW,
    python::{Python, Script},
    started,
};

/// Far more than letting go takes, far less than the answer would have run.
const FREE_WITHIN: Duration = Duration::from_secs(5);

/// Runs a script that tells `running` in the middle of a stream and `vanished` when it has left it.
pub(crate) fn frees_blocks(name: &str) -> Result<()> {
    let Some(python) = Python::needed() else {
        return Ok(());
    };
    let server = started(&SLOW)?;
    let mut script = Script::start(&python, name, &server, &[])?;
    script.tells("running")?;
    ensure!(
        !is_idle(&server)?,
        "nothing runs, so that nothing can be freed"
    );
    script.go_on()?;
    script.tells("vanished")?;
    let since = Instant::now();
    let asking = loop {
        let asked = Instant::now();
        if is_idle(&server)? {
            break asked.elapsed();
        }
        let waited = since.elapsed();
        ensure!(
            waited < FREE_WITHIN,
            "not free after {waited:?}: {}",
            kv(&server)?
        );
    };
    let took = since.elapsed();
    println!("{name}: free within {took:?} of being left, of which {asking:?} went into asking");
    script.go_on()?;
    script.finish()
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
