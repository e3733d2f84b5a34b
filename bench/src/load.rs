//! Closed loops of clients: each asks again as soon as its answer has ended.
//!
//! The loads have the shapes that peers were measured with. A loop never counts an answer that is shorter than
//! asked for, and it never goes on after a failure.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    client::{Answer, Client},
    random::Random,
    spread::quantile,
};

/// The model that is asked.
pub const MODEL: &str = "script/hash";
/// Shared prefixes of a load that has any.
const PREFIXES: u64 = 32;

/// Whom clients ask, and in what words.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// The model's name there.
    pub model: String,
    /// What prompts are made of.
    pub speech: Speech,
    /// Whether clients acknowledge at once, which ordinary ones do not.
    pub acknowledges_at_once: bool,
}

impl Target {
    /// An ordinary client's target, asked in words.
    #[must_use]
    pub fn words(http: SocketAddr, model: &str) -> Self {
        Self {
            http,
            model: model.to_owned(),
            speech: Speech::Words,
            acknowledges_at_once: false,
        }
    }
}

/// What a prompt is made of, so that a count of pieces is a count of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Letters: one token each to the byte-level tokenizer.
    Letters,
    /// Short common words: about one token each to a tokenizer of some thousand merges.
    Words,
}

impl Speech {
    fn say(self, random: &mut Random, count: usize) -> String {
        match self {
            Self::Letters => random.letters(count),
            Self::Words => random.words(count),
        }
    }
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its name.
    pub name: &'static str,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// Prompt tokens.
    pub prompt: usize,
    /// Of these, tokens of a prefix that others have too.
    pub shared: usize,
    /// Tokens of the answer.
    pub output: u32,
}

impl Load {
    const fn new(name: &'static str, connections: usize, prompt: usize, output: u32) -> Self {
        Self {
            name,
            connections,
            prompt,
            shared: 0,
            output,
        }
    }
}

/// The peers' loads, and one stream's shape at 16 and 256 streams.
pub const LOADS: [Load; 6] = [
    Load::new("one", 1, 256, 16),
    Load::new("16", 16, 256, 16),
    Load::new("256", 256, 256, 16),
    Load::new("reqs", 64, 256, 1),
    Load::new("tokens", 64, 128, 256),
    Load {
        shared: 1536,
        ..Load::new("prefix", 64, 2048, 16)
    },
];

/// What a loop saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Requests that ended.
    pub requests: u64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Half of the first tokens came within this time.
    pub first_ms_p50: f64,
    /// Nearly all did within this.
    pub first_ms_p99: f64,
    /// Nearly all requests ended within this.
    pub whole_ms_p99: f64,
}

/// Asks for `time`, then lets what is under way end; `round` makes the prompts new.
///
/// # Errors
/// Any failed or short answer.
pub async fn run(to: &Target, load: Load, time: Duration, round: u64) -> Result<Seen> {
    let begun = Instant::now();
    let until = begun + time;
    let prefixes: Arc<Vec<String>> = {
        let mut random = Random::new(round + 1);
        let count = if load.shared == 0 { 1 } else { PREFIXES };
        Arc::new(
            (0..count)
                .map(|_| to.speech.say(&mut random, load.shared))
                .collect(),
        )
    };
    let loops: Vec<_> = (0..load.connections as u64)
        .map(|number| {
            let random = Random::new((round << 20) + (number << 1) + 7);
            tokio::spawn(ask_until(to.clone(), load, until, random, prefixes.clone()))
        })
        .collect();
    let mut answers = Vec::new();
    for one in loops {
        answers.extend(one.await??);
    }
    Ok(summary(&answers, begun.elapsed()))
}

async fn ask_until(
    to: Target,
    load: Load,
    until: Instant,
    mut random: Random,
    prefixes: Arc<Vec<String>>,
) -> Result<Vec<Answer>> {
    let mut client = Client::connect(to.http, to.acknowledges_at_once).await?;
    let mut answers = Vec::new();
    while Instant::now() < until || answers.is_empty() {
        let prefix = &prefixes[random.below(prefixes.len() as u64) as usize];
        let prompt = to.speech.say(&mut random, load.prompt - load.shared);
        let body = body(&to.model, load, prefix, &prompt);
        let answer = client.ask("/v1/completions", &body).await?;
        ensure!(
            answer.tokens == load.output,
            "{} tokens of {}",
            answer.tokens,
            load.output
        );
        answers.push(answer);
    }
    Ok(answers)
}

fn body(model: &str, load: Load, prefix: &str, prompt: &str) -> String {
    let stream = if load.output > 1 {
        r#","stream":true,"stream_options":{"include_usage":true}"#
    } else {
        ""
    };
    let output = load.output;
    format!(
        r#"{{"model":"{model}","prompt":"{prefix}{prompt}","max_tokens":{output},"ignore_eos":true{stream}}}"#
    )
}

fn summary(answers: &[Answer], took: Duration) -> Seen {
    let sorted = |of: fn(&Answer) -> f64| {
        let mut values: Vec<f64> = answers.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (first, whole) = (sorted(|a| a.first_ms), sorted(|a| a.whole_ms));
    let tokens: u64 = answers.iter().map(|a| u64::from(a.tokens)).sum();
    Seen {
        requests: answers.len() as u64,
        requests_per_s: answers.len() as f64 / took.as_secs_f64(),
        tokens_per_s: tokens as f64 / took.as_secs_f64(),
        first_ms_p50: quantile(&first, 0.5),
        first_ms_p99: quantile(&first, 0.99),
        whole_ms_p99: quantile(&whole, 0.99),
    }
}
