//! What a model's JSON files say about its text: limits, end ids, special tokens, chat template.
//!
//! Where files disagree, the one that Hugging Face's own libraries heed wins. A key with a value of the
//! wrong kind is an error that names it; unknown keys are none.

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::{TextError, template::TemplateSource};
use crate::card::{CardFiles, File, SCRIPT_TYPE};

/// A `model_max_length` from here on means "none": libraries write huge numbers for it.
const CONTEXT_SANE: f64 = 1e9;
/// Special tokens that a template may name.
const SPECIAL_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
];

/// All that the files say.
#[derive(Debug)]
pub(super) struct Facts {
    /// Name of the script, if the model is a scripted one.
    pub(super) script: Option<String>,
    pub(super) context_tokens: u32,
    pub(super) vocab_size: Option<u32>,
    pub(super) template: Option<TemplateSource>,
    /// Name and text of special tokens.
    pub(super) special_tokens: Vec<(String, String)>,
    end_ids: Option<Vec<u32>>,
    model: String,
}

impl Facts {
    /// Reads the files of a card.
    pub(super) fn read(files: &CardFiles) -> Result<Self, TextError> {
        let config = Json::read(files, File::Config)?;
        let generation = Json::read(files, File::GenerationConfig)?;
        let tokenizer = Json::read(files, File::TokenizerConfig)?;
        let end_ids = match generation.ids("eos_token_id")? {
            Some(ids) => Some(ids),
            None => config.ids("eos_token_id")?,
        };
        Ok(Self {
            script: config.script()?,
            context_tokens: context_tokens(&config, &tokenizer)?,
            vocab_size: config.count("vocab_size")?,
            template: template(files, &tokenizer)?,
            special_tokens: tokenizer.special_tokens(),
            end_ids,
            model: files.name().to_owned(),
        })
    }

    /// Ids that end a text: those that the files name, else that of the tokenizer's end token.
    pub(super) fn end_ids(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let named = || {
            let (_, text) = self
                .special_tokens
                .iter()
                .find(|(name, _)| name == "eos_token")?;
            tokenizer.token_to_id(text).map(|id| vec![id])
        };
        self.end_ids.clone().or_else(named).unwrap_or_else(|| {
            tracing::warn!(
                model = self.model,
                "no file names an end id: texts end by length only"
            );
            Vec::new()
        })
    }
}

/// The smaller of what the model and its tokenizer allow.
fn context_tokens(config: &Json, tokenizer: &Json) -> Result<u32, TextError> {
    let model = config.count("max_position_embeddings")?;
    let limit = tokenizer
        .values
        .get("model_max_length")
        .and_then(Value::as_f64);
    let sane = limit
        .filter(|n| (1.0..CONTEXT_SANE).contains(n))
        .map(|n| n as u32);
    let least = model.into_iter().chain(sane).min();
    least.ok_or_else(|| config.fail("it has no max_position_embeddings, so the context is unknown"))
}

/// The model's chat templates: a file of their own wins over the tokenizer's configuration.
fn template(files: &CardFiles, tokenizer: &Json) -> Result<Option<TemplateSource>, TextError> {
    if let Some(bytes) = files.get(File::ChatTemplate) {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| malformed(files.name(), File::ChatTemplate, &e.to_string()))?;
        return Ok(Some(TemplateSource::plain(text)));
    }
    match tokenizer.values.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(TemplateSource::plain(text))),
        Some(Value::Array(named)) => {
            let find = |name: &str| {
                let entry = named.iter().find(|entry| entry["name"] == name)?;
                entry["template"].as_str().map(str::to_owned)
            };
            let default = find("default")
                .ok_or_else(|| tokenizer.fail("its chat_template list has no default"))?;
            Ok(Some(TemplateSource {
                default,
                tool_use: find("tool_use"),
            }))
        }
        Some(_) => Err(tokenizer.fail("its chat_template is neither a text nor a list")),
    }
}

/// One JSON file.
struct Json {
    model: String,
    file: File,
    values: Map<String, Value>,
}

impl Json {
    /// The file, or an empty one if the model has none.
    fn read(files: &CardFiles, file: File) -> Result<Self, TextError> {
        let model = files.name().to_owned();
        let values = match files.get(file) {
            None => Map::new(),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|e| malformed(&model, file, &e.to_string()))?,
        };
        Ok(Self {
            model,
            file,
            values,
        })
    }

    /// A value, also from the text section of a model that has others.
    fn get(&self, key: &str) -> Option<&Value> {
        let section = self
            .values
            .get("text_config")
            .and_then(|text| text.get(key));
        self.values
            .get(key)
            .or(section)
            .filter(|value| !value.is_null())
    }

    /// A count of at least one.
    fn count(&self, key: &str) -> Result<Option<u32>, TextError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let count = value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0);
        match count {
            Some(count) => Ok(Some(count)),
            None => Err(self.fail(&format!("its {key} is no count: {value}"))),
        }
    }

    /// One id, or a list of them.
    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>, TextError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            single => one(single).map(|id| vec![id]),
        };
        match ids {
            Some(ids) => Ok(Some(ids)),
            None => Err(self.fail(&format!(
                "its {key} is neither an id nor a list of ids: {value}"
            ))),
        }
    }

    /// Name and text of the special tokens, which stand as texts or as objects with a content.
    fn special_tokens(&self) -> Vec<(String, String)> {
        let text = |name: &str| {
            let value = self.values.get(name)?;
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            Some((name.to_owned(), text.to_owned()))
        };
        SPECIAL_TOKENS.into_iter().filter_map(text).collect()
    }

    /// Name of the script, if this is the configuration of a scripted model.
    fn script(&self) -> Result<Option<String>, TextError> {
        if self.values.get("model_type").and_then(Value::as_str) != Some(SCRIPT_TYPE) {
            return Ok(None);
        }
        match self.values.get("script").and_then(Value::as_str) {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(self.fail("it names no script")),
        }
    }

    fn fail(&self, problem: &str) -> TextError {
        malformed(&self.model, self.file, problem)
    }
}

fn malformed(model: &str, file: File, problem: &str) -> TextError {
    TextError::Malformed {
        model: model.to_owned(),
        file: file.name(),
        problem: problem.to_owned(),
    }
}
