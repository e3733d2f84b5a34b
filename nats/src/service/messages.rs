//! The JSON of NATS micro services (ADR-32), field for field what `nats micro` reads.
//!
//! Plain data: never counts and never sends.

use std::collections::BTreeMap;

use serde::Serialize;

/// Free text by name.
pub type Metadata = BTreeMap<String, String>;

/// What a service is.
#[derive(Clone, Debug)]
pub struct ServiceInfo {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// For people.
    pub description: String,
    /// For programs.
    pub metadata: Metadata,
}

/// One subject on which a service answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its name, unique within the service.
    pub name: String,
    /// Where it listens.
    pub subject: String,
    /// The group of which one member answers.
    pub queue_group: String,
    /// For programs.
    pub metadata: Metadata,
}

/// What every answer begins with.
#[derive(Serialize)]
pub(crate) struct Identity<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    pub(crate) id: &'a str,
    pub(crate) version: &'a str,
    pub(crate) metadata: &'a Metadata,
}

/// Answer to `INFO`.
#[derive(Serialize)]
pub(crate) struct InfoResponse<'a> {
    #[serde(flatten)]
    pub(crate) identity: Identity<'a>,
    pub(crate) description: &'a str,
    pub(crate) endpoints: Vec<&'a Endpoint>,
}

/// Answer to `STATS`.
#[derive(Serialize)]
pub(crate) struct StatsResponse<'a> {
    #[serde(flatten)]
    pub(crate) identity: Identity<'a>,
    pub(crate) started: &'a str,
    pub(crate) endpoints: Vec<EndpointStats<'a>>,
}

/// One endpoint's row in `STATS`; times in nanoseconds.
#[derive(Serialize)]
pub(crate) struct EndpointStats<'a> {
    pub(crate) name: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) queue_group: &'a str,
    pub(crate) num_requests: u64,
    pub(crate) num_errors: u64,
    pub(crate) last_error: &'a str,
    pub(crate) processing_time: u64,
    pub(crate) average_processing_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a serde_json::Value>,
}
