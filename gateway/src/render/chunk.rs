//! A stream's chunks, one JSON object an event.
//!
//! Keeps which choices have begun, where in the text each one is, and what all chunks of mere text have in common,
//! which is rendered once; nothing else.

use super::{
    Dialect, Style,
    logprobs::{self, Logprobs},
    shape::{
        Body, CallDelta, ChatDelta, Delta, FUNCTION, FunctionDelta, TextChoice, UsageBody, json,
    },
};
use crate::assemble::{Event, Finish, Part, Token, Usage};

/// Renders a stream.
#[derive(Debug)]
pub struct Chunks {
    style: Style,
    choices: Vec<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    begun: bool,
    /// It said something: text, a thought or a call.
    spoken: bool,
    offset: usize,
    /// Of the chunks after the first.
    mould: Option<Mould>,
}

/// A chunk of mere text, but for the text.
#[derive(Clone, Debug)]
struct Mould {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Mould {
    /// Cuts the empty text out of a chunk. Within a JSON text a quote never stands alone, so nothing else can look like it.
    fn of(chunk: &[u8], empty: &[u8]) -> Option<Self> {
        let at = chunk.windows(empty.len()).rposition(|part| part == empty)?;
        let (head, tail) = chunk.split_at(at + empty.len() - EMPTY_BYTES);
        Some(Self {
            head: head.to_vec(),
            tail: tail[EMPTY_BYTES..].to_vec(),
        })
    }

    fn cast(&self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        serde_json::to_writer(&mut *out, text).expect("any text is JSON");
        out.extend_from_slice(&self.tail);
    }
}

/// The two quotes of an empty text.
const EMPTY_BYTES: usize = 2;

impl Chunks {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let choices = vec![Progress::default(); style.choices];
        Self { style, choices }
    }

    /// The chunk for an event, if it needs one.
    pub fn chunk(&mut self, event: &Event) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.write(event, &mut out).then_some(out)
    }

    /// Appends the chunk for an event; false if it needs none.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) -> bool {
        match event {
            Event::Delta {
                choice,
                part,
                text,
                tokens,
            } => return self.delta(*choice, *part, text, tokens, out),
            Event::CallBegins {
                choice,
                index,
                id,
                name,
            } => out.extend(self.call(*choice, *index, Some((id, name)), "")),
            Event::CallArguments {
                choice,
                index,
                text,
            } => out.extend(self.call(*choice, *index, None, text)),
            Event::Dropped { .. } => return false,
            Event::Finish { choice, reason } => out.extend(self.finish(*choice, *reason)),
            Event::Done(usage) if self.style.include_usage => out.extend(self.usage(*usage)),
            Event::Done(_) => return false,
            Event::Failed(error) => out.extend(error.to_json()),
        }
        true
    }

    fn delta(
        &mut self,
        choice: usize,
        part: Part,
        text: &str,
        tokens: &[Token],
        out: &mut Vec<u8>,
    ) -> bool {
        let tells = self.style.logprobs || self.style.token_ids;
        if text.is_empty() && (!tells || tokens.is_empty()) {
            return false;
        }
        if !tells && part == Part::Content && self.choices[choice].begun {
            self.mould(choice).cast(text, out);
            return true;
        }
        let logprobs = self.logprobs(choice, tokens);
        let ids = self
            .style
            .token_ids
            .then(|| tokens.iter().map(|token| token.id).collect());
        let delta = match part {
            // a chunk of mere tokens says nothing: there may never be content
            Part::Content => Delta {
                content: Some(text).filter(|text| !text.is_empty()),
                ..Delta::default()
            },
            Part::Thought => Delta {
                reasoning_content: Some(text),
                ..Delta::default()
            },
        };
        out.extend(self.full(choice, delta, logprobs, None, ids));
        true
    }

    fn mould(&mut self, choice: usize) -> &Mould {
        let mould = self.choices[choice].mould.take().unwrap_or_else(|| {
            let empty: &[u8] = match self.style.dialect {
                Dialect::Chat => br#""content":"""#,
                Dialect::Completion => br#""text":"""#,
            };
            let chunk = self.full(choice, content(""), None, None, None);
            Mould::of(&chunk, empty).expect("a chunk of an empty text has one")
        });
        self.choices[choice].mould.insert(mould)
    }

    fn finish(&mut self, choice: usize, reason: Finish) -> Vec<u8> {
        let delta = if self.choices[choice].spoken {
            Delta::default()
        } else {
            content("")
        };
        self.full(choice, delta, None, Some(reason.as_str()), None)
    }

    /// The beginning of a call, or its arguments.
    fn call(
        &mut self,
        choice: usize,
        index: usize,
        begins: Option<(&str, &str)>,
        arguments: &str,
    ) -> Vec<u8> {
        let call = CallDelta {
            index,
            id: begins.map(|(id, _)| id),
            kind: begins.map(|_| FUNCTION),
            function: FunctionDelta {
                name: begins.map(|(_, name)| name),
                arguments,
            },
        };
        let delta = Delta {
            tool_calls: Some([call]),
            ..Delta::default()
        };
        self.full(choice, delta, None, None, None)
    }

    fn usage(&self, usage: Usage) -> Vec<u8> {
        json(&self.body::<()>(&[], Some(Some(usage.into()))))
    }

    fn logprobs(&mut self, choice: usize, tokens: &[Token]) -> Option<Logprobs> {
        if !self.style.logprobs || tokens.is_empty() {
            return None;
        }
        let (text, offset) = (&self.style.text, &mut self.choices[choice].offset);
        Some(match self.style.dialect {
            Dialect::Chat => logprobs::chat(tokens, text),
            Dialect::Completion => logprobs::lists(tokens, text, offset),
        })
    }

    fn full(
        &mut self,
        index: usize,
        delta: Delta<'_>,
        logprobs: Option<Logprobs>,
        finish_reason: Option<&'static str>,
        token_ids: Option<Vec<u32>>,
    ) -> Vec<u8> {
        let progress = &mut self.choices[index];
        let first = !std::mem::replace(&mut progress.begun, true);
        progress.spoken |= delta.says_something();
        let usage = self.style.include_usage.then_some(None);
        match self.style.dialect {
            Dialect::Chat => {
                let role = first.then_some("assistant");
                let delta = Delta { role, ..delta };
                let choice = ChatDelta {
                    index,
                    delta,
                    logprobs,
                    finish_reason,
                    token_ids,
                };
                json(&self.body(&[choice], usage))
            }
            Dialect::Completion => {
                let text = delta.content.unwrap_or_default();
                let choice = TextChoice {
                    index,
                    text,
                    logprobs,
                    finish_reason,
                    token_ids,
                };
                json(&self.body(&[choice], usage))
            }
        }
    }

    fn body<'a, C>(&'a self, choices: &'a [C], usage: Option<Option<UsageBody>>) -> Body<'a, C> {
        let object = match self.style.dialect {
            Dialect::Chat => "chat.completion.chunk",
            Dialect::Completion => "text_completion",
        };
        let Style {
            id, model, created, ..
        } = &self.style;
        Body {
            id,
            object,
            created: *created,
            model,
            choices,
            usage,
        }
    }
}

/// Text for the user.
fn content(text: &str) -> Delta<'_> {
    Delta {
        content: Some(text),
        ..Delta::default()
    }
}
