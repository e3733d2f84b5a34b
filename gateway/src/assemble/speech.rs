//! One choice's text, told apart: content, thoughts, and calls of tools that were offered.
//!
//! The parser says what is written; here it is decided what of it counts. Never shows a call that nobody offered.

use std::sync::Arc;

use logic::parse::{Format, Parser, Piece, Reason, State};

use super::event::{Event, Part, append};

/// How a model marks what it means, and what it may call.
#[derive(Clone, Debug)]
pub struct Markup {
    /// The family's markers.
    pub format: &'static Format,
    /// Where the prompt left off.
    pub begins: State,
    /// Names of the tools that were offered.
    pub offered: Vec<String>,
    /// More than one call counts.
    pub parallel: bool,
    /// Begins the ids of calls; no other answer has it.
    pub id: String,
}

/// What a choice says.
#[derive(Debug)]
pub(super) struct Speech {
    choice: usize,
    /// Without one, all is content.
    spoken: Option<(Parser, Arc<Markup>)>,
    /// Calls that count.
    calls: usize,
}

impl Speech {
    pub(super) fn new(choice: usize, markup: Option<&Arc<Markup>>) -> Self {
        let spoken = markup.map(|markup| {
            let parser = Parser::new(markup.format, markup.begins);
            (parser, Arc::clone(markup))
        });
        Self {
            choice,
            spoken,
            calls: 0,
        }
    }

    pub(super) fn is_thinking(&self) -> bool {
        let parser = self.spoken.as_ref().map(|(parser, _)| parser);
        parser.is_some_and(Parser::is_thinking)
    }

    pub(super) const fn has_called(&self) -> bool {
        self.calls > 0
    }

    /// Takes more of the text.
    pub(super) fn push(&mut self, text: String, out: &mut Vec<Event>) {
        let Some((parser, _)) = &mut self.spoken else {
            return self.say(Part::Content, text, out);
        };
        let mut pieces = Vec::new();
        parser.push(&text, &mut pieces);
        self.tell(pieces, out);
    }

    /// Takes the rest of it.
    pub(super) fn finish(&mut self, rest: String, out: &mut Vec<Event>) {
        self.push(rest, out);
        if let Some((parser, _)) = &mut self.spoken {
            let mut pieces = Vec::new();
            parser.finish(&mut pieces);
            self.tell(pieces, out);
        }
    }

    fn tell(&mut self, pieces: Vec<Piece>, out: &mut Vec<Event>) {
        for piece in pieces {
            match piece {
                Piece::Content(text) => self.say(Part::Content, text, out),
                Piece::Thought(text) => self.say(Part::Thought, text, out),
                Piece::Call { call, bytes } => match self.refused(&call.name) {
                    Some(reason) => out.push(Event::Dropped { reason, bytes }),
                    None => self.call(call.name, call.arguments, out),
                },
                Piece::Dropped { reason, bytes } => {
                    let reason = match reason {
                        Reason::Markup => continue,
                        Reason::Malformed => "malformed",
                        Reason::Truncated => "truncated",
                        Reason::TooLarge => "too_large",
                    };
                    out.push(Event::Dropped { reason, bytes });
                }
            }
        }
    }

    /// Why a call does not count.
    fn refused(&self, name: &str) -> Option<&'static str> {
        let (_, markup) = self.spoken.as_ref()?;
        if !markup.offered.iter().any(|offered| offered == name) {
            Some("not_offered")
        } else if self.calls > 0 && !markup.parallel {
            Some("not_parallel")
        } else {
            None
        }
    }

    fn call(&mut self, name: String, arguments: String, out: &mut Vec<Event>) {
        let (choice, index) = (self.choice, self.calls);
        let begin = self.spoken.as_ref().map_or("", |(_, markup)| &markup.id);
        let id = format!("call_{begin}_{choice}_{index}");
        self.calls += 1;
        out.push(Event::CallBegins {
            choice,
            index,
            id,
            name,
        });
        out.push(Event::CallArguments {
            choice,
            index,
            text: arguments,
        });
    }

    fn say(&self, part: Part, text: String, out: &mut Vec<Event>) {
        if !text.is_empty() {
            let (choice, tokens) = (self.choice, Vec::new());
            append(
                out,
                Event::Delta {
                    choice,
                    part,
                    text,
                    tokens,
                },
            );
        }
    }
}
