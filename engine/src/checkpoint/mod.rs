//! Hugging Face checkpoints: a directory with `config.json` and safetensors files, mapped, never read into memory.
//!
//! Strict by intent: whatever contradicts itself is refused with the file, the tensor, what was expected and what
//! was found. This module never copies a weight, never writes, never guesses at a missing value, and knows
//! nothing of model families. Start reading at [`Checkpoint::open`].

mod config;
mod error;
mod header;
mod index;
mod map;
mod tensor;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use config::Config;
pub use error::CheckpointError;
pub use tensor::{Dtype, Tensor};

use map::Map;

/// The one weight file of a small model.
const SINGLE: &str = "model.safetensors";
/// Names the shards of a large one.
const INDEX: &str = "model.safetensors.index.json";

/// A checkpoint whose files were opened and whose headers hold together.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Config,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads the configuration and the headers, and maps the weights.
    ///
    /// # Errors
    /// [`CheckpointError`] for whatever is missing, damaged or contradicts itself.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let config = Config::read(&dir.join("config.json"))?;
        refuse_quantised(&config)?;
        let tensors = if dir.join(SINGLE).is_file() {
            open_file(&dir.join(SINGLE))?
        } else if dir.join(INDEX).is_file() {
            open_shards(dir)?
        } else {
            return Err(CheckpointError::NoWeights { dir: dir.into() });
        };
        Ok(Self {
            dir: dir.into(),
            config,
            tensors,
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its `config.json`.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// All tensors by name, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`CheckpointError::TensorMissing`].
    pub fn tensor(&self, name: &str) -> Result<&Tensor, CheckpointError> {
        self.tensors
            .get(name)
            .ok_or_else(|| CheckpointError::TensorMissing {
                tensor: name.into(),
                dir: self.dir.clone(),
            })
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|t| t.bytes().len() as u64).sum()
    }
}

fn refuse_quantised(config: &Config) -> Result<(), CheckpointError> {
    let Some(section) = config.section("quantization_config")? else {
        return Ok(());
    };
    Err(CheckpointError::Quantised {
        path: config.path().into(),
        method: section.text_or("quant_method", "unnamed")?,
    })
}

fn open_file(path: &Path) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let map = Arc::new(Map::open(path)?);
    let entries = header::parse(path, map.bytes())?;
    Ok(entries
        .into_iter()
        .map(|(name, entry)| (name.clone(), Tensor::new(name, entry, map.clone())))
        .collect())
}

/// Opens every shard once and takes from each exactly the tensors that the index places there.
fn open_shards(dir: &Path) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let path = dir.join(INDEX);
    let mut tensors = BTreeMap::new();
    for (file, names) in index::read(&path)? {
        let shard = dir.join(&file);
        if !shard.is_file() {
            return Err(CheckpointError::ShardMissing {
                path: shard,
                index: path,
                tensors: names.len(),
            });
        }
        let mut found = open_file(&shard)?;
        for name in names {
            let tensor = found
                .remove(&name)
                .ok_or_else(|| CheckpointError::NotInShard {
                    tensor: name.clone(),
                    path: shard.clone(),
                })?;
            tensors.insert(name, tensor);
        }
        if let Some(name) = found.into_keys().next() {
            return Err(CheckpointError::NotInIndex {
                tensor: name,
                path: shard,
            });
        }
    }
    Ok(tensors)
}
