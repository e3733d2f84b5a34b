//! `model.safetensors.index.json`: which shard holds which tensor.
//!
//! It never opens a shard, and never lets a name lead out of the directory.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{CheckpointError, config};

/// Only the map matters; `metadata.total_size` counts elements differently from tool to tool.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the index: for each shard, the names of its tensors.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Vec<String>>, CheckpointError> {
    let text = config::read_text(path)?;
    let index: Index = serde_json::from_str(&text).map_err(|source| CheckpointError::Json {
        path: path.into(),
        source,
    })?;
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        if Path::new(&file).file_name() != Some(file.as_ref()) {
            return Err(CheckpointError::ShardName {
                path: path.into(),
                tensor,
                file,
            });
        }
        shards.entry(file).or_default().push(tensor);
    }
    Ok(shards)
}
