//! Sixteen floats in two registers of AVX2, with fused multiply and add.
//!
//! It never looks at memory beyond what the trait allows.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::Vector;

/// Lanes 0 to 7, and 8 to 15.
#[derive(Clone, Copy)]
pub(in crate::model::cpu) struct Avx2(__m256, __m256);

impl Vector for Avx2 {
    type Sums = (__m256i, __m256i);
    // Sixteen registers: twelve sums, two weights, one activation.
    const PACKED_ROWS: usize = 4;
    const WIDE: bool = false;
    const TALL: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        let all = _mm256_set1_ps(value);
        Self(all, all)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(
            _mm256_fmadd_ps(a.0, b.0, self.0),
            _mm256_fmadd_ps(a.1, b.1, self.1),
        )
    }
    #[inline(always)]
    unsafe fn widen_pairs(from: *const u16) -> (Self, Self) {
        let high_half = _mm256_set1_epi32(0xffff_0000_u32 as i32);
        let (a, b) = (
            _mm256_loadu_si256(from.cast()),
            _mm256_loadu_si256(from.add(16).cast()),
        );
        let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x));
        let high = |x| _mm256_castsi256_ps(_mm256_and_si256(x, high_half));
        (Self(low(a), low(b)), Self(high(a), high(b)))
    }
    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> Self::Sums {
        (
            _mm256_loadu_si256(from.cast()),
            _mm256_loadu_si256(from.add(8).cast()),
        )
    }
    #[inline(always)]
    unsafe fn store_sums(sums: Self::Sums, to: *mut i32) {
        _mm256_storeu_si256(to.cast(), sums.0);
        _mm256_storeu_si256(to.add(8).cast(), sums.1);
    }
    /// The instruction wants its left side unsigned: signs move to the weights. Two products of at most 127 x 127 fit
    /// sixteen bits, so nothing saturates.
    #[inline(always)]
    unsafe fn add_quads(sums: Self::Sums, x: i32, weights: *const i8) -> Self::Sums {
        let x = _mm256_set1_epi32(x);
        let size = _mm256_abs_epi8(x);
        let ones = _mm256_set1_epi16(1);
        let dot = |sum, w: __m256i| {
            let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w, x));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones))
        };
        (
            dot(sums.0, _mm256_loadu_si256(weights.cast())),
            dot(sums.1, _mm256_loadu_si256(weights.add(32).cast())),
        )
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
}
