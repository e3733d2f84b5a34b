//! Weights as they lie in the file, widened to f32 while they are read.
//!
//! Elements are little-endian bytes with no promise of alignment; widening is exact. Nothing here computes.

use super::kernels::LANES;

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
            Self::F32 => F32::new(bytes).first_not_finite(),
            Self::F16 => F16::new(bytes).first_not_finite(),
            Self::Bf16 => Bf16::new(bytes).first_not_finite(),
        }
    }

    /// Widens all elements into `into`, which has as many.
    pub(in crate::model) fn widen(self, bytes: &[u8], into: &mut [f32]) {
        match self {
            Self::F32 => F32::new(bytes).widen(into),
            Self::F16 => F16::new(bytes).widen(into),
            Self::Bf16 => Bf16::new(bytes).widen(into),
        }
    }
}

/// A row of numbers that can be read as f32.
pub(super) trait Numbers: Copy {
    /// `LANES` of them from `at` on.
    fn lanes(self, at: usize) -> [f32; LANES];
    /// The one at `at`.
    fn one(self, at: usize) -> f32;
}

impl Numbers for &[f32] {
    #[inline(always)]
    fn lanes(self, at: usize) -> [f32; LANES] {
        *self[at..]
            .first_chunk()
            .expect("the caller stays inside the row")
    }
    #[inline(always)]
    fn one(self, at: usize) -> f32 {
        self[at]
    }
}

macro_rules! weights {
    ($name:ident, $bytes:literal, $widen:expr, $exponent:expr) => {
        /// A row of this format.
        #[derive(Clone, Copy)]
        pub(super) struct $name<'a>(&'a [[u8; $bytes]]);

        impl<'a> $name<'a> {
            /// Views bytes as elements.
            #[inline(always)]
            pub(super) fn new(bytes: &'a [u8]) -> Self {
                Self(bytes.as_chunks().0)
            }
            /// Widens all into `into`.
            #[inline(always)]
            pub(super) fn widen(self, into: &mut [f32]) {
                for (to, from) in into.iter_mut().zip(self.0) {
                    *to = $widen(*from);
                }
            }
            fn first_not_finite(self) -> Option<usize> {
                /// Elements looked at without a branch.
                const STRIDE: usize = 256;
                let bad = |e: &[u8; $bytes]| $exponent(*e);
                let chunk = self
                    .0
                    .chunks(STRIDE)
                    .position(|chunk| chunk.iter().fold(false, |any, e| any | bad(e)))?;
                self.0[chunk * STRIDE..]
                    .iter()
                    .position(bad)
                    .map(|at| chunk * STRIDE + at)
            }
        }

        impl Numbers for $name<'_> {
            #[inline(always)]
            fn lanes(self, at: usize) -> [f32; LANES] {
                let chunk: &[_; LANES] = self.0[at..]
                    .first_chunk()
                    .expect("the caller stays inside the row");
                chunk.map($widen)
            }
            #[inline(always)]
            fn one(self, at: usize) -> f32 {
                $widen(self.0[at])
            }
        }
    };
}

weights!(F32, 4, f32::from_le_bytes, |e| {
    u32::from_le_bytes(e) & 0x7f80_0000 == 0x7f80_0000
});
weights!(F16, 2, widen_f16, |e| {
    u16::from_le_bytes(e) & 0x7c00 == 0x7c00
});
weights!(Bf16, 2, widen_bf16, |e| {
    u16::from_le_bytes(e) & 0x7f80 == 0x7f80
});

#[inline(always)]
fn widen_bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// Shifts exponent and mantissa into place and corrects the bias by an exact product, subnormals included. Weights
/// are finite, which was checked when they were loaded.
#[inline(always)]
fn widen_f16(bytes: [u8; 2]) -> f32 {
    /// 2^112: the difference of the two exponent biases.
    const REBIAS: f32 = f32::from_bits((112 + 127) << 23);
    let half = u32::from(u16::from_le_bytes(bytes));
    let magnitude = f32::from_bits((half & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_widens_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits);
            if expected.is_finite() {
                let found = widen_f16(bits.to_le_bytes());
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
                expected.is_nan() || widen_bf16(bytes) == expected,
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
