//! The processor as the forward sees it: a fixed pool of threads, reference kernels, and fast ones.
//!
//! The reference ([`kernels`]) computes on weights as they lie in the file, with the same bits on every width and in every
//! partition. The fast kernels ([`fast`]) compute on [`packed`] weights, written once over a [`vector`] of sixteen
//! floats; for each instruction set a row's bits depend on the row alone. Nothing here knows what a layer is.

#[cfg(test)]
mod allocations;
mod bytes;
mod fast;
mod flash;
mod gemm;
mod isa;
mod kernels;
mod packed;
mod panel;
mod pool;
mod probe;
mod vector;
mod weights;

pub(super) use bytes::byte_products;
pub(super) use fast::{Crew, Local as FastLocal, Prepared};
pub(super) use gemm::Sink;
pub(super) use isa::Isa;
pub(super) use kernels::{COLUMNS, Matrix, Queries, Softmax, attend, gate, normalise, products};
pub(super) use packed::{Column, Kind, Packed, QUADS_INPUTS_MAX, STRIP, fill};
pub(super) use pool::Pool;
pub(super) use probe::multiply_add_rate;
pub(super) use weights::Format;

pub(crate) use kernels::exp;
