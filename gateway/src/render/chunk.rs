//! A stream's chunks, one JSON object an event.
//!
//! Keeps which choices have begun, and where in the text each one is; nothing else.

use super::{
    Dialect, Style,
    logprobs::{self, Logprobs},
    shape::{Body, ChatDelta, Delta, TextChoice, UsageBody, json},
};
use crate::assemble::{Event, Finish, Token, Usage};

/// Renders a stream.
#[derive(Debug)]
pub struct Chunks {
    style: Style,
    choices: Vec<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    begun: bool,
    offset: usize,
}

impl Chunks {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let choices = vec![Progress::default(); style.choices];
        Self { style, choices }
    }

    /// The chunk for an event, if it needs one.
    pub fn chunk(&mut self, event: &Event) -> Option<Vec<u8>> {
        match event {
            Event::Delta {
                choice,
                text,
                tokens,
            } => self.delta(*choice, text, tokens),
            Event::Finish { choice, reason } => Some(self.finish(*choice, *reason)),
            Event::Done(usage) => self.style.include_usage.then(|| self.usage(*usage)),
            Event::Failed(error) => Some(error.to_json()),
        }
    }

    fn delta(&mut self, choice: usize, text: &str, tokens: &[Token]) -> Option<Vec<u8>> {
        let tells = !tokens.is_empty() && (self.style.logprobs || self.style.token_ids);
        if text.is_empty() && !tells {
            return None;
        }
        let logprobs = self.logprobs(choice, tokens);
        let ids = self
            .style
            .token_ids
            .then(|| tokens.iter().map(|token| token.id).collect());
        Some(self.write(choice, Some(text), logprobs, None, ids))
    }

    fn finish(&mut self, choice: usize, reason: Finish) -> Vec<u8> {
        let text = match self.style.dialect {
            Dialect::Chat => None,
            Dialect::Completion => Some(""),
        };
        self.write(choice, text, None, Some(reason.as_str()), None)
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

    fn write(
        &mut self,
        index: usize,
        text: Option<&str>,
        logprobs: Option<Logprobs>,
        finish_reason: Option<&'static str>,
        token_ids: Option<Vec<u32>>,
    ) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.choices[index].begun, true);
        let usage = self.style.include_usage.then_some(None);
        match self.style.dialect {
            Dialect::Chat => {
                let role = first.then_some("assistant");
                let content = text.or(first.then_some(""));
                let delta = Delta { role, content };
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
                let text = text.unwrap_or_default();
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
