//! One call of a tool, as a JSON object with a name and arguments.
//!
//! The arguments stay the text that the model wrote. Never repairs what is broken.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A whole call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Of the tool.
    pub name: String,
    /// A JSON object, as written.
    pub arguments: String,
}

impl Call {
    /// Reads the text between the markers; none if it is no call.
    pub(super) fn read(text: &str, name: &str, arguments: &str) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        let is_name = |key: &String| key == name || key == arguments;
        if !fields.keys().all(is_name) {
            return None;
        }
        let name: String = serde_json::from_str(fields.get(name)?.get()).ok()?;
        let arguments = fields.get(arguments)?.get();
        arguments.starts_with('{').then(|| Self {
            name,
            arguments: arguments.to_owned(),
        })
    }
}
