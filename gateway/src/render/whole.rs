//! An answer as one body: the events, collected.
//!
//! Adds nothing that a stream would not have said.

use super::{
    Dialect, Style, logprobs,
    shape::{
        Body, CallBody, ChatChoice, FUNCTION, FunctionBody, Message, TextChoice, UsageBody, json,
    },
};
use crate::{
    assemble::{Event, Finish, Part, Token, Usage},
    error::ApiError,
};

/// Collects an answer.
#[derive(Debug)]
pub struct Whole {
    style: Style,
    choices: Vec<Collected>,
}

#[derive(Clone, Debug, Default)]
struct Collected {
    text: String,
    thought: String,
    calls: Vec<CallBody>,
    tokens: Vec<Token>,
    finish: Option<Finish>,
}

impl Whole {
    /// Nothing was collected yet.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let choices = vec![Collected::default(); style.choices];
        Self { style, choices }
    }

    /// Takes an event; after the last one gives the body, or why there is none.
    pub fn push(&mut self, event: Event) -> Option<Result<Vec<u8>, ApiError>> {
        match event {
            Event::Delta {
                choice,
                part,
                text,
                tokens,
            } => {
                let collected = &mut self.choices[choice];
                match part {
                    Part::Content => collected.text.push_str(&text),
                    Part::Thought => collected.thought.push_str(&text),
                }
                if self.style.logprobs || self.style.token_ids {
                    collected.tokens.extend(tokens);
                }
                None
            }
            Event::CallBegins {
                choice, id, name, ..
            } => {
                let arguments = String::new();
                self.choices[choice].calls.push(CallBody {
                    id,
                    kind: FUNCTION,
                    function: FunctionBody { name, arguments },
                });
                None
            }
            Event::CallArguments {
                choice,
                index,
                text,
            } => {
                let call = self.choices[choice].calls.get_mut(index);
                call.expect("a call begins first").function.arguments += &text;
                None
            }
            Event::Dropped { .. } => None,
            Event::Finish { choice, reason } => {
                self.choices[choice].finish = Some(reason);
                None
            }
            Event::Done(usage) => Some(Ok(self.body(usage))),
            Event::Failed(error) => Some(Err(error)),
        }
    }

    fn body(&self, usage: Usage) -> Vec<u8> {
        let usage = Some(Some(usage.into()));
        match self.style.dialect {
            Dialect::Chat => {
                let choices: Vec<_> = self.indexed().map(|(i, c)| self.chat(i, c)).collect();
                json(&self.frame("chat.completion", &choices, usage))
            }
            Dialect::Completion => {
                let choices: Vec<_> = self.indexed().map(|(i, c)| self.text(i, c)).collect();
                json(&self.frame("text_completion", &choices, usage))
            }
        }
    }

    fn indexed(&self) -> impl Iterator<Item = (usize, &Collected)> {
        self.choices.iter().enumerate()
    }

    fn chat<'a>(&self, index: usize, collected: &'a Collected) -> ChatChoice<'a> {
        let Collected {
            text,
            thought,
            calls,
            tokens,
            finish,
        } = collected;
        let silent = text.is_empty() && !(thought.is_empty() && calls.is_empty());
        ChatChoice {
            index,
            message: Message {
                role: "assistant",
                content: (!silent).then_some(text),
                refusal: None,
                reasoning_content: thought,
                tool_calls: calls,
            },
            logprobs: self
                .style
                .logprobs
                .then(|| logprobs::chat(tokens, &self.style.text)),
            finish_reason: finish.map(Finish::as_str),
            token_ids: self.token_ids(tokens),
        }
    }

    fn text<'a>(&self, index: usize, collected: &'a Collected) -> TextChoice<'a> {
        let Collected {
            text,
            tokens,
            finish,
            ..
        } = collected;
        let lists = || logprobs::lists(tokens, &self.style.text, &mut 0);
        TextChoice {
            index,
            text,
            logprobs: self.style.logprobs.then(lists),
            finish_reason: finish.map(Finish::as_str),
            token_ids: self.token_ids(tokens),
        }
    }

    fn token_ids(&self, tokens: &[Token]) -> Option<Vec<u32>> {
        self.style
            .token_ids
            .then(|| tokens.iter().map(|token| token.id).collect())
    }

    fn frame<'a, C>(
        &'a self,
        object: &'static str,
        choices: &'a [C],
        usage: Option<Option<UsageBody>>,
    ) -> Body<'a, C> {
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
