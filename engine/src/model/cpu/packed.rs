//! Weights of a linear layer, packed once at load into the one order that all fast kernels read.
//!
//! Columns (outputs) go in strips of two panels of sixteen. A strip is a run of steps of 128 bytes: for every column a pair
//! of bf16, a float, or a quad of bytes. One reading of a strip is one stream, whether for one row or for
//! hundreds, so there is no second copy. Steps and columns that the matrix lacks are zeros. It never computes a product.

use std::io;

use memmap2::MmapMut;

use super::weights::Format;

/// Columns of a strip.
pub(in crate::model) const STRIP: usize = 32;
/// Bytes of one step of a strip.
pub(super) const STEP_BYTES: usize = 128;
/// After a strip of bytes: a scale and a sum for every column.
const TAIL_BYTES: usize = STRIP * 8;
/// Largest magnitude of a quantised number: symmetric, so that signs may move.
pub(super) const BYTE_MAX: f32 = 127.0;
/// Most inputs of a quantised layer: so many products of bytes, one of them unsigned, fit an i32.
pub(in crate::model) const QUADS_INPUTS_MAX: usize = i32::MAX as usize / (255 * 127);

/// What a strip holds at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Kind {
    /// Two bf16 a column: exactly the file's numbers.
    Pairs,
    /// One float a column: where the file has floats, halves, or an odd number of inputs.
    Singles,
    /// Four bytes a column, with one scale for the whole column.
    Quads,
}

impl Kind {
    /// Inputs of one step.
    pub(super) const fn inputs(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Singles => 1,
            Self::Quads => 4,
        }
    }
}

/// One column's elements where they lie in the file.
pub(in crate::model) type Column<'a> = (Format, &'a [u8]);

/// A packed layer.
#[derive(Debug)]
pub(in crate::model) struct Packed {
    kind: Kind,
    inputs: usize,
    columns: usize,
    memory: MmapMut,
}

impl Packed {
    /// Room for a layer, in pages of 2 MiB where the system has them.
    pub(in crate::model) fn new(kind: Kind, inputs: usize, columns: usize) -> io::Result<Self> {
        let mut packed = Self {
            kind,
            inputs,
            columns,
            memory: MmapMut::map_anon(1)?,
        };
        packed.memory = MmapMut::map_anon(packed.strips() * packed.strip_bytes())?;
        #[cfg(target_os = "linux")]
        if let Err(error) = packed.memory.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "no large pages for weights");
        }
        Ok(packed)
    }

    pub(in crate::model) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Inputs of the layer.
    pub(in crate::model) const fn inputs(&self) -> usize {
        self.inputs
    }

    /// Steps of a strip.
    pub(super) const fn steps(&self) -> usize {
        self.inputs.div_ceil(self.kind.inputs())
    }

    /// Strips, the last perhaps not full.
    pub(super) const fn strips(&self) -> usize {
        self.columns.div_ceil(STRIP)
    }

    /// Bytes of one strip.
    pub(in crate::model) const fn strip_bytes(&self) -> usize {
        let tail = match self.kind {
            Kind::Quads => TAIL_BYTES,
            Kind::Pairs | Kind::Singles => 0,
        };
        self.steps() * STEP_BYTES + tail
    }

    /// All strips, to be filled by [`fill`].
    pub(in crate::model) fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// All strips.
    pub(super) fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// Scales and sums of a quantised strip's columns.
    pub(super) fn tail(&self, strip: usize) -> (&[f32], &[i32]) {
        let end = (strip + 1) * self.strip_bytes();
        let tail = &self.memory[end - TAIL_BYTES..end];
        let (scales, sums) = tail.split_at(TAIL_BYTES / 2);
        (bytemuck::cast_slice(scales), bytemuck::cast_slice(sums))
    }
}

/// Fills whole strips of `kind` from `first` on; `column` finds a column's elements, if there is such a column. `wide` is scratch
/// for one column. False if an element was not finite.
pub(in crate::model) fn fill<'a>(
    kind: Kind,
    strips: &mut [u8],
    strip_bytes: usize,
    first: usize,
    column: impl Fn(usize) -> Option<Column<'a>>,
    wide: &mut Vec<f32>,
) -> bool {
    let mut finite = true;
    for (strip, memory) in (first..).zip(strips.chunks_exact_mut(strip_bytes)) {
        for lane in 0..STRIP {
            let Some((format, bytes)) = column(strip * STRIP + lane) else {
                continue;
            };
            finite &= format.first_not_finite(bytes).is_none();
            if kind != Kind::Pairs {
                wide.resize(bytes.len() / format.size(), 0.0);
                format.widen(bytes, wide);
            }
            match kind {
                Kind::Pairs => place(memory, lane, bytes.as_chunks::<4>().0.iter().copied()),
                Kind::Singles => place(memory, lane, wide.iter().map(|x| x.to_le_bytes())),
                Kind::Quads => quantise(memory, lane, wide),
            }
        }
    }
    finite
}

/// Writes one column's steps.
fn place(strip: &mut [u8], lane: usize, steps: impl Iterator<Item = [u8; 4]>) {
    for (step, bytes) in strip.as_chunks_mut::<STEP_BYTES>().0.iter_mut().zip(steps) {
        step[lane * 4..lane * 4 + 4].copy_from_slice(&bytes);
    }
}

fn quantise(strip: &mut [u8], lane: usize, column: &[f32]) {
    let (scale, inverse) = scale_of(column);
    let byte = |x: &f32| to_byte(*x * inverse);
    let sum: i32 = column.iter().map(|x| i32::from(byte(x))).sum();
    let quads = column.chunks(4).map(|quad| {
        let mut bytes = [0; 4];
        for (to, x) in bytes.iter_mut().zip(quad) {
            *to = byte(x).to_le_bytes()[0];
        }
        bytes
    });
    let (steps, tail) = strip.split_at_mut(strip.len() - TAIL_BYTES);
    place(steps, lane, quads);
    let (scales, sums) = tail.split_at_mut(TAIL_BYTES / 2);
    scales[lane * 4..lane * 4 + 4].copy_from_slice(&scale.to_le_bytes());
    sums[lane * 4..lane * 4 + 4].copy_from_slice(&sum.to_le_bytes());
}

/// The scale that makes the largest magnitude 127, and its inverse.
#[inline(always)]
pub(super) fn scale_of(values: &[f32]) -> (f32, f32) {
    let largest = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    if largest > 0.0 {
        (largest / BYTE_MAX, BYTE_MAX / largest)
    } else {
        (0.0, 0.0)
    }
}

/// Rounds to nearest, ties to even, as vectors do.
#[inline(always)]
pub(super) fn to_byte(scaled: f32) -> i8 {
    /// Adding and subtracting it leaves the nearest integer: 1.5 x 2^23.
    const ROUND: f32 = 12_582_912.0;
    ((scaled + ROUND) - ROUND).clamp(-BYTE_MAX, BYTE_MAX) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_the_nearest_integer_within_bounds() {
        let nearest = [
            (0.0, 0),
            (0.5, 0),
            (1.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (2.4, 2),
            (-2.6, -3),
            (127.4, 127),
            (200.0, 127),
            (-200.0, -127),
            (f32::INFINITY, 127),
        ];
        for (scaled, byte) in nearest {
            assert_eq!(to_byte(scaled), byte, "{scaled}");
        }
    }

    #[test]
    fn a_scale_makes_the_largest_magnitude_127() {
        let (scale, inverse) = scale_of(&[0.5, -2.0, 1.0]);
        assert_eq!((scale, inverse), (2.0 / 127.0, 127.0 / 2.0));
        assert_eq!(to_byte(-2.0 * inverse), -127);
        assert_eq!(scale_of(&[0.0, -0.0]), (0.0, 0.0));
    }
}
