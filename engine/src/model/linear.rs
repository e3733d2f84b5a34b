//! A linear layer: rows of tensors in the map, joined into one output, and the same packed for fast kernels.
//!
//! It never reads a file and never computes; [`super::machine`] does.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::checkpoint::{CheckpointError, Tensor};

use super::cpu::{Column, Format, Kind, Matrix, Packed, Pool, QUADS_INPUTS_MAX, STRIP, fill};

/// Bytes between two reports of progress.
const REPORT_BYTES: usize = 16 << 20;

/// Rows of a matrix in the map; each is one output.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    tensor: Tensor,
    format: Format,
    columns: usize,
    rows: Range<usize>,
}

impl Stored {
    /// All rows of a tensor.
    pub(super) fn new(tensor: Tensor, format: Format) -> Self {
        let (rows, columns) = (0..tensor.shape()[0], tensor.shape()[1]);
        Self {
            tensor,
            format,
            columns,
            rows,
        }
    }

    /// The view that the reference kernels take.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        let row = self.columns * self.format.size();
        Matrix {
            format: self.format,
            bytes: &self.tensor.bytes()[self.rows.start * row..self.rows.end * row],
            columns: self.columns,
        }
    }

    /// How many outputs.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        (self.rows.len() * self.columns * self.format.size()) as u64
    }

    /// Reads everything, which also brings it into memory, and refuses values that are not finite.
    pub(super) fn check_finite(
        &self,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), CheckpointError> {
        let matrix = self.matrix();
        for (chunk, bytes) in matrix.bytes.chunks(REPORT_BYTES).enumerate() {
            if let Some(at) = self.format.first_not_finite(bytes) {
                let before = self.rows.start * self.columns;
                let index = before + chunk * REPORT_BYTES / self.format.size() + at;
                return Err(not_finite(&self.tensor, index));
            }
            progress(bytes.len() as u64);
        }
        Ok(())
    }
}

/// How the outputs of a layer's parts go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// One part after the other.
    Rows,
    /// Two parts of equal height, a gate and what it gates.
    Gate,
}

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    join: Join,
    parts: Vec<Stored>,
    /// Part after part.
    bias: Option<Vec<f32>>,
    packed: Option<(Packed, Option<Vec<f32>>)>,
}

impl Linear {
    /// Joins parts of equal width; the bias is for all of them or for none.
    pub(super) fn new(join: Join, parts: Vec<Stored>, bias: Option<Vec<f32>>) -> Self {
        Self {
            join,
            parts,
            bias,
            packed: None,
        }
    }

    /// Tensors in the map.
    pub(super) fn parts(&self) -> &[Stored] {
        &self.parts
    }

    /// How many outputs all parts have.
    pub(super) fn outputs(&self) -> usize {
        self.parts.iter().map(Stored::rows).sum()
    }

    /// How many inputs.
    pub(super) fn inputs(&self) -> usize {
        self.parts[0].columns
    }

    /// Part after part.
    pub(super) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// The packed form and its bias, if it was packed.
    pub(super) fn packed(&self) -> Option<(&Packed, Option<&[f32]>)> {
        self.packed
            .as_ref()
            .map(|(packed, bias)| (packed, bias.as_deref()))
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(Stored::bytes).sum()
    }

    /// Packs all parts on all threads, as bytes where `quantised`.
    pub(super) fn pack(
        &mut self,
        quantised: bool,
        pool: &Pool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), PackError> {
        let (inputs, kind) = (self.inputs(), self.kind(quantised)?);
        let columns = match self.join {
            Join::Rows => self.outputs(),
            Join::Gate => self.parts[0].rows().next_multiple_of(STRIP / 2) * 2,
        };
        let mut packed = Packed::new(kind, inputs, columns)?;
        let strip_bytes = packed.strip_bytes();
        let mut scratch = vec![Vec::new(); pool.threads()];
        let bad = AtomicBool::new(false);
        let together = (REPORT_BYTES / strip_bytes).max(1);
        let strips = packed.memory_mut().len() / strip_bytes;
        let total = self.bytes();
        let chunks = packed.memory_mut().chunks_mut(together * strip_bytes);
        for (chunk, memory) in chunks.enumerate() {
            pool.over(memory, strip_bytes, &mut scratch, |first, run, wide| {
                let (first, column) = (chunk * together + first, |c| self.column(c));
                if !fill(kind, run, strip_bytes, first, column, wide) {
                    bad.store(true, Relaxed);
                }
            });
            if bad.load(Relaxed) {
                let found = self
                    .parts
                    .iter()
                    .try_for_each(|p| p.check_finite(&mut |_| ()));
                found?;
            }
            let done = |strip: usize| total * strip.min(strips) as u64 / strips as u64;
            progress(done((chunk + 1) * together) - done(chunk * together));
        }
        self.packed = Some((packed, self.strip_bias()));
        Ok(())
    }

    fn kind(&self, quantised: bool) -> Result<Kind, PackError> {
        let inputs = self.inputs();
        let exact = |part: &Stored| part.format == Format::Bf16 && inputs.is_multiple_of(2);
        match quantised {
            true if inputs <= QUADS_INPUTS_MAX => Ok(Kind::Quads),
            true => Err(PackError::Inputs(inputs)),
            false if self.parts.iter().all(exact) => Ok(Kind::Pairs),
            false => Ok(Kind::Singles),
        }
    }

    /// The part and its row that a packed column holds.
    fn place(&self, column: usize) -> Option<(usize, usize)> {
        match self.join {
            Join::Rows => {
                let mut row = column;
                for (part, stored) in self.parts.iter().enumerate() {
                    if row < stored.rows() {
                        return Some((part, row));
                    }
                    row -= stored.rows();
                }
                None
            }
            Join::Gate => {
                let half = STRIP / 2;
                let (part, row) = (column / half % 2, column / STRIP * half + column % half);
                (row < self.parts[part].rows()).then_some((part, row))
            }
        }
    }

    fn column(&self, column: usize) -> Option<Column<'_>> {
        let (part, row) = self.place(column)?;
        let stored = &self.parts[part];
        Some((stored.format, stored.matrix().row(row)))
    }

    /// The bias in the order of packed columns.
    fn strip_bias(&self) -> Option<Vec<f32>> {
        let bias = self.bias.as_ref()?;
        let (packed, height) = (self.outputs() + 2 * STRIP, self.parts[0].rows());
        let value = |column| {
            self.place(column)
                .map_or(0.0, |(part, row)| match self.join {
                    Join::Rows => bias[column],
                    Join::Gate => bias[part * height + row],
                })
        };
        Some((0..packed.next_multiple_of(STRIP)).map(value).collect())
    }
}

/// Why a layer could not be packed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// A weight is not fit.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The system gives no memory.
    #[error(transparent)]
    Memory(#[from] std::io::Error),
    /// Sums of bytes could overflow.
    #[error("a layer of {0} inputs cannot be quantised to bytes")]
    Inputs(usize),
}

/// Names the element that is infinite or not a number.
pub(super) fn not_finite(tensor: &Tensor, index: usize) -> CheckpointError {
    CheckpointError::NotFinite {
        tensor: tensor.name().into(),
        path: tensor.path().into(),
        index,
    }
}
