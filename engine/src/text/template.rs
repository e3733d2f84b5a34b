//! Chat templates: Jinja as the Hugging Face libraries run it, with bounds on time and size.
//!
//! A template sees the messages, the tools, the model's special tokens and the client's own arguments. It
//! reads no files, and nothing that it does outlives one rendering.

use std::{
    error::Error as _,
    fmt,
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use logic::parse::Format;
use minijinja::{
    Environment, Error, ErrorKind, State,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde, Value},
};
use serde::Serialize;
use serde_json::{
    Map,
    ser::{Formatter, PrettyFormatter, Serializer},
};

use super::{TextError, strftime::strftime};

/// Work of one rendering: thousands of messages fit, and it bounds memory to some 256 MB and time to a second.
const FUEL: u64 = 4_000_000;
/// Largest prompt in bytes: more than the tokens of the longest context.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Names of the compiled templates.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// What a prompt is made of.
#[derive(Clone, Copy, Debug)]
pub struct ChatInput<'a> {
    /// The messages, as the client sent them.
    pub messages: &'a serde_json::Value,
    /// The tools it offers.
    pub tools: Option<&'a serde_json::Value>,
    /// Whether the prompt ends where the assistant's turn begins.
    pub add_generation_prompt: bool,
    /// The client's own arguments to the template.
    pub kwargs: &'a Map<String, serde_json::Value>,
}

/// Text of a model's templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateSource {
    /// For all cases that have none of their own.
    pub(super) default: String,
    /// For requests with tools.
    pub(super) tool_use: Option<String>,
}

impl TemplateSource {
    pub(super) fn plain(text: &str) -> Self {
        Self {
            default: text.to_owned(),
            tool_use: None,
        }
    }
}

/// A compiled template with the special tokens that it may name.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
    format: Option<&'static Format>,
}

impl ChatTemplate {
    /// Compiles a model's templates.
    pub(super) fn compile(
        source: TemplateSource,
        special_tokens: Vec<(String, String)>,
    ) -> Result<Self, TextError> {
        let mut environment = environment();
        let tool_use = source.tool_use.as_deref().unwrap_or_default();
        let format = Format::of_template(&[&source.default, tool_use].concat());
        let named = [(DEFAULT, Some(source.default)), (TOOL_USE, source.tool_use)];
        for (name, text) in named
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)))
        {
            environment
                .add_template_owned(name, text)
                .map_err(explain)?;
        }
        Ok(Self {
            environment,
            special_tokens,
            format,
        })
    }

    /// How it teaches its model to mark what it means.
    pub(super) const fn format(&self) -> Option<&'static Format> {
        self.format
    }

    /// Makes the prompt.
    pub(super) fn render(&self, input: &ChatInput) -> Result<String, TextError> {
        let tool_use = input
            .tools
            .and_then(|_| self.environment.get_template(TOOL_USE).ok());
        let template = match tool_use {
            Some(template) => template,
            None => self.environment.get_template(DEFAULT).map_err(explain)?,
        };
        let mut output = Bounded {
            bytes: Vec::new(),
            full: false,
        };
        let result = template.render_captured_to(self.variables(input), &mut output);
        if output.full {
            return Err(TextError::TemplateTooLong(OUTPUT_BYTES_MAX));
        }
        result.map_err(explain)?;
        String::from_utf8(output.bytes).map_err(|e| TextError::Template(e.to_string()))
    }

    /// Special tokens first, the client's own arguments over them, and what no client may replace last.
    fn variables(&self, input: &ChatInput) -> Value {
        let tokens = self
            .special_tokens
            .iter()
            .map(|(k, v)| (k.as_str(), Value::from(v.as_str())));
        let own = input
            .kwargs
            .iter()
            .map(|(k, v)| (k.as_str(), Value::from(Serde(v))));
        let fixed = [
            ("messages", Value::from(Serde(input.messages))),
            (
                "tools",
                input
                    .tools
                    .map_or(Value::from(()), |tools| Value::from(Serde(tools))),
            ),
            ("documents", Value::from(())),
            (
                "add_generation_prompt",
                Value::from(input.add_generation_prompt),
            ),
        ];
        Value::from_pairs(tokens.chain(own).chain(fixed))
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// What a template says when it refuses its input.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
}

fn strftime_now(format: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    strftime(format, now.as_secs())
}

/// JSON as Python writes it: spaces after separators, nothing escaped that need not be.
fn tojson(
    state: &State,
    value: Value,
    indent: Option<usize>,
    args: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => args.get("indent")?,
    };
    let _: Option<bool> = args.get("ensure_ascii")?;
    args.assert_all_used()?;
    let text = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(INDENT_MAX));
            to_json(&value, PrettyFormatter::with_indent(spaces.as_bytes()))
        }
        None => to_json(&value, Spaced),
    }?;
    state.consume_fuel(text.len() as u64 / FUEL_BYTES)?;
    Ok(Value::from(text))
}

/// Widest indentation; wider ones are of no use and cost memory.
const INDENT_MAX: usize = 16;
/// Bytes that one unit of fuel pays for, as in the template engine itself.
const FUEL_BYTES: u64 = 64;

fn to_json(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let fail = |e: String| Error::new(ErrorKind::BadSerialization, e);
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|e| fail(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| fail(e.to_string()))
}

/// One line, a space after each comma and colon.
struct Spaced;

impl Spaced {
    fn separate<W: ?Sized + Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Takes bytes up to a bound.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full = self.bytes.len() + bytes.len() > OUTPUT_BYTES_MAX;
        if self.full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The template's own words if it raised, else what went wrong and in which line.
fn explain(error: Error) -> TextError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TextError::TemplateRaised(message.clone());
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TextError::TemplateFuel,
        _ => TextError::Template(error.to_string()),
    }
}
