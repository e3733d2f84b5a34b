//! The command line: what can be said, never what it does.
//!
//! Flags that set something are listed in [`flags`] by the name of their setting; their help comes from the
//! table of settings. Start reading at [`Command`].

pub mod ctl;
pub mod flags;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, Loaded, Sources, load};
use flags::{CtlFlags, NoFlags, ServeFlags, SettingFlags, UpFlags};

/// thalamus, its version, its commands.
#[derive(Debug, Parser)]
#[command(
    name = "thalamus",
    version,
    about = "Serves large language models from separate pools of prefill and decode workers",
    after_help = "Every setting can also be a variable (gateway.listen is THALAMUS_GATEWAY_LISTEN) or a line \
                  of thalamus.toml; `thalamus config print --origin` lists them.\n\
                  Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 timeout, 5 refused.",
    arg_required_else_help = true,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What thalamus can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine, in one process unless told otherwise
    #[command(after_help = "Examples:\n  \
        thalamus up --model script/echo\n  \
        thalamus up --model ./llama --prefill 1 --decode 2 --local-prefill-max 0\n  \
        thalamus up --model ./llama --nats nats://127.0.0.1:4222\n  \
        thalamus up --model ./llama --processes --fabric ucx")]
    Up(Settings<UpFlags>),
    /// Run one node of a cluster
    #[command(after_help = "Examples:\n  \
        thalamus serve --role gateway,router --nats nats://10.0.0.1:4222\n  \
        thalamus serve --role prefill --model ./llama --nats nats://10.0.0.1:4222 --fabric ucx\n  \
        thalamus serve --role worker --model ./llama --nats tls://nats.lab:4222 --set nats.tls.ca=ca.pem")]
    Serve(Settings<ServeFlags>),
    /// Look at a running cluster and steer it
    Ctl(ctl::Ctl),
    /// Say what this machine has, what it lacks, and what that costs
    #[command(after_help = "Examples:\n  \
        thalamus doctor\n  \
        thalamus doctor --json --config /etc/thalamus/thalamus.toml")]
    Doctor(Doctor),
    /// Turn text into token ids, or ids into text
    #[command(after_help = "Examples:\n  \
        thalamus tokenize --model ./llama \"Hello there\"\n  \
        thalamus tokenize --model ./llama --ids 9906,1070\n  \
        thalamus tokenize --model script/echo < prompt.txt")]
    Tokenize(Tokenize),
    /// Talk to a running thalamus
    #[command(after_help = "Examples:\n  \
        thalamus chat\n  \
        thalamus chat --url http://gpu1:8080 --model llama \"Why is the sky blue?\"")]
    Chat(Chat),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say the version, the protocol and the platform
    #[command(after_help = "Example:\n  thalamus version")]
    Version,
}

/// Where settings come from, besides the environment.
#[derive(Debug, Args)]
pub struct Settings<F: flags::List> {
    /// Read this file instead of ./thalamus.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The command's own flags.
    #[command(flatten)]
    pub flags: SettingFlags<F>,
}

impl<F: flags::List> Settings<F> {
    /// Loads the configuration: these flags over the environment over the file over defaults.
    ///
    /// # Errors
    /// [`ConfigError`], every problem at once.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        load(&Sources::of_process(
            self.config.clone(),
            self.flags.given.clone(),
        ))
    }
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// Settings to examine.
    #[command(flatten)]
    pub settings: Settings<NoFlags>,
}

/// Arguments of `tokenize`.
#[derive(Debug, Args)]
pub struct Tokenize {
    /// Checkpoint folder, or script/NAME
    #[arg(long, value_name = "DIR|script/NAME")]
    pub model: String,
    /// Ids to turn into text
    #[arg(
        long,
        value_name = "ID,...",
        value_delimiter = ',',
        conflicts_with = "text"
    )]
    pub ids: Vec<u32>,
    /// Do not add the model's begin and end ids
    #[arg(long)]
    pub no_special: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// The text; standard input when absent
    pub text: Option<String>,
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub struct Chat {
    /// The gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The model; the only one when absent
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// File with the API key
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Longest answer in tokens
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// One message, then exit; a conversation when absent
    pub message: Option<String>,
}

/// Commands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting as TOML; never a secret
    #[command(after_help = "Examples:\n  \
        thalamus config print\n  \
        thalamus config print --origin --set worker.kv_blocks=512")]
    Print {
        /// Say where each value came from
        #[arg(long)]
        origin: bool,
        /// What to resolve.
        #[command(flatten)]
        settings: Settings<NoFlags>,
    },
    /// Say whether the configuration is valid
    #[command(
        after_help = "Example:\n  thalamus config check --config /etc/thalamus/thalamus.toml"
    )]
    Check {
        /// What to check.
        #[command(flatten)]
        settings: Settings<NoFlags>,
    },
}

/// Settings of `ctl`.
pub type CtlSettings = Settings<CtlFlags>;
