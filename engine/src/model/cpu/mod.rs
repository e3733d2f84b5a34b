//! The processor as the forward sees it: a fixed pool of threads, and kernels in the widest vectors it has.
//!
//! Every kernel gives the same bits on every width and in every partition: sums run over
//! [`kernels::LANES`] lanes and a fixed tree, with separate multiply and add. Nothing here knows what a layer is.

mod isa;
mod kernels;
mod pool;
mod weights;

pub(super) use isa::Isa;
pub(super) use kernels::{COLUMNS, Matrix, Queries, Softmax, attend, gate, normalise, products};
pub(super) use pool::Pool;
pub(super) use weights::Format;

pub(crate) use kernels::exp;
