//! From what was asked to what can be submitted: the model, the prompt's ids, limits, the seed.
//!
//! Runs off the async threads. It refuses what cannot fit the model's context; whether a worker has room is
//! the core's to say.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bus_schemas::{RequestId, RequestSpec, Trace, limits::PROMPT_TOKENS_MAX};
use engine::text::{ChatInput, TextError, TextModel};
use logic::parse::{Format, State};
use uuid::Uuid;

use crate::{
    ask::{self, Ask, ChatAsk, Common, CompletionAsk, Conversation, Parsed, Prompt},
    assemble::{Markup, Plan},
    backend::ModelEntry,
    doors::{Caller, Kind},
    error::ApiError,
    json, models,
    render::{Dialect, Style},
};

/// Tokens of a completion whose client said nothing: OpenAI's own default.
const COMPLETION_TOKENS: u32 = 16;
/// No text has more bytes a token than this, so a longer one need not be tokenised to be refused.
const TOKEN_BYTES_MAX: usize = 256;

/// A request that can be submitted.
#[derive(Debug)]
pub struct Prepared {
    /// One for each prompt.
    pub specs: Vec<RequestSpec>,
    /// How the answer is put together.
    pub plan: Plan,
    /// How it is shown.
    pub style: Style,
    /// In chunks.
    pub stream: bool,
    /// Fields that nobody read.
    pub ignored: Vec<String>,
}

/// A prompt, ready.
struct Ready {
    ids: Vec<u32>,
    /// Its text, if the answer begins with it.
    echo: Option<String>,
    /// What the answer begins with.
    begins: State,
}

/// Prepares a body.
///
/// # Errors
/// The request is wrong, or does not fit the model.
pub fn prepare(
    kind: Kind,
    body: &[u8],
    caller: &Caller,
    models: Vec<ModelEntry>,
) -> Result<Prepared, ApiError> {
    let object = json::object(body)?;
    let Parsed { ask, ignored } = match kind {
        Kind::Chat => wrap(ask::parse_chat(object)?, Ask::Chat),
        Kind::Completion => wrap(ask::parse_completion(object)?, Ask::Completion),
    };
    let token = caller.model_token.as_deref();
    let model = models::choose(models, ask.common().model.as_deref(), token)?;
    check(ask.common(), &model.text)?;
    let prompts = match &ask {
        Ask::Chat(ask) => vec![chat_prompt(ask, &model.text)?],
        Ask::Completion(ask) => completion_prompts(ask, &model.text)?,
    };
    let specs = specs(kind, ask.common(), &prompts, caller, &model)?;
    let markup = markup(&ask, &prompts, &specs, &model.text);
    let plan = plan(kind, ask.common(), prompts, markup, &model);
    let style = style(kind, ask.common(), &specs, &model);
    Ok(Prepared {
        specs,
        plan,
        style,
        stream: ask.common().output.stream,
        ignored,
    })
}

/// Ids of a conversation, through the model's template.
///
/// # Errors
/// The template refuses it.
pub fn conversation_ids(
    conversation: &Conversation,
    add_special: bool,
    text: &TextModel,
) -> Result<Vec<u32>, ApiError> {
    let prompt = conversation_text(conversation, text)?;
    encode(&prompt, add_special, text, "messages")
}

/// The prompt that the model's template makes of a conversation.
fn conversation_text(conversation: &Conversation, text: &TextModel) -> Result<String, ApiError> {
    let calls = text.format().is_some_and(Format::has_calls);
    if conversation.offer.tools.is_some() && !calls {
        let message = "the model's chat template does not teach it calls of a form that is known here; leave tools out";
        return Err(ApiError {
            code: "unsupported_parameter",
            ..ApiError::field("tools", message)
        });
    }
    let rendered = text.render_chat(&ChatInput {
        messages: &conversation.messages,
        tools: conversation.offer.tools.as_ref(),
        add_generation_prompt: conversation.add_generation_prompt,
        kwargs: &conversation.kwargs,
    });
    rendered.map_err(|error| text_error(&error, "messages"))
}

/// Ids of a text that may fit the context.
///
/// # Errors
/// It cannot fit, or cannot be tokenised.
pub fn encode(
    prompt: &str,
    add_special: bool,
    text: &TextModel,
    param: &str,
) -> Result<Vec<u32>, ApiError> {
    let bytes_max = (text.context_tokens() as usize).saturating_mul(TOKEN_BYTES_MAX);
    if prompt.len() > bytes_max {
        let (bytes, context) = (prompt.len(), text.context_tokens());
        let message = format!(
            "the model's context is {context} tokens; a prompt of {bytes} bytes cannot fit"
        );
        return Err(ApiError::context(message, param));
    }
    text.encode(prompt, add_special)
        .map_err(|error| text_error(&error, param))
}

/// An error of the text side, as the client may see it.
#[must_use]
pub fn text_error(error: &TextError, param: &str) -> ApiError {
    if error.is_bad_request() {
        return ApiError::field(param, error.to_string());
    }
    tracing::error!(%error, "the text side of a model failed");
    ApiError::internal()
}

fn wrap<T>(parsed: Parsed<T>, kind: fn(T) -> Ask) -> Parsed<Ask> {
    Parsed {
        ask: kind(parsed.ask),
        ignored: parsed.ignored,
    }
}

/// Ids that the model does not have.
fn check(common: &Common, text: &TextModel) -> Result<(), ApiError> {
    let checked = |ids: &[u32], param| {
        text.check_ids(ids)
            .map_err(|error| text_error(&error, param))
    };
    checked(&common.stops.ids, "stop_token_ids")?;
    let biased: Vec<u32> = common
        .sampling
        .logit_bias
        .iter()
        .map(|(id, _)| *id)
        .collect();
    checked(&biased, "logit_bias")
}

fn chat_prompt(ask: &ChatAsk, text: &TextModel) -> Result<Ready, ApiError> {
    // the template writes the special tokens itself
    let prompt = conversation_text(&ask.conversation, text)?;
    let begins = text.format().map(|format| format.begins(&prompt));
    Ok(Ready {
        ids: encode(&prompt, false, text, "messages")?,
        echo: None,
        begins: begins.unwrap_or(State::Content),
    })
}

fn completion_prompts(ask: &CompletionAsk, text: &TextModel) -> Result<Vec<Ready>, ApiError> {
    let echo = ask.common.output.echo;
    let ready = |prompt: &Prompt| match prompt {
        Prompt::Text(prompt) => Ok(Ready {
            ids: encode(prompt, true, text, "prompt")?,
            echo: echo.then(|| prompt.clone()),
            begins: State::Content,
        }),
        Prompt::Ids(ids) => {
            text.check_ids(ids)
                .map_err(|error| text_error(&error, "prompt"))?;
            Ok(Ready {
                ids: ids.clone(),
                echo: echo.then(|| text.decode(ids, true)),
                begins: State::Content,
            })
        }
    };
    ask.prompts.iter().map(ready).collect()
}

fn specs(
    kind: Kind,
    common: &Common,
    prompts: &[Ready],
    caller: &Caller,
    model: &ModelEntry,
) -> Result<Vec<RequestSpec>, ApiError> {
    let mut sampling = common.sampling.clone();
    sampling.seed = match common.seed {
        Some(seed) => seed,
        None => draw()?,
    };
    let ids: Vec<_> = prompts
        .iter()
        .map(|_| RequestId(Uuid::now_v7().as_u128()))
        .collect();
    // prompts of one body are one trace, whoever began it
    let trace = match ids.first() {
        Some(first) if caller.trace == Trace::default() => Trace::of(*first),
        _ => caller.trace,
    };
    let spec = |(prompt, request): (&Ready, RequestId)| {
        let max_tokens = max_tokens(kind, common, prompt.ids.len(), &model.text)?;
        if common.stops.min_tokens > max_tokens {
            let message = format!("min_tokens must be at most max_tokens, here {max_tokens}");
            return Err(ApiError::field("min_tokens", message));
        }
        Ok(RequestSpec {
            request,
            model: model.name.clone(),
            tenant: caller.tenant.clone(),
            salt: common.salt.clone(),
            prompt: prompt.ids.clone(),
            choices: common.choices,
            sampling: sampling.clone(),
            stops: common.stops.clone(),
            max_tokens,
            priority: common.priority.saturating_add(caller.priority),
            trace,
        })
    };
    prompts.iter().zip(ids).map(spec).collect()
}

fn draw() -> Result<u64, ApiError> {
    getrandom::u64().map_err(|error| {
        tracing::error!(%error, "the operating system gives no random numbers");
        ApiError::internal()
    })
}

/// Most tokens of a choice, so that they fit the context with the prompt.
fn max_tokens(
    kind: Kind,
    common: &Common,
    prompt_tokens: usize,
    text: &TextModel,
) -> Result<u32, ApiError> {
    let param = match kind {
        Kind::Chat => "messages",
        Kind::Completion => "prompt",
    };
    let context = text.context_tokens();
    if prompt_tokens == 0 {
        return Err(ApiError::field(
            param,
            format!("{param} has no tokens; give at least one"),
        ));
    }
    let fits = u32::try_from(prompt_tokens)
        .ok()
        .filter(|_| prompt_tokens <= PROMPT_TOKENS_MAX);
    let room = fits.map_or(0, |tokens| context.saturating_sub(tokens));
    if room == 0 {
        let message = format!(
            "the model's context is {context} tokens; the prompt has {prompt_tokens} and leaves no \
             room for output; shorten it"
        );
        return Err(ApiError::context(message, param));
    }
    match (common.max_tokens, kind) {
        (Some(wanted), _) if wanted > room => {
            let message = format!(
                "the model's context is {context} tokens; the prompt has {prompt_tokens} and \
                 max_tokens asks for {wanted} more; shorten one of them"
            );
            Err(ApiError::context(message, param))
        }
        (Some(wanted), _) => Ok(wanted),
        (None, Kind::Chat) => Ok(room),
        (None, Kind::Completion) => Ok(room.min(COMPLETION_TOKENS)),
    }
}

/// How the answer to a chat is told apart; that of a completion is plain text.
fn markup(
    ask: &Ask,
    prompts: &[Ready],
    specs: &[RequestSpec],
    text: &TextModel,
) -> Option<Arc<Markup>> {
    let Ask::Chat(ask) = ask else {
        return None;
    };
    let (prompt, spec, format) = (prompts.first()?, specs.first()?, text.format()?);
    let offer = &ask.conversation.offer;
    Some(Arc::new(Markup {
        format,
        begins: prompt.begins,
        offered: offer.names.clone(),
        parallel: offer.parallel,
        id: spec.request.to_string(),
    }))
}

fn plan(
    kind: Kind,
    common: &Common,
    prompts: Vec<Ready>,
    markup: Option<Arc<Markup>>,
    model: &ModelEntry,
) -> Plan {
    let tokens = |prompt: &Ready| u64::try_from(prompt.ids.len()).unwrap_or(u64::MAX);
    Plan {
        model: model.name.clone(),
        text: model.text.clone(),
        stops: common.stops.clone(),
        prompt_tokens: prompts.iter().map(tokens).collect(),
        choices: usize::from(common.choices),
        include_stop: common.output.include_stop,
        continues: kind == Kind::Completion,
        echo: prompts.into_iter().map(|prompt| prompt.echo).collect(),
        markup,
    }
}

fn style(kind: Kind, common: &Common, specs: &[RequestSpec], model: &ModelEntry) -> Style {
    let (dialect, prefix) = match kind {
        Kind::Chat => (Dialect::Chat, "chatcmpl"),
        Kind::Completion => (Dialect::Completion, "cmpl"),
    };
    let request = specs.first().map_or(RequestId(0), |spec| spec.request);
    Style {
        dialect,
        id: format!("{prefix}-{request}"),
        model: model.name.clone(),
        created: unix_seconds(),
        text: model.text.clone(),
        choices: specs.len() * usize::from(common.choices),
        logprobs: common.output.logprobs,
        token_ids: common.output.token_ids,
        include_usage: common.output.include_usage,
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
