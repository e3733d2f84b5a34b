//! Every setting: one row each, with its explanation, type, default and what is allowed.
//!
//! A row `name: Type = "default", rule;` is a setting; a row `name: Type;` is a section of its own. The
//! rows make the structs, the TOML keys (`gateway.listen`), the variables (`THALAMUS_GATEWAY_LISTEN`) and the
//! help of the flags. Nothing here reads anything.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use bus_schemas::{NodeId, Roles, limits};
use engine::model::{Backend, WeightFormat};

use super::{
    reader::{Reader, Section, join},
    value::{Raw, Value, any, power_of_two, quoted, some, within},
};

macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $section:ident {$(
            $(#[doc = $help:literal])+
            $field:ident: $type:ty $(= $default:literal, $rule:expr)?;
        )*}
    )*) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section { $($(#[doc = $help])+ pub $field: $type,)* }

        impl Section for $section {
            fn read(prefix: &str, reader: &mut Reader<'_>) -> Option<Self> {
                $(let $field = settings!(
                    @read $type, join(prefix, stringify!($field)), reader,
                    concat!($($help),+) $(, $default, $rule)?
                );)*
                Some(Self { $($field: $field?,)* })
            }
        }
    )*};
    (@read $type:ty, $key:expr, $reader:ident, $help:expr) => {
        <$type as Section>::read(&$key, $reader)
    };
    (@read $type:ty, $key:expr, $reader:ident, $help:expr, $default:literal, $rule:expr) => {
        $reader.setting::<$type>($key, $help, $default, $rule)
    };
}

/// Longest step, chunk or output that a worker plans with: bounds its tables.
const TOKENS_MAX: u32 = 1 << 20;
/// Most blocks of a pool: block ids and their bookkeeping stay within 32 bits and 2 GiB.
const BLOCKS_MAX: u32 = 1 << 24;
/// Longest delay of the scripted engine: a minute a step is a hang in every test.
const DELAY_US_MAX: u64 = 60_000_000;
/// Most nodes of one kind that `up` starts on one machine.
const UP_MAX: u32 = 64;
/// Longest time the API lets a request ask for.
const DEADLINE_MS_MAX: u64 = limits::DEADLINE_MAX_US / 1000;

settings! {
    /// Everything that can be set.
    Config {
        /// Name of the cluster: nodes of different clusters never hear each other.
        cluster: NodeId = "local", any();
        /// Name of this node, unique in its cluster; made of host and role when absent.
        name: Option<NodeId> = "", any();
        /// What this node does: gateway, router, prefill, decode, worker (prefill and decode).
        roles: Roles = "", any();
        /// The control bus.
        nats: Nats;
        /// The front door.
        gateway: Gateway;
        /// Where `thalamus ctl` connects.
        admin: Admin;
        /// The engine and its memory.
        worker: Worker;
        /// How blocks move between nodes.
        fabric: Fabric;
        /// The scripted engine (models named `script/NAME`).
        script: Script;
        /// Times that bound a request's life.
        limits: Limits;
        /// What is logged, and how.
        log: Log;
        /// What `thalamus up` starts.
        up: Up;
    }

    /// The control bus.
    Nats {
        /// The nats-server program that `up --processes` starts; searched for when absent.
        server: Option<PathBuf> = "", any();
        /// Servers to try, as nats://HOST:PORT or tls://HOST:PORT.
        url: Vec<NatsUrl> = "nats://127.0.0.1:4222", some();
        /// Credentials file (user JWT and seed).
        creds_file: Option<PathBuf> = "", any();
        /// File with an nkey seed.
        nkey_file: Option<PathBuf> = "", any();
        /// User name; goes with nats.password_file.
        user: Option<String> = "", any();
        /// File with the password of nats.user.
        password_file: Option<PathBuf> = "", any();
        /// Certificates.
        tls: ClientTls;
    }

    /// Certificates towards a server.
    ClientTls {
        /// Certificate authorities that the server's certificate is checked against (PEM).
        ca: Option<PathBuf> = "", any();
        /// Our own certificate (PEM).
        cert: Option<PathBuf> = "", any();
        /// Its private key (PEM).
        key: Option<PathBuf> = "", any();
    }

    /// The front door.
    Gateway {
        /// Where HTTP listens.
        listen: SocketAddr = "127.0.0.1:8080", any();
        /// File with the API keys that are let in, one a line; without it anybody is.
        api_keys_file: Option<PathBuf> = "", any();
        /// Let anybody in although it listens beyond loopback.
        anonymous: bool = "false", any();
        /// Certificate and key of the HTTP door.
        tls: ServerTls;
        /// Origins that browsers may call from; `*` is all of them, none is off.
        cors_origins: Vec<String> = "", any();
        /// Requests open at once; one more is refused with 503.
        open_max: u32 = "4096", within(1..=1_000_000);
        /// Largest HTTP or NATS body in bytes.
        body_bytes_max: u64 = "33554432", within(1024..=1 << 30);
        /// HTTP bodies read or worked on at once, in bytes together; one more is refused with 503.
        bodies_bytes_max: u64 = "268435456", within(1024..=1 << 40);
        /// HTTP connections open at once; one more is refused with 503.
        connections_max: u32 = "8192", within(1..=1_000_000);
        /// How long an HTTP connection is kept between two requests.
        idle_ms: u64 = "75000", within(1..=3_600_000);
        /// Where probes and scrapers are answered, on a thread of their own and without a key; off when absent.
        probe_listen: Option<SocketAddr> = "", any();
        /// Also serve the public NATS subjects.
        nats: bool = "true", any();
    }

    /// Certificate of a listener.
    ServerTls {
        /// Certificate chain (PEM).
        cert: Option<PathBuf> = "", any();
        /// Its private key (PEM).
        key: Option<PathBuf> = "", any();
    }

    /// Where `thalamus ctl` connects.
    Admin {
        /// Where nodes listen for `thalamus ctl`; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:7700", any();
        /// File with the shared cookie, readable by its owner alone; made in the runtime folder when absent.
        cookie_file: Option<PathBuf> = "", any();
    }

    /// The engine and its memory.
    Worker {
        /// A checkpoint's folder, or script/NAME for the scripted engine.
        model: Option<ModelSource> = "", any();
        /// Name that clients use for the model; its folder's name when absent.
        model_name: Option<String> = "", any();
        /// A timing profile: the model's time is simulated and its tokens are scripted; a folder then gives the tokenizer alone.
        profile: Option<PathBuf> = "", any();
        /// Blocks of KV memory; 0 sizes it from the memory that is free.
        kv_blocks: u32 = "0", within(0..=BLOCKS_MAX);
        /// Tokens in a block; all workers of a pool must agree.
        block_tokens: u32 = "16", power_of_two(1..=1024);
        /// Threads of the CPU engine; 0 is one a core.
        threads: u32 = "0", within(0..=1024);
        /// Kernels of the CPU engine: reference, plain, avx2, avx512 or neon; the fastest of this processor when absent.
        backend: Option<Backend> = "", any();
        /// What weights become when they are loaded: none (kept as they are) or int8.
        quantize: WeightFormat = "none", any();
        /// Tokens that one engine step may run, over all requests.
        step_tokens_max: u32 = "2048", within(1..=TOKENS_MAX);
        /// Prompt tokens of one request in one step.
        prefill_chunk: u32 = "512", within(1..=TOKENS_MAX);
        /// Choices in the running batch.
        running_max: u32 = "256", within(1..=65_536);
        /// Longest uncached prompt that a decode worker prefills by itself.
        local_prefill_max: u32 = "512", within(0..=TOKENS_MAX);
        /// Output tokens of each choice that are reserved before it starts.
        expected_output: u32 = "256", within(1..=TOKENS_MAX);
        /// A drill: preempt each choice once after this many output tokens; 0 is off.
        drill_preempt_after: u32 = "0", within(0..=TOKENS_MAX);
    }

    /// How blocks move between nodes.
    Fabric {
        /// auto, memory (one process), shm (one host) or ucx.
        kind: FabricKind = "auto", any();
        /// Folder for the sockets of shared memory; the runtime folder when absent.
        dir: Option<PathBuf> = "", any();
        /// UCX.
        ucx: Ucx;
    }

    /// UCX. Its own UCX_* variables are not read.
    Ucx {
        /// Transports that it may use, such as tcp or rc,ud,cuda; tcp when absent.
        tls: Vec<String> = "", any();
        /// Devices of the cluster's network, such as eth0 or mlx5_0:1; loopback when absent.
        net_devices: Vec<String> = "", any();
        /// The address of this node on those devices; loopback when absent.
        listen: Option<IpAddr> = "", any();
    }

    /// The scripted engine.
    Script {
        /// Time that each step takes.
        step_delay_us: u64 = "0", within(0..=DELAY_US_MAX);
        /// Time that each token of a step adds.
        token_delay_us: u64 = "0", within(0..=DELAY_US_MAX);
        /// Bytes of one KV block.
        block_bytes: u32 = "4096", power_of_two(64..=1 << 24);
    }

    /// Times that bound a request's life.
    Limits {
        /// Time a request may take if it does not say.
        deadline_default_ms: u64 = "600000", within(1..=DEADLINE_MS_MAX);
        /// Longest time a request may ask for.
        deadline_max_ms: u64 = "3600000", within(1..=DEADLINE_MS_MAX);
        /// How long a draining node lets its requests run.
        drain_ms: u64 = "30000", within(0..=DEADLINE_MS_MAX);
    }

    /// What is logged, and how.
    Log {
        /// Levels by target, such as info or info,actors=debug.
        filter: String = "info", any();
        /// One JSON object a line.
        json: bool = "false", any();
    }

    /// What `thalamus up` starts.
    Up {
        /// Prefill nodes.
        prefill: u32 = "1", within(0..=UP_MAX);
        /// Decode nodes.
        decode: u32 = "1", within(0..=UP_MAX);
        /// Nodes that do both.
        worker: u32 = "0", within(0..=UP_MAX);
        /// Each node in a process of its own, over a real nats-server.
        processes: bool = "false", any();
        /// Server that one process puts its control and its public subjects on; a bus of its own when absent.
        nats: Option<NatsUrl> = "", any();
    }
}

/// What a worker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// The scripted engine, with this script.
    Script(String),
    /// A checkpoint in this folder.
    Directory(PathBuf),
}

/// Model names that begin like this are scripts.
const SCRIPT_PREFIX: &str = "script/";

impl Value for ModelSource {
    fn expects() -> &'static str {
        "a checkpoint's folder or script/NAME"
    }
    fn read(raw: &Raw) -> Option<Self> {
        let text = String::read(raw)?;
        match text.strip_prefix(SCRIPT_PREFIX) {
            Some("") => None,
            Some(name) => Some(Self::Script(name.to_owned())),
            None => PathBuf::read(raw).map(Self::Directory),
        }
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(name) => write!(f, "{SCRIPT_PREFIX}{name}"),
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

/// Which fabric moves blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricKind {
    /// Memory in one process; between processes shared memory on one host, else UCX.
    Auto,
    /// In one process.
    Memory,
    /// Shared memory on one host.
    Shm,
    /// UCX.
    Ucx,
}

impl FabricKind {
    const ALL: [Self; 4] = [Self::Auto, Self::Memory, Self::Shm, Self::Ucx];

    /// Its word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Memory => "memory",
            Self::Shm => "shm",
            Self::Ucx => "ucx",
        }
    }
}

impl Value for FabricKind {
    fn expects() -> &'static str {
        "auto, memory, shm or ucx"
    }
    fn read(raw: &Raw) -> Option<Self> {
        let text = String::read(raw)?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.as_str()))
    }
}

/// Address of a NATS server. It may hold a password, so neither errors nor `Debug` show that part.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl(String);

impl NatsUrl {
    /// The whole URL, password and all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for NatsUrl {
    const SECRET: bool = true;
    fn expects() -> &'static str {
        "nats://HOST:PORT or tls://HOST:PORT"
    }
    fn read(raw: &Raw) -> Option<Self> {
        let text = String::read(raw)?;
        let (scheme, host) = text.split_once("://")?;
        let good = matches!(scheme, "nats" | "tls") && !host.is_empty() && !host.contains(' ');
        good.then_some(Self(text))
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.split_once("://"), self.0.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => write!(f, "{scheme}://***@{host}"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
