//! From what the core delivers to what a client may see: tokens become text, stops are cut, usage is summed.
//!
//! Pure: fed by whoever owns the channels, it appends to a list. It never knows how an answer is shown.

mod event;
mod hold;
mod speech;

use std::sync::Arc;

use bus_schemas::{ChoiceEnd, EndReason, IncompleteReason, Item, Outcome, Record, Stops};
use engine::text::{Detokenizer, TextModel};

pub use self::{
    event::{Event, Finish, Part, Token, Usage, append},
    speech::Markup,
};
use self::{hold::Hold, speech::Speech};
use crate::{backend::StreamEvent, error::ApiError};

/// What an answer is made of, fixed when the request is accepted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's name, for errors.
    pub model: String,
    /// Its text side.
    pub text: Arc<TextModel>,
    /// What ends a choice.
    pub stops: Stops,
    /// Tokens of each prompt.
    pub prompt_tokens: Vec<u64>,
    /// Choices of each prompt.
    pub choices: usize,
    /// The end of the text keeps the stop string, or the text of the stop id.
    pub include_stop: bool,
    /// The text goes on after the prompt's, rather than being one of its own.
    pub continues: bool,
    /// Text of the prompts, to be shown first.
    pub echo: Option<Vec<String>>,
    /// How thoughts and calls are marked, if they are.
    pub markup: Option<Arc<Markup>>,
}

/// The answer to one request while it grows.
#[derive(Debug)]
pub struct Assembly {
    plan: Plan,
    choices: Vec<Choice>,
    /// Prompts that have no outcome yet.
    running: Vec<bool>,
    /// Cached tokens of each prompt: the last word counts.
    cached: Vec<u64>,
    completion_tokens: u64,
    reasoning_tokens: u64,
}

#[derive(Debug)]
struct Choice {
    detokenizer: Detokenizer,
    hold: Hold,
    speech: Speech,
    ended: bool,
}

impl Assembly {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let prompts = plan.prompt_tokens.len();
        let detokenizer = if plan.continues {
            plan.text.continuation()
        } else {
            plan.text.detokenizer()
        };
        let choice = |index| Choice {
            detokenizer: detokenizer.clone(),
            hold: Hold::default(),
            speech: Speech::new(index, plan.markup.as_ref()),
            ended: false,
        };
        Self {
            choices: (0..prompts * plan.choices).map(choice).collect(),
            running: vec![true; prompts],
            cached: vec![0; prompts],
            completion_tokens: 0,
            reasoning_tokens: 0,
            plan,
        }
    }

    /// What is shown before anything was generated.
    pub fn open(&mut self, out: &mut Vec<Event>) {
        let Some(prompts) = self.plan.echo.take() else {
            return;
        };
        for choice in 0..self.choices.len() {
            let text = prompts[choice / self.plan.choices].clone();
            append(
                out,
                Event::Delta {
                    choice,
                    part: Part::Content,
                    text,
                    tokens: Vec::new(),
                },
            );
        }
    }

    /// Takes what happened to one prompt; `None` means that its channel closed without an outcome.
    pub fn feed(&mut self, prompt: usize, event: Option<StreamEvent>, out: &mut Vec<Event>) {
        match event {
            Some(StreamEvent::Items {
                items,
                cached_tokens,
            }) => {
                self.cached[prompt] = u64::from(cached_tokens);
                for item in items {
                    self.item(prompt, item, out);
                }
            }
            Some(StreamEvent::Ended {
                outcome,
                retry_after_ms,
            }) => {
                self.ended(prompt, outcome, retry_after_ms, out);
            }
            None => out.push(Event::Failed(ApiError::internal())),
        }
    }

    /// Tokens so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.plan.prompt_tokens.iter().sum(),
            completion_tokens: self.completion_tokens,
            cached_tokens: self.cached.iter().sum(),
            reasoning_tokens: self.reasoning_tokens,
        }
    }

    fn item(&mut self, prompt: usize, item: Item, out: &mut Vec<Event>) {
        let within = match &item {
            Item::Token(record) => record.choice,
            Item::End(end) => end.choice,
        };
        let index = prompt * self.plan.choices + usize::from(within);
        let known = usize::from(within) < self.plan.choices && !self.choices[index].ended;
        if !known {
            tracing::error!(within, "the core delivered for a choice that is not open");
            return;
        }
        match item {
            Item::Token(record) => self.token(index, record, out),
            Item::End(ChoiceEnd { reason, .. }) => self.end(index, &reason, out),
        }
    }

    fn token(&mut self, index: usize, record: Record, out: &mut Vec<Event>) {
        self.completion_tokens += 1;
        let stops = &self.plan.stops;
        let model_end = !stops.ignore_eos && self.plan.text.end_ids().contains(&record.id);
        let may_end = model_end || stops.ids.contains(&record.id);
        let choice = &mut self.choices[index];
        let text = choice
            .hold
            .push(choice.detokenizer.push(record.id), may_end, &stops.strings);
        let Record {
            id, logprob, top, ..
        } = record;
        let (tokens, shown) = (vec![Token { id, logprob, top }], String::new());
        let (choice, part) = (index, Part::Content);
        append(
            out,
            Event::Delta {
                choice,
                part,
                text: shown,
                tokens,
            },
        );
        let speech = &mut self.choices[index].speech;
        let thought = speech.is_thinking();
        speech.push(text, out);
        self.reasoning_tokens += u64::from(thought || speech.is_thinking());
    }

    fn end(&mut self, index: usize, reason: &EndReason, out: &mut Vec<Event>) {
        let include = self.plan.include_stop;
        let choice = &mut self.choices[index];
        let (text, reason) = match reason {
            EndReason::StopId(_) => (
                choice.hold.end_by_id(include) + &choice.detokenizer.finish(),
                Finish::Stop,
            ),
            EndReason::StopString(which) => {
                let stop = self.plan.stops.strings.get(usize::from(*which));
                let stop = stop.map_or("", String::as_str);
                (choice.hold.end_by_string(stop, include), Finish::Stop)
            }
            EndReason::Length => (
                choice.hold.release() + &choice.detokenizer.finish(),
                Finish::Length,
            ),
        };
        self.finish(index, text, reason, out);
    }

    fn finish(&mut self, index: usize, text: String, reason: Finish, out: &mut Vec<Event>) {
        let choice = &mut self.choices[index];
        choice.ended = true;
        choice.speech.finish(text, out);
        let reason = match reason {
            Finish::Stop if choice.speech.has_called() => Finish::ToolCalls,
            reason => reason,
        };
        out.push(Event::Finish {
            choice: index,
            reason,
        });
    }

    fn ended(
        &mut self,
        prompt: usize,
        outcome: Outcome,
        retry_after_ms: Option<u32>,
        out: &mut Vec<Event>,
    ) {
        match outcome {
            Outcome::Completed => self.complete(prompt, out),
            Outcome::Incomplete(IncompleteReason::Deadline) => {
                self.show_all(out);
                out.push(Event::Failed(ApiError::deadline()));
            }
            Outcome::Failed(reason) => {
                let error = ApiError::failed(reason, &self.plan.model, retry_after_ms);
                out.push(Event::Failed(error));
            }
            Outcome::Cancelled => out.push(Event::Failed(ApiError::cancelled())),
        }
    }

    /// Every choice of the prompt gets its end, also one whose end was never told.
    fn complete(&mut self, prompt: usize, out: &mut Vec<Event>) {
        let first = prompt * self.plan.choices;
        for index in first..first + self.plan.choices {
            let choice = &mut self.choices[index];
            if !choice.ended {
                let text = choice.hold.release() + &choice.detokenizer.finish();
                self.finish(index, text, Finish::Stop, out);
            }
        }
        self.running[prompt] = false;
        if !self.running.contains(&true) {
            out.push(Event::Done(self.usage()));
        }
    }

    /// Shows what was held back: no stop string can complete it any more.
    fn show_all(&mut self, out: &mut Vec<Event>) {
        for choice in self.choices.iter_mut().filter(|choice| !choice.ended) {
            choice.speech.finish(choice.hold.release(), out);
        }
    }
}
