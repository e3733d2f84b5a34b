//! Text that may not be shown yet: it may become a stop string, or it is the text of a token that may end the choice.
//!
//! The worker alone decides where a choice ends; here text is only kept back until that is known, and
//! cut there. Never keeps more than the longest stop string and one token's text.

/// The unshown end of one choice's text.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Unshown text.
    pending: String,
    /// How much of it was there before the last token: a stop string must end in the last token.
    before: usize,
    /// All of the last token's text waits, because its id may end the choice.
    last_waits: bool,
}

impl Hold {
    /// Takes a token's text and gives what may be shown now.
    pub(super) fn push(&mut self, text: &str, may_end: bool, stops: &[String]) -> String {
        self.before = self.pending.len();
        self.pending.push_str(text);
        self.last_waits = may_end;
        let limit = if may_end {
            self.before
        } else {
            self.pending.len()
        };
        let shown = self
            .first_doubt(stops)
            .map_or(limit, |doubt| doubt.min(limit));
        self.before -= shown.min(self.before);
        self.pending.drain(..shown).collect()
    }

    /// The choice ended otherwise: everything may be shown.
    pub(super) fn release(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }

    /// The choice ended with the id of the last token, whose text is shown only if `include`.
    pub(super) fn end_by_id(&mut self, include: bool) -> String {
        if !include && self.last_waits {
            self.pending.truncate(self.before);
        }
        self.release()
    }

    /// The choice ended where `stop` first appeared; it is shown only if `include`.
    pub(super) fn end_by_string(&mut self, stop: &str, include: bool) -> String {
        if let Some(start) = self.completed(stop) {
            let end = if include { start + stop.len() } else { start };
            self.pending.truncate(end);
        }
        self.release()
    }

    /// Where the first stop string that ends within the last token begins.
    fn completed(&self, stop: &str) -> Option<usize> {
        let earliest = (self.before + 1).saturating_sub(stop.len());
        let starts = self.pending.char_indices().map(|(at, _)| at);
        starts
            .filter(|at| *at >= earliest)
            .find(|at| self.pending[*at..].starts_with(stop))
    }

    /// Where the first text begins that is a stop string, or may become one.
    fn first_doubt(&self, stops: &[String]) -> Option<usize> {
        stops
            .iter()
            .filter_map(|stop| self.completed(stop).or_else(|| self.begun(stop)))
            .min()
    }

    /// Where the longest end of the text begins that `stop` may go on from.
    fn begun(&self, stop: &str) -> Option<usize> {
        let earliest = (self.pending.len() + 1).saturating_sub(stop.len());
        let starts = self.pending.char_indices().map(|(at, _)| at);
        starts
            .filter(|at| *at >= earliest)
            .find(|at| stop.starts_with(&self.pending[*at..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    /// What is shown after each token.
    fn shown(tokens: &[&str], list: &[&str]) -> (Hold, Vec<String>) {
        let (mut hold, stops) = (Hold::default(), stops(list));
        let shown = tokens
            .iter()
            .map(|text| hold.push(text, false, &stops))
            .collect();
        (hold, shown)
    }

    #[test]
    fn without_stops_everything_is_shown_at_once() {
        let (mut hold, shown) = shown(&["a", "", "bé"], &[]);
        assert_eq!(shown, ["a", "", "bé"]);
        assert_eq!(hold.release(), "");
    }

    #[test]
    fn what_may_become_a_stop_waits_and_comes_back() {
        let (_, shown) = shown(&["xEN", "DX", "EN", "y"], &["END!"]);
        assert_eq!(shown, ["x", "ENDX", "", "ENy"]);
    }

    #[test]
    fn the_text_is_cut_where_the_stop_begins() {
        let (mut hold, shown) = shown(&["abEN", "D and more"], &["END"]);
        assert_eq!(shown, ["ab", ""]);
        assert_eq!(hold.end_by_string("END", false), "");
        let (mut hold, _) = self::shown(&["abEN", "D and more"], &["END"]);
        assert_eq!(hold.end_by_string("END", true), "END");
        let (mut hold, shown) = self::shown(&["one END two"], &["END"]);
        assert_eq!(
            (shown[0].as_str(), hold.end_by_string("END", false).as_str()),
            ("one ", "")
        );
    }

    #[test]
    fn a_stop_that_did_not_end_the_choice_is_shown_and_not_found_again() {
        // the worker went on, because min_tokens was not reached
        let (mut hold, shown) = shown(&["END", "x", "END"], &["END"]);
        assert_eq!(shown, ["", "ENDx", ""]);
        assert_eq!(hold.end_by_string("END", false), "");
        let (mut hold, shown) = self::shown(&["END", "", "ND"], &["NDND"]);
        assert_eq!(shown, ["E", "", ""]);
        assert_eq!(hold.end_by_string("NDND", true), "NDND");
    }

    #[test]
    fn the_earliest_of_several_stops_counts() {
        let (_, shown) = shown(&["abcde"], &["de", "bc", "exx"]);
        assert_eq!(shown, ["a"]);
    }

    #[test]
    fn the_text_of_an_ending_id_waits_for_the_verdict() {
        let none = stops(&[]);
        let mut hold = Hold::default();
        assert_eq!(hold.push("a", false, &none), "a");
        assert_eq!(hold.push("</s>", true, &none), "");
        assert_eq!(hold.push("b", false, &none), "</s>b");
        assert_eq!(hold.push("</s>", true, &none), "");
        assert_eq!(hold.end_by_id(false), "");
        assert_eq!(hold.push("!", true, &none), "");
        assert_eq!(hold.end_by_id(true), "!");
    }

    #[test]
    fn an_ending_id_after_a_begun_stop_keeps_the_begun_part() {
        let list = stops(&["STOP"]);
        let mut hold = Hold::default();
        assert_eq!(hold.push("aST", false, &list), "a");
        assert_eq!(hold.push("</s>", true, &list), "ST");
        assert_eq!(hold.end_by_id(false), "");
    }

    #[test]
    fn multibyte_text_is_never_split() {
        let (_, shown) = shown(&["日本", "語"], &["本語"]);
        assert_eq!(shown, ["日", ""]);
    }
}
