//! Weights as they lie in the file, widened to f32 while they are read.
//!
//! Elements are little-endian bytes with no promise of alignment; widening is exact. Nothing here computes.

use bytemuck::{Pod, Zeroable};

/// Number formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Format {
    F32,
    F16,
    Bf16,
}

impl Format {
    /// Bytes of one element.
    pub(in crate::model) const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Index of the first element that is infinite or not a number.
    pub(in crate::model) fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::F32 => first_not_finite(elements::<F32>(bytes)),
            Self::F16 => first_not_finite(elements::<F16>(bytes)),
            Self::Bf16 => first_not_finite(elements::<Bf16>(bytes)),
        }
    }

    /// Widens all elements into `into`, which has as many.
    pub(in crate::model) fn widen(self, bytes: &[u8], into: &mut [f32]) {
        match self {
            Self::F32 => widen(elements::<F32>(bytes), into),
            Self::F16 => widen(elements::<F16>(bytes), into),
            Self::Bf16 => widen(elements::<Bf16>(bytes), into),
        }
    }
}

/// A number that can be read as f32.
pub(super) trait Element: Pod {
    /// Its value.
    fn widen(self) -> f32;
    /// Whether it is neither infinite nor not a number.
    fn is_finite(self) -> bool;
}

/// Little-endian 32-bit float.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct F32([u8; 4]);

/// Little-endian IEEE half.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct F16([u8; 2]);

/// The upper half of a little-endian 32-bit float.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Bf16([u8; 2]);

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.to_bits() & 0x7f80_0000 != 0x7f80_0000
    }
}

impl Element for F32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_le_bytes(self.0)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        Element::is_finite(self.widen())
    }
}

impl Element for F16 {
    /// Shifts exponent and mantissa into place and corrects the bias by an exact product, subnormals included. Weights
    /// are finite, which was checked when they were loaded.
    #[inline(always)]
    fn widen(self) -> f32 {
        /// 2^112: the difference of the two exponent biases.
        const REBIAS: f32 = f32::from_bits((112 + 127) << 23);
        let half = u32::from(u16::from_le_bytes(self.0));
        let magnitude = f32::from_bits((half & 0x7fff) << 13) * REBIAS;
        f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        u16::from_le_bytes(self.0) & 0x7c00 != 0x7c00
    }
}

impl Element for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(self.0)) << 16)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        u16::from_le_bytes(self.0) & 0x7f80 != 0x7f80
    }
}

/// Views bytes as elements; they hold a whole number of them, which the checkpoint's header was checked for.
#[inline(always)]
pub(super) fn elements<E: Element>(bytes: &[u8]) -> &[E] {
    bytemuck::cast_slice(bytes)
}

/// Widens all elements into `into`.
#[inline(always)]
pub(super) fn widen<E: Element>(elements: &[E], into: &mut [f32]) {
    for (to, from) in into.iter_mut().zip(elements) {
        *to = from.widen();
    }
}

fn first_not_finite<E: Element>(elements: &[E]) -> Option<usize> {
    /// Elements looked at without a branch.
    const STRIDE: usize = 256;
    let any_bad = |chunk: &[E]| chunk.iter().fold(false, |any, e| any | !e.is_finite());
    let start = elements.chunks(STRIDE).position(any_bad)? * STRIDE;
    let bad = elements[start..].iter().position(|e| !e.is_finite())?;
    Some(start + bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_widens_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits);
            if expected.is_finite() {
                let found = F16(bits.to_le_bytes()).widen();
                assert_eq!(found.to_bits(), expected.to_f32().to_bits(), "{bits:#x}");
            }
            let bytes = bits.to_le_bytes();
            let bad = Format::F16.first_not_finite(&bytes).is_some();
            assert_eq!(bad, !expected.is_finite());
        }
    }

    #[test]
    fn every_bfloat_widens_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::bf16::from_bits(bits).to_f32();
            let bytes = bits.to_le_bytes();
            assert!(
                expected.is_nan() || Bf16(bytes).widen() == expected,
                "{bits:#x}"
            );
            let bad = Format::Bf16.first_not_finite(&bytes).is_some();
            assert_eq!(bad, !expected.is_finite());
        }
    }

    #[test]
    fn the_index_of_a_bad_weight_is_told() {
        let mut values = vec![0.5f32; 1000];
        values[777] = f32::NAN;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(Format::F32.first_not_finite(&bytes), Some(777));
    }
}
