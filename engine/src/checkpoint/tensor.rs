//! One tensor of a checkpoint: a name, a shape, a number format, and its bytes where they lie in the map.
//!
//! A tensor never owns or converts its elements; clones share the map.

use std::{fmt, ops::Range, path::Path, sync::Arc};

use super::{CheckpointError, header::Entry, map::Map};

/// Number formats that matter to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Whatever else the format may hold.
    Other(String),
}

impl Dtype {
    /// From its name in a safetensors header.
    pub(super) fn named(name: String) -> Self {
        match name.as_str() {
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            _ => Self::Other(name),
        }
    }

    /// Bytes of one element; none for formats of an unknown or fractional size.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(name) => match name.as_str() {
                "F64" | "I64" | "U64" => Some(8),
                "I32" | "U32" => Some(4),
                "I16" | "U16" => Some(2),
                "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => Some(1),
                _ => None,
            },
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("F32"),
            Self::F16 => f.write_str("F16"),
            Self::Bf16 => f.write_str("BF16"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// A borrowed view of one tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
    map: Arc<Map>,
}

impl Tensor {
    pub(super) fn new(name: String, entry: Entry, map: Arc<Map>) -> Self {
        Self {
            name,
            dtype: entry.dtype,
            shape: entry.shape,
            range: entry.range,
            map,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number format.
    #[must_use]
    pub const fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// Its dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, little-endian, with no promise of alignment.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map.bytes()[self.range.clone()]
    }

    /// The file that holds it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// Checks the shape against what config.json asks for; `because` names the values it is made of.
    ///
    /// # Errors
    /// [`CheckpointError::Shape`].
    pub fn expect_shape(
        &self,
        expected: &[usize],
        because: &'static str,
    ) -> Result<(), CheckpointError> {
        if self.shape == expected {
            return Ok(());
        }
        Err(CheckpointError::Shape {
            tensor: self.name.clone(),
            path: self.path().into(),
            expected: expected.into(),
            found: self.shape.clone(),
            because,
        })
    }
}
