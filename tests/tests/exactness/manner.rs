//! The manners of prefill: how a cell asks, and by which counters it proves that the manner happened.
//!
//! Every cell has a salt of its own, so that it meets no block that another cell left in a cache.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    door::Door,
    reference::{BLOCK_TOKENS, Case, Reference, ids},
    setting::Running,
};

/// Output tokens after which a drilled choice gives its memory up once.
const PREEMPT_AFTER: &str = "worker.drill_preempt_after=3";
/// Tokens of a chunk; [`Start::args`] names it again as text.
const CHUNK_TOKENS: usize = 16;

/// What a cluster is started with; several manners can share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Plain,
    Chunks,
    Drill,
}

impl Start {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Chunks, Self::Drill];

    pub(super) const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Chunks => &["--prefill-chunk", "16"],
            Self::Drill => &["--set", PREEMPT_AFTER],
        }
    }

    pub(super) const fn manners(self) -> &'static [Manner] {
        match self {
            Self::Plain => &[Manner::Whole, Manner::Cached],
            Self::Chunks => &[Manner::Chunks],
            Self::Drill => &[Manner::Preempted],
        }
    }
}

/// How prompts are prefilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// In one piece.
    Whole,
    /// In chunks of 16.
    Chunks,
    /// Each choice gives its memory up once, in the middle of its output.
    Preempted,
    /// Asked twice; the second time finds the prompt's blocks.
    Cached,
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Whole => "whole",
            Self::Chunks => "chunks of 16",
            Self::Preempted => "preempted once",
            Self::Cached => "prefix cached",
        })
    }
}

/// By how much the counters of a cluster grew.
struct Growth(BTreeMap<String, u64>);

impl Growth {
    fn of(&self, name: &str) -> Result<u64> {
        self.0
            .get(name)
            .copied()
            .with_context(|| format!("no worker counts {name}"))
    }

    fn is(&self, name: &str, wanted: u64) -> Result<()> {
        let found = self.of(name)?;
        ensure!(
            found == wanted,
            "{name}: {found}, not {wanted} as it must be"
        );
        Ok(())
    }

    fn is_at_least(&self, name: &str, wanted: u64) -> Result<()> {
        let found = self.of(name)?;
        ensure!(found >= wanted, "{name}: {found}, not at least {wanted}");
        Ok(())
    }
}

impl Manner {
    /// Fills one cell: asks every prompt, compares ids, and looks at the counters. Gives what is worth a note.
    pub(super) fn judge(
        self,
        running: &Running,
        door: Door,
        reference: &Reference,
    ) -> Result<String> {
        let salt = format!("{door} {self}");
        if self == Self::Cached {
            self.ask_all(running, door, reference, &salt)?;
        }
        let before = running.counters()?;
        let cached = self.ask_all(running, door, reference, &salt)?;
        let growth = running.counters()?.into_iter().map(|(name, after)| {
            let grown = after - before.get(&name).copied().unwrap_or_default();
            (name, grown)
        });
        let growth = Growth(growth.collect());
        self.prove(running, reference, &growth)?;
        self.note(reference, &growth, &cached)
    }

    /// Asks every prompt once; gives the cached tokens of each, as the client is told.
    fn ask_all(
        self,
        running: &Running,
        door: Door,
        reference: &Reference,
        salt: &str,
    ) -> Result<Vec<u64>> {
        let ask = |case: &Case| {
            let body = json!({
                "model": reference.checkpoint,
                "prompt": case.prompt,
                "max_tokens": case.greedy.len(),
                "temperature": 0,
                "ignore_eos": true,
                "return_token_ids": true,
                "cache_salt": salt,
            });
            let answer = door
                .ask(running, &body)
                .with_context(|| case.name.clone())?;
            let found = ids(&answer["choices"][0]["token_ids"])?;
            let wanted = &case.greedy;
            ensure!(
                found == *wanted,
                "{}: ids {found:?}, not {wanted:?}",
                case.name
            );
            cached_of(&answer)
        };
        reference.cases.iter().map(ask).collect()
    }

    /// The counters show what the cell names, and nothing else.
    fn prove(self, running: &Running, reference: &Reference, growth: &Growth) -> Result<()> {
        let prompts = reference.cases.len() as u64;
        let chunks = reference.sum(|c| (c.prompt.len().div_ceil(CHUNK_TOKENS) - 1) as u64);
        growth.is("chunks", if self == Self::Chunks { chunks } else { 0 })?;
        growth.is(
            "preemptions",
            if self == Self::Preempted { prompts } else { 0 },
        )?;
        match self {
            Self::Cached => growth.is_at_least("cached_tokens", reference.sum(Case::cacheable))?,
            Self::Whole | Self::Chunks => growth.is("cached_tokens", 0)?,
            Self::Preempted => {} // a resumed choice may find its own blocks
        }
        growth.is("fallbacks", 0)?;
        growth.is("step_failures", 0)?;
        if !running.setting.is_disaggregated() {
            growth.is("blocks_taken", 0)?;
            return growth.is("fabric_bytes_in", 0);
        }
        match self {
            Self::Cached => growth.is_at_least("blocks_taken", prompts)?,
            Self::Whole | Self::Chunks | Self::Preempted => {
                growth.is("blocks_taken", reference.sum(Case::blocks))?;
            }
        }
        growth.is_at_least("fabric_bytes_in", growth.of("blocks_taken")?)
    }

    /// What happened in numbers, and which prompts were too short for it.
    fn note(self, reference: &Reference, growth: &Growth, cached: &[u64]) -> Result<String> {
        let mut note = format!(
            "{} chunks, {} preemptions, {} cached tokens, {} blocks taken, {} bytes over the fabric",
            growth.of("chunks")?,
            growth.of("preemptions")?,
            growth.of("cached_tokens")?,
            growth.of("blocks_taken")?,
            growth.of("fabric_bytes_in")?,
        );
        let short: Vec<&str> = match self {
            Self::Whole | Self::Preempted => Vec::new(),
            Self::Chunks => names(reference, |c| c.prompt.len() <= CHUNK_TOKENS),
            Self::Cached => names(reference, |c| c.cacheable() == 0),
        };
        if self == Self::Cached {
            for (case, cached) in reference.cases.iter().zip(cached) {
                let wanted = case.cacheable();
                ensure!(
                    *cached >= wanted,
                    "{}: {cached} cached tokens, not {wanted}",
                    case.name
                );
            }
        }
        if !short.is_empty() {
            note.push_str(&format!("; too short for it: {}", short.join(", ")));
        }
        Ok(note)
    }
}

fn names(reference: &Reference, which: impl Fn(&Case) -> bool) -> Vec<&str> {
    reference
        .cases
        .iter()
        .filter(|c| which(c))
        .map(|c| c.name.as_str())
        .collect()
}

/// What an answer says about the cache; a client that is told nothing was served nothing.
fn cached_of(answer: &Value) -> Result<u64> {
    let usage = &answer["usage"];
    ensure!(usage.is_object(), "no usage in {answer}");
    Ok(usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap_or_default())
}

const _: () = assert!(
    CHUNK_TOKENS.is_multiple_of(BLOCK_TOKENS),
    "a chunk fills whole blocks"
);
