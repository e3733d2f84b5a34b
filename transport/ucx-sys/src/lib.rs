//! Raw UCP of UCX 1.13 to 1.22: the functions, types and constants that Thalamus calls, found at run time.
//!
//! Nothing is linked: [`open`] looks the library up, checks its version and hands out a table of functions. This
//! crate never calls one of them except to ask for the version. Structures are those of 1.13; newer libraries
//! appended fields that are guarded by masks, so a mask bit that is not in these bindings must never be set.
#![allow(unsafe_code)] // a table of foreign functions; who calls one says why that is right

#[rustfmt::skip]
#[allow(
    missing_docs,
    non_camel_case_types,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    clippy::too_many_arguments
)] // generated
mod bindings;
mod library;

pub use bindings::*;
pub use library::{OpenError, Version, open, prepare_environment};
