//! Workers join, drain, die and freeze under 300 streams: every stream ends once, with exactly its tokens.
//!
//! Real processes on a real server; the scripted engine shows each wrong or missing block as a wrong token. It
//! measures no speed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use engine::scripted::{Script, expected};
use serde_json::{Value, json};
use thalamus_tests::{
    cluster::Cluster,
    up::{Thalamus, events, request},
};

const STREAMS: u32 = 300;
/// Tokens of each stream.
const TOKENS: usize = 48;
/// Each step takes so long that streams live through every disturbance.
const STEP: &str = "script.step_delay_us=100000";
/// The streams need some 2,100 blocks; more would only slow the checkers of a debug build.
const KV_BLOCKS: &str = "800";
/// Between the starts of two streams: prompts arrive while workers come and go.
const ARRIVAL: Duration = Duration::from_millis(10);
/// Longer than a node's lease: the frozen one is given up before it thaws.
const FROZEN: Duration = Duration::from_secs(2);
/// Leases, tickets and graces of the dead end by then.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

fn worker(cluster: &Cluster, role: &str, name: &str) -> Result<Thalamus> {
    cluster.serve(&[
        "--role",
        role,
        "--name",
        name,
        "--model",
        "script/hash",
        "--fabric",
        "shm",
        "--kv-blocks",
        KV_BLOCKS,
        "--set",
        STEP,
    ])
}

fn prompt(stream: u32) -> Vec<u32> {
    let length = 20 + stream % 60;
    (0..length)
        .map(|i| 32 + (stream * 7 + i * 13) % 95)
        .collect()
}

/// One stream from its first to its last event.
fn stream(http: SocketAddr, number: u32) -> Result<()> {
    let prompt = prompt(number);
    let body = json!({
        "model": "script/hash", "prompt": prompt, "max_tokens": TOKENS, "seed": number,
        "stream": true, "return_token_ids": true,
    });
    let body = body.to_string();
    let (status, answer) = request(http, "POST", "/v1/completions", &[], body.as_bytes())?;
    ensure!(status == 200, "{status}: {answer}");
    let (mut ids, mut ends) = (Vec::new(), 0);
    for event in events(&answer)? {
        ensure!(event["error"].is_null(), "{event}");
        for choice in event["choices"].as_array().into_iter().flatten() {
            let said = choice["token_ids"].as_array().into_iter().flatten();
            ids.extend(said.filter_map(Value::as_u64));
            ends += usize::from(!choice["finish_reason"].is_null());
        }
    }
    ensure!(ends == 1, "it ended {ends} times");
    let wanted = expected(Script::Hash(None), &prompt, 0, number.into(), TOKENS);
    let wanted: Vec<u64> = wanted.into_iter().map(u64::from).collect();
    ensure!(ids == wanted, "ids {ids:?}, not {wanted:?}");
    Ok(())
}

/// Who is there, by name.
type Workers = BTreeMap<&'static str, Thalamus>;

fn of<'a>(workers: &'a Workers, name: &str) -> Result<&'a Thalamus> {
    workers
        .get(name)
        .with_context(|| format!("{name} is there"))
}

/// Joins, freezes, drains and kills, among prefill and decode alike.
fn disturb(cluster: &Cluster, front: &Thalamus, workers: &mut Workers) -> Result<()> {
    for (role, name) in [("prefill", "p3"), ("decode", "d4")] {
        workers.insert(name, worker(cluster, role, name)?);
    }
    for name in ["p1", "d1"] {
        of(workers, name)?.signal("STOP")?;
    }
    let thaw_at = Instant::now() + FROZEN;
    for name in ["p2", "d2"] {
        of(workers, name)?.signal("KILL")?;
    }
    thread::sleep(thaw_at.saturating_duration_since(Instant::now()));
    for name in ["p1", "d1"] {
        of(workers, name)?.signal("CONT")?;
    }
    for name in ["p3", "d3"] {
        let told = front.ctl(&["node", "drain", name])?;
        ensure!(
            told.status.success(),
            "{}",
            String::from_utf8_lossy(&told.stderr)
        );
    }
    workers.insert("d5", worker(cluster, "decode", "d5")?);
    Ok(())
}

/// Every ledger agrees, and every block is free or cached.
fn settled(front: &Thalamus, names: &[&str]) -> Result<()> {
    let rows = front.ctl_json(&["kv", "audit"])?;
    let rows = rows.as_array().context("rows")?;
    for name in names {
        let row = rows.iter().find(|row| row["node"] == **name);
        let row = row.with_context(|| format!("{name} answers"))?;
        let count = |key: &str| row[key].as_u64().context("a count");
        ensure!(row["fault"].is_null(), "{row}");
        ensure!(
            count("free")? + count("cached")? == count("total")?,
            "{row}"
        );
    }
    Ok(())
}

#[test]
fn streams_outlive_workers_that_join_drain_die_and_freeze() -> Result<()> {
    let Some(cluster) = Cluster::start()? else {
        return Ok(());
    };
    let front = cluster.serve(&[
        "--role",
        "gateway,router",
        "--name",
        "front",
        "--local-prefill-max",
        "0",
    ])?;
    let http = front.http.context("it has a gateway")?;
    let mut workers = Workers::new();
    for name in ["p1", "p2"] {
        workers.insert(name, worker(&cluster, "prefill", name)?);
    }
    for name in ["d1", "d2", "d3"] {
        workers.insert(name, worker(&cluster, "decode", name)?);
    }
    served(&front)?;
    let streams: Vec<_> = (0..STREAMS)
        .map(|number| {
            thread::spawn(move || {
                thread::sleep(ARRIVAL * (number % 100));
                stream(http, number)
            })
        })
        .collect();
    disturb(&cluster, &front, &mut workers)?;
    let mut wrong = Vec::new();
    for (number, stream) in streams.into_iter().enumerate() {
        match stream.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => wrong.push(format!("stream {number}: {error:#}")),
            Err(_) => wrong.push(format!("stream {number} panicked")),
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {STREAMS} streams:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let deadline = Instant::now() + SETTLED_WITHIN;
    while let Err(error) = settled(&front, &["p1", "d1", "d4", "d5"]) {
        ensure!(Instant::now() < deadline, "{error:#}");
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// The gateway has heard a router and workers.
fn served(front: &Thalamus) -> Result<()> {
    let body = json!({ "model": "script/hash", "prompt": [40, 41], "max_tokens": 1 });
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let (status, answer) = front.post("/v1/completions", &body)?;
        if status == 200 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{status}: {answer}");
        thread::sleep(Duration::from_millis(50));
    }
}
