//! Tokenizer and chat template (to be written).

/// Text side of a model.
#[derive(Debug)]
pub struct TextModel {}
