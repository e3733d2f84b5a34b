//! What a checkpoint must say: prompts and greedy ids of its `expected.json`. It computes nothing.

use anyhow::{Context, Result};
use serde_json::Value;
use thalamus_tests::up::repository;

/// Tokens of a block, as the clusters of this test are started.
pub(super) const BLOCK_TOKENS: usize = 16;

/// One prompt and its ids.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) prompt: Vec<u32>,
    pub(super) greedy: Vec<u32>,
}

impl Case {
    /// Blocks that hold the prompt.
    pub(super) fn blocks(&self) -> u64 {
        self.prompt.len().div_ceil(BLOCK_TOKENS) as u64
    }

    /// Prompt tokens that a cache can serve: whole blocks, and one token at least is always run.
    pub(super) fn cacheable(&self) -> u64 {
        ((self.prompt.len() - 1) / BLOCK_TOKENS * BLOCK_TOKENS) as u64
    }
}

/// Everything that a checkpoint must say.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) checkpoint: &'static str,
    pub(super) cases: Vec<Case>,
}

impl Reference {
    pub(super) fn of(checkpoint: &'static str) -> Result<Self> {
        let path = repository()
            .join("tests/checkpoints")
            .join(checkpoint)
            .join("expected.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let expected: Value = serde_json::from_str(&text)?;
        let cases = expected["cases"]
            .as_array()
            .context("expected.json has cases")?;
        let cases = cases.iter().map(case).collect::<Result<_>>()?;
        Ok(Self { checkpoint, cases })
    }

    /// A sum over the cases.
    pub(super) fn sum(&self, of: impl Fn(&Case) -> u64) -> u64 {
        self.cases.iter().map(of).sum()
    }
}

fn case(value: &Value) -> Result<Case> {
    Ok(Case {
        name: value["name"]
            .as_str()
            .context("a case has a name")?
            .to_owned(),
        prompt: ids(&value["prompt_ids"])?,
        greedy: ids(&value["greedy_ids"])?,
    })
}

/// Token ids of a JSON list.
pub(super) fn ids(value: &Value) -> Result<Vec<u32>> {
    serde_json::from_value(value.clone()).with_context(|| format!("not token ids: {value}"))
}
