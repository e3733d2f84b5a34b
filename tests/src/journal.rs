//! A prefill and a decode process over a real nats-server, whose JSON log a test reads as an operator would.
//!
//! It never asks the cluster anything: what it knows is in the lines.

use std::{fs::File, path::PathBuf, process::Stdio};

use anyhow::Result;
use nats::server::{NatsServer, ServerSettings};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::{ledger, up::Thalamus};

/// One process for each role; whatever can go to the prefill worker does.
const PAIR: [&str; 9] = [
    "--processes",
    "--model",
    "script/hash",
    "--prefill",
    "1",
    "--decode",
    "1",
    "--local-prefill-max",
    "0",
];

/// Where the cluster's processes write what they do.
#[derive(Debug)]
pub struct Journal {
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Journal {
    /// Starts the cluster with `more` arguments, logging what `filter` lets through; none without a nats-server,
    /// which the ledger then says.
    ///
    /// # Errors
    /// It does not start.
    pub fn up(more: &[&str], filter: &str) -> Result<Option<(Thalamus, Self)>> {
        // Asked for only to tell the ledger whether there is one: `up` starts its own.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let server = runtime.block_on(NatsServer::start(ServerSettings::default()));
        if ledger::need("nats", server).is_none() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let variables = [
            ("THALAMUS_LOG_JSON", "true"),
            ("THALAMUS_LOG_FILTER", filter),
        ];
        let args: Vec<&str> = PAIR.iter().chain(more).copied().collect();
        let up = Thalamus::up_logging(&args, &variables, Stdio::from(File::create(&log)?))?;
        Ok(Some((
            up,
            Self {
                log,
                _folder: folder,
            },
        )))
    }

    /// What was said about requests so far.
    ///
    /// # Errors
    /// The log is gone.
    pub fn facts(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.log)?;
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Ok(lines
            .filter(|line: &Value| line["span"]["request"].is_string())
            .collect())
    }
}
