//! Sixteen floats in four registers of NEON.
//!
//! It never looks at memory beyond what the trait allows.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::{arch::aarch64::*, array::from_fn};

use super::Vector;

/// Four lanes each.
#[derive(Clone, Copy)]
pub(in crate::model::cpu) struct Neon([float32x4_t; 4]);

impl Vector for Neon {
    type Sums = [int32x4_t; 4];
    // Thirty-two registers: twenty-four sums, four weights, one activation.
    const PACKED_ROWS: usize = 4;
    const WIDE: bool = false;
    const TALL: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([vdupq_n_f32(value); 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from_fn(|i| vld1q_f32(from.add(4 * i))))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (i, part) in self.0.into_iter().enumerate() {
            vst1q_f32(to.add(4 * i), part);
        }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(from_fn(|i| vfmaq_f32(self.0[i], a.0[i], b.0[i])))
    }
    #[inline(always)]
    unsafe fn widen_pairs(from: *const u16) -> (Self, Self) {
        let pairs: [uint32x4_t; 4] = from_fn(|i| vreinterpretq_u32_u16(vld1q_u16(from.add(8 * i))));
        let high_half = vdupq_n_u32(0xffff_0000);
        let low = |i: usize| vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs[i]));
        let high = |i: usize| vreinterpretq_f32_u32(vandq_u32(pairs[i], high_half));
        (Self(from_fn(low)), Self(from_fn(high)))
    }
    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> Self::Sums {
        from_fn(|i| vld1q_s32(from.add(4 * i)))
    }
    #[inline(always)]
    unsafe fn store_sums(sums: Self::Sums, to: *mut i32) {
        for (i, part) in sums.into_iter().enumerate() {
            vst1q_s32(to.add(4 * i), part);
        }
    }
    /// Byte products widened to sixteen bits, neighbours added twice.
    #[inline(always)]
    unsafe fn add_quads(sums: Self::Sums, x: i32, weights: *const i8) -> Self::Sums {
        let x = vreinterpret_s8_s32(vdup_n_s32(x));
        from_fn(|i| {
            let w = vld1q_s8(weights.add(16 * i));
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), x));
            let high = vpaddlq_s16(vmull_s8(vget_high_s8(w), x));
            vaddq_s32(sums[i], vpaddq_s32(low, high))
        })
    }
}
