//! What can be asked of a node, and its answers: JSON, so that scripts can read them.
//!
//! No answer contains a secret, a prompt or an output.

use serde::{Deserialize, Serialize};

/// A request to one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminRequest {
    /// The nodes that this process hears, with where to ask them.
    Nodes,
    /// Requests that this process holds, in any role.
    Requests,
    /// Why this request was placed where it is; answered by routers.
    Why {
        /// Its id.
        request: String,
    },
    /// End this request; answered by its gateway.
    Cancel {
        /// Its id.
        request: String,
    },
    /// Memory of the workers here.
    Kv,
    /// Stop or go on taking requests.
    Cordon {
        /// A node of this process.
        node: String,
        /// Stop.
        on: bool,
    },
    /// Take nothing new, finish, leave.
    Drain {
        /// A node of this process.
        node: String,
        /// Time for what runs; none is the node's own setting.
        within_ms: Option<u64>,
    },
    /// Change what is logged.
    LogLevel {
        /// A module path, or `all`.
        target: String,
        /// `error`, `warn`, `info`, `debug`, `trace` or `off`.
        level: String,
    },
}

/// One node as somebody hears it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its role or roles.
    pub roles: String,
    /// Its model, empty for routers and gateways.
    pub model: String,
    /// `open`, `cordoned` or `draining`.
    pub intake: String,
    /// Choices that run.
    pub running: u32,
    /// Choices that wait.
    pub waiting: u32,
    /// Blocks of its pool.
    pub blocks_total: u32,
    /// Blocks that are free or only cached.
    pub blocks_free: u32,
    /// Where its admin port listens.
    pub admin: String,
}

/// One request as one node holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Its id.
    pub request: String,
    /// Who says so.
    pub node: String,
    /// `gateway`, `decode` or `prefill`.
    pub role: String,
    /// Its attempt.
    pub attempt: u32,
    /// What it is doing.
    pub state: String,
    /// The other side: the owner for a gateway, the gateway for an owner.
    pub peer: String,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Output tokens so far.
    pub output_tokens: u64,
    /// Blocks held.
    pub blocks: u64,
}

/// Memory of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvRow {
    /// The worker.
    pub node: String,
    /// Blocks of its pool.
    pub total: u32,
    /// Blocks in each state.
    pub free: u32,
    /// Promised and not used yet.
    pub reserved: u32,
    /// Being computed or received.
    pub filling: u32,
    /// In use.
    pub sealed: u32,
    /// Reusable, in nobody's use.
    pub cached: u32,
    /// Kept until every operation on them is back.
    pub quarantined: u32,
    /// Requests held.
    pub jobs: usize,
    /// What the audit found wrong; none is the only good answer.
    pub fault: Option<String>,
    /// Counters since its start, by name.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// Why a request is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReply {
    /// Who placed it.
    pub router: String,
    /// Lines for people: the candidates and each term of the cost.
    pub lines: Vec<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum AdminReply {
    /// To `Nodes`.
    Nodes {
        /// Sorted by name.
        nodes: Vec<NodeRow>,
    },
    /// To `Requests`.
    Requests {
        /// In order of arrival.
        requests: Vec<RequestRow>,
    },
    /// To `Why`.
    Why {
        /// One per placement, oldest first; empty if this process placed no such request.
        placements: Vec<WhyReply>,
    },
    /// To `Kv`.
    Kv {
        /// One per worker.
        workers: Vec<KvRow>,
    },
    /// To a command: whether there was anything to do here.
    Done {
        /// It was done here.
        here: bool,
    },
    /// The request makes no sense, or failed.
    Error {
        /// What was wrong and what to do.
        message: String,
    },
}

impl AdminReply {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("rows of plain data serialise")
    }
}

/// Reads a request.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_request(text: &str) -> Result<AdminRequest, String> {
    serde_json::from_str(text).map_err(|e| format!("not an admin request: {e}"))
}

/// Reads a reply.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_reply(text: &str) -> Result<AdminReply, String> {
    serde_json::from_str(text).map_err(|e| format!("the node's answer makes no sense: {e}"))
}
