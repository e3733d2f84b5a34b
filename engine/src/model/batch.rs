//! A step plan cut into batches of bounded size: rows end to end, long rows in several batches.
//!
//! Cutting changes no result, because no row's result depends on chunks. It bounds the forward's scratch, whatever
//! a plan holds. Buffers are reused.

use logic::batch::StepPlan;

/// Tokens that run together: the activations of a wide layer still fit the caches, and weights are read seldom enough.
pub(super) const BATCH_TOKENS: usize = 256;

/// Consecutive tokens of one row within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index of the row in the plan.
    pub(super) row: usize,
    /// Index of its first token in the batch.
    pub(super) at: usize,
    /// How many tokens.
    pub(super) count: usize,
    /// Position of the first.
    pub(super) start: usize,
    /// Whether the row's last token is among them.
    pub(super) last: bool,
}

/// Tokens to run together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) tokens: Vec<u32>,
    pub(super) segments: Vec<Segment>,
    /// For each token, the index of its segment.
    pub(super) segment_of: Vec<usize>,
}

impl Batch {
    /// Takes the next tokens of `plan` after `cursor`, a row and a place in it. False at the end of the plan.
    pub(super) fn refill(&mut self, plan: &StepPlan, cursor: &mut (usize, usize)) -> bool {
        self.tokens.clear();
        self.segments.clear();
        self.segment_of.clear();
        while self.tokens.len() < BATCH_TOKENS && cursor.0 < plan.rows.len() {
            let (index, from) = *cursor;
            let row = &plan.rows[index];
            let room = BATCH_TOKENS - self.tokens.len();
            let to = row.tokens.len().min(from + room);
            self.segments.push(Segment {
                row: index,
                at: self.tokens.len(),
                count: to - from,
                start: row.start as usize + from,
                last: to == row.tokens.len(),
            });
            self.tokens.extend_from_slice(&row.tokens[from..to]);
            self.segment_of
                .resize(self.tokens.len(), self.segments.len() - 1);
            *cursor = if to == row.tokens.len() {
                (index + 1, 0)
            } else {
                (index, to)
            };
        }
        !self.tokens.is_empty()
    }

    /// Position of the token at `index`.
    pub(super) fn position(&self, index: usize) -> usize {
        let segment = &self.segments[self.segment_of[index]];
        segment.start + index - segment.at
    }
}

#[cfg(test)]
mod tests {
    use logic::batch::Row;

    use super::*;

    #[test]
    fn batches_are_full_and_hold_every_token_once_in_order() {
        let lengths = [3usize, 600, 1, 252, 256, 2];
        let row = |(i, n): (usize, &usize)| Row {
            start: 10 * i as u32,
            tokens: (0..*n as u32).collect(),
            blocks: Vec::new(),
            draws: Vec::new(),
        };
        let plan = StepPlan {
            rows: lengths.iter().enumerate().map(row).collect(),
            ..StepPlan::default()
        };
        let (mut batch, mut cursor, mut sizes) = (Batch::default(), (0, 0), Vec::new());
        let mut seen = vec![Vec::new(); lengths.len()];
        let mut ended = 0;
        while batch.refill(&plan, &mut cursor) {
            sizes.push(batch.tokens.len());
            for (i, token) in batch.tokens.iter().enumerate() {
                let segment = batch.segments[batch.segment_of[i]];
                assert_eq!(batch.position(i), 10 * segment.row + *token as usize);
                seen[segment.row].push(*token);
            }
            ended += batch.segments.iter().filter(|s| s.last).count();
        }
        assert_eq!(sizes, [256, 256, 256, 256, 90]);
        assert_eq!(ended, lengths.len());
        assert!(
            plan.rows
                .iter()
                .zip(&seen)
                .all(|(row, seen)| row.tokens == *seen)
        );
    }
}
