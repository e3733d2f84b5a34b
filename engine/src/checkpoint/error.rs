//! Everything that can be wrong with a checkpoint, each with the place, what was expected and found, and what to do.
//!
//! Nothing here decides anything; the readers beside it do.

use std::{io, path::PathBuf};

/// Why a checkpoint was refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system did not give us the file.
    #[error("cannot {what} {}: {source}; check the path and its permissions", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No weights in a form that we read.
    #[error(
        "{} holds neither model.safetensors nor model.safetensors.index.json; download the \
         safetensors files of the model, or convert its .bin or .gguf files", dir.display()
    )]
    NoWeights {
        /// The directory.
        dir: PathBuf,
    },
    /// Not JSON of the right form.
    #[error("{} is not valid: {source}; download it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's answer, with line and column.
        source: serde_json::Error,
    },
    /// A JSON file larger than any real one.
    #[error("{} has {found} bytes, more than the {most} that such a file may have; it is not what its name says", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// A value in config.json that is missing or makes no sense.
    #[error("{}: {key} is {found}, expected {expected}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Dotted name of the value.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: String,
    },
    /// A family that the engine does not know.
    #[error("{}: architecture {found} is not known; this engine runs {known}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What it names.
        found: String,
        /// What would do.
        known: String,
    },
    /// Quantised weights.
    #[error("{}: weights quantised by {method} are not supported; use the unquantised (bf16, f16 or f32) release of the model", path.display())]
    Quantised {
        /// The file.
        path: PathBuf,
        /// The method it names.
        method: String,
    },
    /// The file ends too early.
    #[error("{} has {found} bytes, but its header needs {expected}; it is truncated, download it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that its header speaks of.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The header contradicts itself or the format.
    #[error("{} has a damaged header: {problem}; download it again", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The index places a tensor in a file that would lie outside the directory.
    #[error("{}: {tensor} is placed in {file:?}, which is not a plain file name; download the index again", path.display())]
    ShardName {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The name it gives.
        file: String,
    },
    /// A shard is not there.
    #[error("{} is missing, and {} places {tensors} tensors in it; download that file", path.display(), index.display())]
    ShardMissing {
        /// The shard.
        path: PathBuf,
        /// The index.
        index: PathBuf,
        /// How many tensors it holds.
        tensors: usize,
    },
    /// The index says it is in this shard.
    #[error("tensor {tensor} is not in {}, where the index places it; shards and index are of different downloads", path.display())]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard.
        path: PathBuf,
    },
    /// A shard has a tensor that the index does not place there.
    #[error("tensor {tensor} is in {}, but the index does not place it there; shards and index are of different downloads", path.display())]
    NotInIndex {
        /// The tensor.
        tensor: String,
        /// The shard.
        path: PathBuf,
    },
    /// The model needs a tensor that no file has.
    #[error("tensor {tensor} is missing in {}; the download is incomplete or config.json belongs to another model", dir.display())]
    TensorMissing {
        /// The tensor.
        tensor: String,
        /// The directory.
        dir: PathBuf,
    },
    /// Tensor and config.json disagree.
    #[error("tensor {tensor} in {} has shape {found:?}, but config.json asks for {expected:?} ({because}); they belong to different models", path.display())]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its file.
        path: PathBuf,
        /// What config.json asks for.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
        /// The config values that the expectation is made of.
        because: &'static str,
    },
    /// A number format that we do not compute with.
    #[error("tensor {tensor} in {} is {found}, expected BF16, F16 or F32; use an unquantised release of the model", path.display())]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// A tensor that the described model does not have: running without it would give wrong text in silence.
    #[error("tensor {tensor} in {} is not part of the model that config.json describes ({why}); they belong to different models", path.display())]
    Unexpected {
        /// The tensor.
        tensor: String,
        /// Its file.
        path: PathBuf,
        /// What config.json says.
        why: String,
    },
    /// Infinite or not a number.
    #[error("tensor {tensor} in {} holds a value that is not finite at index {index}; the checkpoint is damaged", path.display())]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Its file.
        path: PathBuf,
        /// Which element.
        index: usize,
    },
}
