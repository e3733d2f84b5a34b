//! How fast a processor multiplies and adds at most: what measured kernels are held against.
//!
//! Registers only; it never touches memory, and says nothing about any model.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::time::Instant;

use super::{
    isa::Isa,
    vector::{LANES, Vector, vectorised},
};

/// Independent sums: more than the instruction's latency hides, and no more than the registers hold.
const SUMS: usize = 12;
/// Rounds of one probe: some tens of milliseconds.
const ROUNDS: usize = 5_000_000;

vectorised! {
    /// Adds `ROUNDS` products to each of `SUMS` vectors.
    fn spin(out: &mut [f32; LANES]) = run, floats
}

/// # Safety
/// The processor has `V`.
#[inline(always)]
unsafe fn run<V: Vector>(out: &mut [f32; LANES]) {
    let (a, b) = (V::splat(std::hint::black_box(1e-9)), V::splat(0.5));
    let mut sums = [V::splat(0.0); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = sum.add_product(a, b);
        }
    }
    let mut total = V::splat(0.0);
    for sum in sums {
        total = total.add_product(sum, b);
    }
    total.store(out.as_mut_ptr());
}

/// Floating-point operations a second of one thread.
pub(in crate::model) fn multiply_add_rate(isa: Isa) -> f64 {
    let mut out = [0.0; LANES];
    let started = Instant::now();
    // SAFETY: an `Isa` exists only for what the processor has.
    unsafe { spin(isa, &mut out) };
    let elapsed = started.elapsed().as_secs_f64();
    std::hint::black_box(out);
    (2 * LANES * SUMS * ROUNDS) as f64 / elapsed
}
