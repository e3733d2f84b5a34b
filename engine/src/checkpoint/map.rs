//! The one place that maps files: a whole weight file as a byte slice.
//!
//! It never writes and never interprets a byte. The file must not be truncated while it is mapped (the
//! system would answer a read with SIGBUS); model files are replaced by rename, not rewritten in place.
#![allow(unsafe_code)]

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::CheckpointError;

/// A mapped file.
#[derive(Debug)]
pub(super) struct Map {
    path: PathBuf,
    bytes: memmap2::Mmap,
}

impl Map {
    /// Maps the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let fail = |what| {
            move |source| CheckpointError::Io {
                what,
                path: path.into(),
                source,
            }
        };
        let file = File::open(path).map_err(fail("open"))?;
        // SAFETY: the map is private and read-only; that nobody truncates a model file in use is the operator's
        // duty, stated in the header above and in docs/OPERATIONS.md.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(fail("map"))?;
        Ok(Self {
            path: path.into(),
            bytes,
        })
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
