//! From logits to a token, reproducibly: the same logits, draw and key give the same id, wherever and whenever.
//!
//! The order of operations: penalties (repetition, then frequency and presence), bias, bans; at temperature 0 the
//! highest logit wins; else temperature, min-p, top-k, top-p, and one draw. Equal logits rank by the
//! lower id. Log-probabilities are of the unmodified distribution. Nothing here keeps state between draws, and
//! nothing draws from a generator that does: the number comes from (seed, choice, position).

mod philox;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use bus_schemas::Sampling;
use logic::batch::{Draw, Drawn, History};

use crate::model::exp;

/// Candidates that are sorted first when looking for a nucleus: real ones are rarely larger.
const NUCLEUS_FIRST: usize = 256;

/// Why nothing could be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The forward gave garbage.
    #[error("the logits are not finite; the weights or the keys and values are damaged")]
    NotFinite,
}

/// An id that may be drawn.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    /// Relative to the highest logit, divided by the temperature.
    logit: f32,
    /// e^logit, so 1 for the most likely.
    weight: f32,
}

/// Scratch for draws over one vocabulary.
#[derive(Debug)]
pub struct Sampler {
    adjusted: Vec<f32>,
    /// For each id, how often the output has it; zero between draws.
    counts: Vec<u32>,
    candidates: Vec<Candidate>,
    ranked: Vec<u32>,
}

impl Sampler {
    /// A sampler for logits of `vocab` ids.
    #[must_use]
    pub fn new(vocab: usize) -> Self {
        Self {
            adjusted: Vec::with_capacity(vocab),
            counts: vec![0; vocab],
            candidates: Vec::with_capacity(vocab),
            ranked: Vec::with_capacity(vocab),
        }
    }

    /// Draws one token. Ids in `draw` lie inside the vocabulary, bans excepted, and not all ids are banned.
    ///
    /// # Errors
    /// [`SampleError::NotFinite`] if a logit is infinite or not a number, or becomes so.
    pub fn draw(&mut self, logits: &[f32], draw: &Draw) -> Result<Drawn, SampleError> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(SampleError::NotFinite);
        }
        self.adjust(logits, draw);
        if !self.adjusted[highest(&self.adjusted) as usize].is_finite() {
            return Err(SampleError::NotFinite);
        }
        let id = if draw.sampling.temperature == 0.0 {
            highest(&self.adjusted)
        } else {
            self.choose(draw)
        };
        Ok(self.report(logits, id, draw.sampling.logprobs))
    }

    /// Penalties, bias, bans.
    fn adjust(&mut self, logits: &[f32], draw: &Draw) {
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        let sampling = &*draw.sampling;
        if let Some(history) = &draw.history
            && sampling.needs_history()
        {
            self.penalise(sampling, history);
        }
        for (id, bias) in &sampling.logit_bias {
            self.adjusted[*id as usize] += bias;
        }
        for id in &*draw.banned {
            if let Some(logit) = self.adjusted.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn penalise(&mut self, sampling: &Sampling, history: &History) {
        /// Set in a count once the id's penalties were paid; no output is as long.
        const PAID: u32 = 1 << 31;
        for id in &history.output {
            self.counts[*id as usize] += 1;
        }
        for id in history.prompt.iter().chain(&history.output) {
            let id = *id as usize;
            let count = self.counts[id];
            if count & PAID != 0 {
                continue;
            }
            self.counts[id] |= PAID;
            let logit = &mut self.adjusted[id];
            *logit = if *logit > 0.0 {
                *logit / sampling.repetition_penalty
            } else {
                *logit * sampling.repetition_penalty
            };
            if count > 0 {
                *logit -= sampling.frequency_penalty * count as f32 + sampling.presence_penalty;
            }
        }
        for id in history.prompt.iter().chain(&history.output) {
            self.counts[*id as usize] = 0;
        }
    }

    /// Temperature, min-p, top-k, top-p, and one draw over what is left, in the order of ids.
    fn choose(&mut self, draw: &Draw) -> u32 {
        let sampling = &*draw.sampling;
        let top = self.adjusted[highest(&self.adjusted) as usize];
        self.candidates.clear();
        self.candidates.extend(
            self.adjusted
                .iter()
                .zip(0..)
                .filter(|(logit, _)| logit.is_finite())
                .map(|(logit, id)| {
                    let logit = (logit - top) / sampling.temperature;
                    let weight = exp(logit);
                    Candidate { id, logit, weight }
                })
                .filter(|candidate| candidate.weight >= sampling.min_p),
        );
        keep_top(&mut self.candidates, sampling.top_k);
        keep_nucleus(&mut self.candidates, sampling.top_p);
        let mass = mass(&self.candidates);
        let mut left = philox::uniform(sampling.seed, draw.choice, draw.position) * mass;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding may leave a crumb; it belongs to the last.
        self.candidates.last().map_or(0, |candidate| candidate.id)
    }

    /// The drawn id with the log-probabilities that were asked for.
    fn report(&mut self, logits: &[f32], id: u32, alternatives: Option<u8>) -> Drawn {
        let Some(alternatives) = alternatives else {
            return Drawn {
                id,
                logprob: 0.0,
                top: Vec::new(),
            };
        };
        let peak = logits[highest(logits) as usize];
        let sum: f64 = logits.iter().map(|l| f64::from(exp(l - peak))).sum();
        let logprob = |id: u32| (f64::from(logits[id as usize] - peak) - sum.ln()) as f32;
        let count = usize::from(alternatives).min(logits.len());
        let best = |a: &u32, b: &u32| rank((logits[*a as usize], *a), (logits[*b as usize], *b));
        self.ranked.clear();
        self.ranked.extend(0..logits.len() as u32);
        if count < self.ranked.len() {
            self.ranked.select_nth_unstable_by(count, best);
            self.ranked.truncate(count);
        }
        self.ranked.sort_unstable_by(best);
        Drawn {
            id,
            logprob: logprob(id),
            top: self.ranked.iter().map(|id| (*id, logprob(*id))).collect(),
        }
    }
}

/// Higher logits first, then lower ids.
fn rank(a: (f32, u32), b: (f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn rank_candidates(a: &Candidate, b: &Candidate) -> Ordering {
    rank((a.logit, a.id), (b.logit, b.id))
}

/// The lowest of the ids with the highest logit.
fn highest(logits: &[f32]) -> u32 {
    let better = |best: (u32, f32), (id, logit): (u32, &f32)| {
        if *logit > best.1 { (id, *logit) } else { best }
    };
    (0..).zip(logits).fold((0, f32::NEG_INFINITY), better).0
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| f64::from(c.weight)).sum()
}

/// Leaves the `k` most likely; 0 is off.
fn keep_top(candidates: &mut Vec<Candidate>, k: u32) {
    let k = k as usize;
    if k == 0 || k >= candidates.len() {
        return;
    }
    candidates.select_nth_unstable_by(k, rank_candidates);
    candidates.truncate(k);
    candidates.sort_unstable_by_key(|candidate| candidate.id);
}

/// Leaves the fewest most likely that together have at least the share `p`; 1 is off.
fn keep_nucleus(candidates: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 || candidates.len() < 2 {
        return;
    }
    let wanted = mass(candidates) * f64::from(p);
    let mut sorted = NUCLEUS_FIRST;
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, rank_candidates);
        } else {
            sorted = candidates.len();
        }
        candidates[..sorted].sort_unstable_by(rank_candidates);
        let mut held = 0.0;
        let enough = candidates[..sorted].iter().position(|candidate| {
            held += f64::from(candidate.weight);
            held >= wanted
        });
        if let Some(last) = enough {
            candidates.truncate(last + 1);
            break;
        }
        if sorted == candidates.len() {
            break;
        }
        sorted *= 4;
    }
    candidates.sort_unstable_by_key(|candidate| candidate.id);
}
