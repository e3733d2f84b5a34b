//! The families, as data: which marker leads from which state to which, and how a call is written.
//!
//! Nothing here runs. A further family is a further table, and rules that tell it by its template.

use super::Call;

/// What is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For the user.
    Content,
    /// For the model itself.
    Thought,
    /// A call of a tool.
    Call,
}

/// A marker that counts in one state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) from: State,
    pub(super) marker: &'static str,
    pub(super) to: State,
}

/// How a family of models marks what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    pub(super) rows: &'static [Row],
    /// Keys of the object that a call is.
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
}

/// Opens and closes a thought.
const THINK: &str = "<think>";
const THOUGHT: &str = "</think>";
/// Opens and closes a call.
const CALL: &str = "<tool_call>";
const CALLED: &str = "</tool_call>";

/// A lone closing marker is markup too, and leads nowhere.
const ROWS: [Row; 6] = [
    row(State::Content, THINK, State::Thought),
    row(State::Content, THOUGHT, State::Content),
    row(State::Thought, THOUGHT, State::Content),
    row(State::Content, CALL, State::Call),
    row(State::Content, CALLED, State::Content),
    row(State::Call, CALLED, State::Content),
];

/// Rows of [`ROWS`] that are about thoughts; the rest is about calls.
const THINKING: usize = 3;

/// Thoughts and calls: Qwen3 and Hermes that thinks.
static BOTH: Format = hermes(&ROWS);
/// Thoughts only.
static THOUGHTS: Format = hermes(ROWS.split_at(THINKING).0);
/// Calls only: Qwen2.5 and the first Hermes models.
static CALLS: Format = hermes(ROWS.split_at(THINKING).1);

const fn row(from: State, marker: &'static str, to: State) -> Row {
    Row { from, marker, to }
}

const fn hermes(rows: &'static [Row]) -> Format {
    Format {
        rows,
        name: "name",
        arguments: "arguments",
    }
}

impl Format {
    /// The format that a chat template teaches its model; none if it knows no markers of ours.
    #[must_use]
    pub fn of_template(template: &str) -> Option<&'static Self> {
        let has = |text: &str| template.contains(text);
        // other families put the same marker around calls that are no JSON
        let others = has("<function=") || has("<arg_key>");
        let calls = has(CALL) && has("arguments") && has("tools") && !others;
        match (has(THOUGHT), calls) {
            (true, true) => Some(&BOTH),
            (true, false) => Some(&THOUGHTS),
            (false, true) => Some(&CALLS),
            (false, false) => None,
        }
    }

    /// Whether calls can be told from text.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.rows.iter().any(|row| row.to == State::Call)
    }

    /// Whether thoughts can be told from text.
    #[must_use]
    pub fn has_thoughts(&self) -> bool {
        self.rows.iter().any(|row| row.to == State::Thought)
    }

    /// Where an answer to this prompt begins: within a thought if the template opened one.
    #[must_use]
    pub fn begins(&self, prompt: &str) -> State {
        let thinks = self.rows.iter().filter(|row| row.to == State::Thought);
        let prompt = prompt.trim_end();
        let opened = thinks.map(|row| row.marker).any(|m| prompt.ends_with(m));
        if opened {
            State::Thought
        } else {
            State::Content
        }
    }

    /// A call as the model would write it.
    #[must_use]
    pub fn render(&self, call: &Call) -> String {
        let marker = |found: Option<&Row>| found.map_or("", |row| row.marker);
        let open = marker(self.rows.iter().find(|row| row.to == State::Call));
        let close = marker(self.rows.iter().find(|row| row.from == State::Call));
        let name = serde_json::Value::from(call.name.as_str());
        let Self {
            name: n,
            arguments: a,
            ..
        } = self;
        format!(
            "{open}\n{{\"{n}\": {name}, \"{a}\": {}}}\n{close}",
            call.arguments
        )
    }

    pub(super) fn rows(&self, from: State) -> impl Iterator<Item = &'static Row> {
        self.rows.iter().filter(move |row| row.from == from)
    }
}
