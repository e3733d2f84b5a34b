//! What `thalamus ctl` can be asked. It speaks to one node's admin port and learns of the others from it.

use clap::{Args, Subcommand, ValueEnum};

use bus_schemas::{NodeId, RequestId};

use super::CtlSettings;

/// Arguments of `ctl`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    thalamus ctl node ls\n  \
    thalamus ctl --admin 10.0.0.1:7700 --cookie-file ~/.thalamus/cookie node drain decode-1\n  \
    thalamus ctl -o json req ls")]
pub struct Ctl {
    /// Where the cluster is.
    #[command(flatten)]
    pub settings: CtlSettings,
    /// How to print
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        global = true
    )]
    pub output: Output,
    /// How long to wait, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        global = true
    )]
    pub timeout: u64,
    /// What to ask.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns for people
    #[default]
    Table,
    /// One JSON value for programs
    Json,
}

/// What to ask about.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// Nodes: list, drain, cordon, uncordon
    #[command(subcommand)]
    Node(NodeCommand),
    /// Pools of workers, by model
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Requests: list, explain, cancel
    #[command(subcommand)]
    Req(ReqCommand),
    /// Blocks: who has how many, and whether every ledger agrees
    #[command(subcommand)]
    Kv(KvCommand),
    /// What nodes log
    #[command(subcommand)]
    Log(LogCommand),
}

/// About nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes with role, state and load
    #[command(after_help = "Example:\n  thalamus ctl node ls")]
    Ls,
    /// Take nothing new, let requests finish or move, then leave
    #[command(after_help = "Example:\n  thalamus ctl node drain decode-1")]
    Drain {
        /// Its name
        node: NodeId,
    },
    /// Take nothing new, keep what runs
    #[command(after_help = "Example:\n  thalamus ctl node cordon decode-1")]
    Cordon {
        /// Its name
        node: NodeId,
    },
    /// Take requests again
    #[command(after_help = "Example:\n  thalamus ctl node uncordon decode-1")]
    Uncordon {
        /// Its name
        node: NodeId,
    },
}

/// About pools.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List pools with their models and nodes
    #[command(after_help = "Example:\n  thalamus ctl pool ls")]
    Ls,
}

/// About requests.
#[derive(Debug, Subcommand)]
pub enum ReqCommand {
    /// List open requests
    #[command(after_help = "Example:\n  thalamus ctl req ls")]
    Ls,
    /// Explain a placement: the candidates and each term of their cost
    #[command(after_help = "Example:\n  thalamus ctl req why 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")]
    Why {
        /// Its id
        id: RequestId,
    },
    /// Cancel a request
    #[command(
        after_help = "Example:\n  thalamus ctl req cancel 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
    )]
    Cancel {
        /// Its id
        id: RequestId,
    },
}

/// About blocks.
#[derive(Debug, Subcommand)]
pub enum KvCommand {
    /// Blocks by node and state
    #[command(after_help = "Example:\n  thalamus ctl kv top")]
    Top,
    /// Check that every block is in exactly one state and every ledger agrees
    #[command(after_help = "Example:\n  thalamus ctl kv audit")]
    Audit,
}

/// About logs.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Change what the nodes log until they end
    #[command(after_help = "Example:\n  thalamus ctl log level actors debug")]
    Level {
        /// Module or `all`
        target: String,
        /// How much
        level: Level,
    },
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the words are tracing's own")]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
