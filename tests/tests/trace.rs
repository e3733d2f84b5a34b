//! One request with a `traceparent`, followed through gateway, router, decode and prefill by their logs alone.
//!
//! Real processes and the real server. It reads nothing but what an operator would: lines of JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use thalamus_tests::{journal::Journal, up::request};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";
/// Lines are written as they happen; a loaded machine takes its time.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn one_trace_id_is_found_on_every_node_with_causes_and_times() -> Result<()> {
    let Some((up, journal)) = Journal::up(&["--kv-blocks", "128"], "info")? else {
        return Ok(());
    };
    let traceparent = format!("00-{TRACE}-{CLIENT}-01");
    let prompt: Vec<u32> = (0..100).map(|i| 32 + i % 90).collect();
    let body = json!({"model": "script/hash", "prompt": prompt, "max_tokens": 4}).to_string();
    let headers = [("traceparent", traceparent.as_str())];
    let http = up.http.context("it has a gateway")?;
    let (status, answer) = request(http, "POST", "/v1/completions", &headers, body.as_bytes())?;
    ensure!(status == 200, "{status}: {answer}");

    let facts = written(&journal)?;
    let told = |role: &str| -> BTreeSet<&str> {
        let of_role = facts.iter().filter(|f| f["span"]["role"] == role);
        of_role
            .filter_map(|f| f["fields"]["message"].as_str())
            .collect()
    };
    for (role, wanted) in [
        (
            "gateway",
            &["admitted", "bound", "first token", "ended"][..],
        ),
        ("router", &["placed"]),
        (
            "decode",
            &[
                "promised",
                "bound",
                "prefill asked",
                "offer taken",
                "first token",
                "done",
            ],
        ),
        ("prefill", &["prefill started", "prefill ended", "done"]),
    ] {
        let told = told(role);
        for word in wanted {
            ensure!(told.contains(word), "{role} says {told:?}, not {word:?}");
        }
    }
    causes(&facts)?;
    ensure!(
        facts.iter().all(|f| f["fields"]["us"].is_u64()),
        "each has a time"
    );
    Ok(())
}

/// The lines of the trace, once the last node has written its last one.
fn written(journal: &Journal) -> Result<Vec<Value>> {
    let deadline = Instant::now() + WRITTEN_WITHIN;
    loop {
        let mut lines = journal.facts()?;
        lines.retain(|fact| fact["span"]["trace_id"] == TRACE);
        let over = |role: &str, word: &str| {
            let mut all = lines.iter();
            all.any(|f| f["span"]["role"] == role && f["fields"]["message"] == word)
        };
        if over("gateway", "ended") && over("prefill", "done") && over("decode", "done") {
            return Ok(lines);
        }
        ensure!(
            Instant::now() < deadline,
            "the trace is not whole: {lines:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// The gateway was caused by the client, the router by it, decode by the router, prefill by decode.
fn causes(facts: &[Value]) -> Result<()> {
    let text = |fact: &Value, name: &str| fact["span"][name].as_str().unwrap_or("").to_owned();
    let mut spans: BTreeMap<String, (String, String)> = BTreeMap::new();
    for fact in facts {
        let span = (text(fact, "span_id"), text(fact, "parent_id"));
        let role = text(fact, "role");
        let known = spans.entry(role.clone()).or_insert_with(|| span.clone());
        ensure!(*known == span, "{role} has one span: {known:?}, {span:?}");
    }
    let mut cause = CLIENT.to_owned();
    for role in ["gateway", "router", "decode", "prefill"] {
        let (span, parent) = spans.get(role).with_context(|| format!("no {role}"))?;
        ensure!(
            *parent == cause,
            "{role} was caused by {parent}, not {cause}"
        );
        cause.clone_from(span);
    }
    Ok(())
}
