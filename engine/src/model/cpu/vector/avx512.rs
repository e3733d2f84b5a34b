//! Sixteen floats in one register of AVX-512, with and without its byte products (VNNI).
//!
//! It never looks at memory beyond what the trait allows.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::Vector;

/// One register.
#[derive(Clone, Copy)]
pub(in crate::model::cpu) struct Avx512(__m512);

/// The same, on a processor that multiplies and adds bytes in one instruction.
#[derive(Clone, Copy)]
pub(in crate::model::cpu) struct Vnni(__m512);

/// What both have in common; `$offset` and `$quads` are what they do with bytes.
macro_rules! vector {
    ($name:ident, $offset:literal, $quads:ident) => {
        impl Vector for $name {
            type Sums = __m512i;
            // Thirty-two registers: twenty-four sums, two weights and their pairs, one activation.
            const PACKED_ROWS: usize = 12;
            const WIDE: bool = true;
            const TALL: bool = true;
            const OFFSET: i32 = $offset;

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                Self(_mm512_set1_ps(value))
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                Self(_mm512_loadu_ps(from))
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                _mm512_storeu_ps(to, self.0);
            }
            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                Self(_mm512_fmadd_ps(a.0, b.0, self.0))
            }
            #[inline(always)]
            unsafe fn widen_pairs(from: *const u16) -> (Self, Self) {
                let pairs = _mm512_loadu_si512(from.cast());
                let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                let low = _mm512_slli_epi32::<16>(pairs);
                (
                    Self(_mm512_castsi512_ps(low)),
                    Self(_mm512_castsi512_ps(high)),
                )
            }
            #[inline(always)]
            unsafe fn load_sums(from: *const i32) -> Self::Sums {
                _mm512_loadu_si512(from.cast())
            }
            #[inline(always)]
            unsafe fn store_sums(sums: Self::Sums, to: *mut i32) {
                _mm512_storeu_si512(to.cast(), sums);
            }
            #[inline(always)]
            unsafe fn add_quads(sums: Self::Sums, x: i32, weights: *const i8) -> Self::Sums {
                $quads(
                    sums,
                    _mm512_set1_epi32(x),
                    _mm512_loadu_si512(weights.cast()),
                )
            }
            #[inline(always)]
            unsafe fn prefetch(from: *const u8) {
                _mm_prefetch::<_MM_HINT_T0>(from.cast());
            }
        }
    };
}

vector!(Avx512, 0, signed_quads);
vector!(Vnni, 128, _mm512_dpbusd_epi32);

/// As for AVX2: signs move to the weights, by subtraction under a mask.
#[inline(always)]
unsafe fn signed_quads(sums: __m512i, x: __m512i, weights: __m512i) -> __m512i {
    let negative = _mm512_movepi8_mask(x);
    let signed = _mm512_mask_sub_epi8(weights, negative, _mm512_setzero_si512(), weights);
    let pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), signed);
    _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
}
