//! A nats-server that stands still for four seconds under running streams: they end exactly, and nobody is lost.
//!
//! Four seconds are longer than a lease and shorter than a link takes to be found dead: only the own beats tell.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use engine::scripted::{Script, expected};
use serde_json::{Value, json};
use thalamus_tests::{
    journal::Journal,
    up::{request, signal},
};

const STREAMS: u32 = 8;
/// At 50 ms each they take longer than the server stands still.
const TOKENS: usize = 140;
const STEP: &str = "script.step_delay_us=50000";
const FROZEN: Duration = Duration::from_secs(4);

#[test]
fn a_frozen_server_costs_time_and_no_owner() -> Result<()> {
    let more = ["--kv-blocks", "400", "--set", STEP];
    let Some((up, journal)) = Journal::up(&more, "warn,thalamus::request=debug")? else {
        return Ok(());
    };
    let http = up.http.context("it has a gateway")?;
    let server = child(up.pid(), "nats-server")?;
    let streams: Vec<_> = (0..STREAMS)
        .map(|number| thread::spawn(move || stream(http, number)))
        .collect();
    thread::sleep(Duration::from_secs(1));
    signal(server, "STOP")?;
    thread::sleep(FROZEN);
    signal(server, "CONT")?;
    for stream in streams {
        let ended = stream
            .join()
            .map_err(|_| anyhow::anyhow!("a stream panicked"))?;
        ended?;
    }
    let facts = journal.facts()?;
    let ended = facts.iter().filter(|f| f["fields"]["message"] == "ended");
    ensure!(ended.count() == STREAMS as usize, "each ended once");
    for fact in &facts {
        ensure!(fact["span"]["attempt"] == 1, "another attempt: {fact}");
        ensure!(fact["fields"]["message"] != "owner lost", "{fact}");
    }
    Ok(())
}

/// One request; its ids are the script's.
fn stream(http: std::net::SocketAddr, number: u32) -> Result<()> {
    let prompt: Vec<u32> = (0..60).map(|i| 32 + (number * 7 + i * 13) % 95).collect();
    let body = json!({
        "model": "script/hash", "prompt": prompt, "max_tokens": TOKENS, "seed": number,
        "return_token_ids": true,
    });
    let body = body.to_string();
    let (status, answer) = request(http, "POST", "/v1/completions", &[], body.as_bytes())?;
    ensure!(status == 200, "{status}: {answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    let ids = answer["choices"][0]["token_ids"]
        .as_array()
        .context("ids")?;
    let got: Vec<u32> = ids
        .iter()
        .filter_map(|id| u32::try_from(id.as_u64()?).ok())
        .collect();
    let wanted = expected(Script::Hash(None), &prompt, 0, number.into(), TOKENS);
    ensure!(got == wanted, "stream {number}: {got:?}, not {wanted:?}");
    Ok(())
}

/// The child of a process that runs this program.
fn child(parent: u32, program: &str) -> Result<u32> {
    let parent = format!("PPid:\t{parent}");
    let name = format!("Name:\t{program}");
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        if status.lines().any(|l| l == name) && status.lines().any(|l| l == parent) {
            let pid = path.file_name().and_then(|n| n.to_str());
            return pid.context("a pid")?.parse().context("a pid");
        }
    }
    anyhow::bail!("{parent} has no child {program}")
}
