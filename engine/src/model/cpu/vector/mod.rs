//! Sixteen floats at once: the one thing that the fast kernels ask of an instruction set.
//!
//! Kernels are generic over [`Vector`] and inlined into a function that is compiled for its instructions, by
//! `vectorised!`. Every operation works lane by lane, so no result depends on how wide the registers are. Nothing here
//! loops over more than a vector.
//!
//! All functions are unsafe for one reason alone: the processor must have the instructions, which an [`Isa`](super::isa::Isa)
//! proves, and pointers must be good for the sixteen elements that they name.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use super::isa::{Isa, Width};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::{Avx512, Vnni};
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;

/// Lanes of a vector, columns of a panel.
pub(super) const LANES: usize = 16;

/// Sixteen floats.
pub(super) trait Vector: Copy {
    /// Sixteen sums of products of bytes.
    type Sums: Copy;
    /// Most packed rows of a micro-kernel: 4, 8 or 12.
    const PACKED_ROWS: usize;
    /// Whether four panels of up to six rows, or two of twelve, fit the registers; else one panel of up to six.
    const WIDE: bool;
    /// Whether six rows fit the registers.
    const TALL: bool;
    /// Added to quantised activations, for instructions that want them unsigned.
    const OFFSET: i32;

    /// All lanes alike.
    unsafe fn splat(value: f32) -> Self;
    /// Sixteen floats from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// Sixteen floats to memory.
    unsafe fn store(self, to: *mut f32);
    /// `self + a * b`; with one rounding where the instruction set has that.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The low and the high halves of sixteen pairs of bf16.
    unsafe fn widen_pairs(from: *const u16) -> (Self, Self);

    /// Sixteen sums from memory.
    unsafe fn load_sums(from: *const i32) -> Self::Sums;
    /// Sixteen sums to memory.
    unsafe fn store_sums(sums: Self::Sums, to: *mut i32);
    /// Adds the products of four activations (each with [`Self::OFFSET`] added) and four weights to every lane.
    unsafe fn add_quads(sums: Self::Sums, x: i32, weights: *const i8) -> Self::Sums;

    /// Asks for the cache line at `from`, which need not exist.
    unsafe fn prefetch(from: *const u8) {
        let _ = from;
    }
}

/// Without any vector instructions that the compiler does not take for granted.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Vector for Plain {
    type Sums = [i32; LANES];
    const PACKED_ROWS: usize = 4;
    const WIDE: bool = false;
    const TALL: bool = false;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from.cast::<[f32; LANES]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; LANES]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn widen_pairs(from: *const u16) -> (Self, Self) {
        let pairs = from.cast::<[u32; LANES]>().read_unaligned();
        let low = pairs.map(|pair| f32::from_bits(pair << 16));
        let high = pairs.map(|pair| f32::from_bits(pair & 0xffff_0000));
        (Self(low), Self(high))
    }
    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> Self::Sums {
        from.cast::<Self::Sums>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store_sums(sums: Self::Sums, to: *mut i32) {
        to.cast::<Self::Sums>().write_unaligned(sums);
    }
    #[inline(always)]
    unsafe fn add_quads(mut sums: Self::Sums, x: i32, weights: *const i8) -> Self::Sums {
        let x = x.to_le_bytes().map(|byte| i32::from(byte as i8));
        for (lane, sum) in sums.iter_mut().enumerate() {
            for (i, x) in x.iter().enumerate() {
                *sum += x * i32::from(*weights.add(4 * lane + i));
            }
        }
        sums
    }
}

/// Writes `unsafe fn name(isa, arguments)` that runs `body::<V>` compiled for the vectors of `isa`, whose byte products it
/// needs (`bytes`) or not (`floats`).
macro_rules! vectorised {
    (@vnni floats) => { $crate::model::cpu::vector::Avx512 };
    (@vnni bytes) => { $crate::model::cpu::vector::Vnni };
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) = $body:ident, $of:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the body says.
        pub(in crate::model) unsafe fn $name(isa: $crate::model::cpu::isa::Isa, $($arg: $type),*) {
            use $crate::model::cpu::{isa::Width, vector};

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                $body::<vector::Avx2>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
            unsafe fn avx512($($arg: $type),*) {
                $body::<vector::Avx512>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
            unsafe fn vnni($($arg: $type),*) {
                $body::<$crate::model::cpu::vector::vectorised!(@vnni $of)>($($arg),*);
            }
            match isa.width() {
                Width::Plain => $body::<vector::Plain>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                Width::Avx2 => avx2($($arg),*),
                #[cfg(target_arch = "x86_64")]
                Width::Avx512 => avx512($($arg),*),
                #[cfg(target_arch = "x86_64")]
                Width::Vnni => vnni($($arg),*),
                #[cfg(target_arch = "aarch64")]
                Width::Neon => $body::<vector::Neon>($($arg),*),
            }
        }
    };
}
pub(super) use vectorised;

/// Most packed rows of the micro-kernels of `isa`.
pub(super) const fn packed_rows(isa: Isa) -> usize {
    match isa.width() {
        Width::Plain => Plain::PACKED_ROWS,
        #[cfg(target_arch = "x86_64")]
        Width::Avx2 => Avx2::PACKED_ROWS,
        #[cfg(target_arch = "x86_64")]
        Width::Avx512 | Width::Vnni => Avx512::PACKED_ROWS,
        #[cfg(target_arch = "aarch64")]
        Width::Neon => Neon::PACKED_ROWS,
    }
}

/// What `isa` wants added to quantised activations.
pub(super) const fn offset(isa: Isa) -> i32 {
    match isa.width() {
        #[cfg(target_arch = "x86_64")]
        Width::Vnni => Vnni::OFFSET,
        #[cfg(target_arch = "x86_64")]
        Width::Avx2 | Width::Avx512 => Avx512::OFFSET,
        #[cfg(target_arch = "aarch64")]
        Width::Neon => Neon::OFFSET,
        Width::Plain => Plain::OFFSET,
    }
}
