//! Workers' counters and gauges, once a second, for `/metrics`: own names and vLLM's.
//!
//! Only copies what snapshots say.

use std::time::Duration;

use actors::{ShellMsg, worker::Current};
use logic::role::worker::Snapshot;
use metrics::{counter, gauge};
use ractor::rpc::CallResult;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(1);

/// Publishes a worker's numbers until it is gone.
pub(super) async fn watch_worker(worker: watch::Receiver<Option<Current>>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if worker.has_changed().is_err() {
            return;
        }
        let Some(current) = worker.borrow().clone() else {
            continue;
        };
        let answer = current.shell.call(ShellMsg::Snapshot, Some(EVERY)).await;
        if let Ok(CallResult::Success(snapshot)) = answer {
            publish(&snapshot);
            let moved = current.fabric.moved();
            let node = snapshot.me.node.to_string();
            counter!("thalamus_kv_transfer_bytes_total", "node" => node.clone(), "path" => "in")
                .absolute(moved.bytes_in);
            counter!("thalamus_kv_transfer_bytes_total", "node" => node, "path" => "out")
                .absolute(moved.bytes_out);
        }
    }
}

fn publish(snapshot: &Snapshot) {
    let (node, model) = (snapshot.me.node.to_string(), snapshot.model.clone());
    let counts = snapshot.audit.counts;
    let states = [
        ("free", counts.free),
        ("reserved", counts.reserved),
        ("filling", counts.filling),
        ("sealed", counts.sealed),
        ("cached", counts.cached),
        ("quarantined", counts.quarantined),
    ];
    for (state, blocks) in states {
        gauge!("thalamus_kv_blocks", "node" => node.clone(), "state" => state).set(blocks);
    }
    for (name, value) in super::admin::counters(&snapshot.counters) {
        counter!(format!("thalamus_worker_{name}_total"), "node" => node.clone()).absolute(value);
    }
    let (block_tokens, blocks) = (snapshot.load.block_tokens, snapshot.load.blocks_total);
    let cache = [
        ("model_name", model.clone()),
        ("engine", node.clone()),
        ("block_size", block_tokens.to_string()),
        ("num_gpu_blocks", blocks.to_string()),
    ];
    gauge!("vllm:cache_config_info", &cache).set(1.0);
    let labels = [("model_name", model), ("engine", node)];
    gauge!("vllm:num_requests_running", &labels).set(snapshot.load.running);
    gauge!("vllm:num_requests_waiting", &labels).set(snapshot.load.waiting);
    let used =
        1.0 - f64::from(snapshot.load.blocks_free) / f64::from(snapshot.load.blocks_total.max(1));
    gauge!("vllm:kv_cache_usage_perc", &labels).set(used);
    counter!("vllm:num_preemptions_total", &labels).absolute(snapshot.counters.preemptions);
    let queried = snapshot.counters.prefilled_tokens + snapshot.counters.cached_tokens;
    counter!("vllm:prefix_cache_queries_total", &labels).absolute(queried);
    counter!("vllm:prefix_cache_hits_total", &labels).absolute(snapshot.counters.cached_tokens);
}
