//! Which model is meant, and how the list of models looks.
//!
//! Knows names and subject tokens; never asks a worker.

use bus_schemas::subjects::model_token;
use logic::parse::Format;
use serde_json::{Value, json};

use crate::{
    backend::ModelEntry,
    error::{ApiError, quote},
};

/// The model that a request names in its body, by the token of its subject, or not at all.
///
/// # Errors
/// There is no such model, body and subject differ, or none is named and there are several.
pub fn choose(
    models: Vec<ModelEntry>,
    name: Option<&str>,
    token: Option<&str>,
) -> Result<ModelEntry, ApiError> {
    if let (Some(name), Some(token)) = (name, token)
        && model_token(name) != token
    {
        let message = format!(
            "the body names the model {}, the subject another",
            quote(name)
        );
        return Err(ApiError::field("model", message));
    }
    let named = |model: &ModelEntry| match (name, token) {
        (Some(name), _) => model.name == name,
        (None, Some(token)) => model_token(&model.name) == token,
        (None, None) => true,
    };
    let mut fitting = models.into_iter().filter(named);
    match (fitting.next(), fitting.next()) {
        (Some(model), None) => Ok(model),
        (Some(one), Some(other)) => Err(ApiError::field(
            "model",
            format!(
                "name a model, such as {} or {}",
                quote(&one.name),
                quote(&other.name)
            ),
        )),
        (None, _) => Err(missing(name.or(token))),
    }
}

fn missing(name: Option<&str>) -> ApiError {
    match name {
        Some(name) => ApiError::unknown_model(name),
        None => {
            let refused = bus_schemas::RefuseReason::NoCapacity;
            ApiError::refused(refused, "", 1000)
        }
    }
}

/// The body of `/v1/models`.
#[must_use]
pub fn list(models: &[ModelEntry]) -> Value {
    json!({ "object": "list", "data": models.iter().map(entry).collect::<Vec<_>>() })
}

/// Whether calls of tools and thoughts can be told from its text.
#[must_use]
pub fn speaks(model: &ModelEntry) -> (bool, bool) {
    let told = |has: fn(&Format) -> bool| model.text.format().is_some_and(has);
    (told(Format::has_calls), told(Format::has_thoughts))
}

/// The body of `/v1/models/{id}`.
#[must_use]
pub fn entry(model: &ModelEntry) -> Value {
    let (has_calls, has_thoughts) = speaks(model);
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "thalamus",
        "max_model_len": model.text.context_tokens(),
        "capabilities": {
            "completions": true,
            "chat": model.text.has_chat_template(),
            "stream": true,
            "logprobs": true,
            "tools": has_calls,
            "reasoning": has_thoughts,
            "images": false,
        },
        "ready": model.ready,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::text::TextModel;

    use super::*;

    fn models(names: &[&str]) -> Vec<ModelEntry> {
        let entry = |name: &&str| ModelEntry {
            name: (*name).to_owned(),
            text: Arc::new(TextModel::byte_level(name)),
            ready: true,
            created: 1,
        };
        names.iter().map(entry).collect()
    }

    fn chosen(names: &[&str], name: Option<&str>, token: Option<&str>) -> Result<String, u16> {
        choose(models(names), name, token)
            .map(|model| model.name)
            .map_err(|error| error.class.status())
    }

    #[test]
    fn the_only_model_need_not_be_named() {
        assert_eq!(chosen(&["a"], None, None), Ok("a".into()));
        assert_eq!(chosen(&["a", "b"], None, None), Err(400));
        assert_eq!(chosen(&[], None, None), Err(503));
    }

    #[test]
    fn body_and_subject_must_agree() {
        let both = ["org/m.1", "m"];
        assert_eq!(chosen(&both, Some("m"), None), Ok("m".into()));
        assert_eq!(chosen(&both, None, Some("org%2Fm_1")), Ok("org/m.1".into()));
        assert_eq!(
            chosen(&both, Some("org/m.1"), Some("org%2Fm_1")),
            Ok("org/m.1".into())
        );
        assert_eq!(chosen(&both, Some("m"), Some("org%2Fm_1")), Err(400));
        assert_eq!(chosen(&both, Some("x"), None), Err(404));
        assert_eq!(chosen(&["m.1", "m_1"], None, Some("m_1")), Err(400));
    }
}
