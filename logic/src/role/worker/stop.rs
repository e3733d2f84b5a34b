//! When a choice ends by itself: end ids, stop strings, length.
//!
//! Looks at bytes, never at tokens' boundaries: a stop string may begin in one token and end in another.

use bus_schemas::{EndReason, Stops, limits::STOP_STRING_BYTES_MAX};

use crate::text::Vocabulary;

/// Watches the text of one choice.
#[derive(Debug, Default)]
pub(super) struct StopScan {
    /// The last bytes of the text, enough for a stop string to straddle.
    tail: Vec<u8>,
}

/// Limits of one choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    /// Tokens of output, this one included.
    pub(super) output: u32,
    /// Most tokens of output.
    pub(super) output_max: u32,
    /// Tokens of prompt and output.
    pub(super) total: u32,
    /// Most tokens of prompt and output.
    pub(super) total_max: u32,
}

impl StopScan {
    /// Takes one more token and says whether the choice ends with it.
    pub(super) fn push(
        &mut self,
        id: u32,
        stops: &Stops,
        vocabulary: &dyn Vocabulary,
        length: Length,
    ) -> Option<EndReason> {
        let early = length.output < stops.min_tokens;
        let model_end = !stops.ignore_eos && vocabulary.end_ids().contains(&id);
        if !early && (model_end || stops.ids.contains(&id)) {
            return Some(EndReason::StopId(id));
        }
        if let Some(index) = self.scan(id, stops, vocabulary)
            && !early
        {
            return Some(EndReason::StopString(index));
        }
        let full = length.output >= length.output_max || length.total >= length.total_max;
        full.then_some(EndReason::Length)
    }

    /// The stop string that the new token completes: the one that ends first, of those the lowest.
    fn scan(&mut self, id: u32, stops: &Stops, vocabulary: &dyn Vocabulary) -> Option<u16> {
        if stops.strings.is_empty() {
            return None;
        }
        let before = self.tail.len();
        vocabulary.append_bytes(id, &mut self.tail);
        let hit = (before + 1..=self.tail.len()).find_map(|end| {
            let text = &self.tail[..end];
            (0u16..)
                .zip(&stops.strings)
                .find(|(_, s)| text.ends_with(s.as_bytes()))
                .map(|(i, _)| i)
        });
        let keep = self.tail.len().min(STOP_STRING_BYTES_MAX);
        self.tail.drain(..self.tail.len() - keep);
        hit
    }
}
