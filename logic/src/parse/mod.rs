//! What a model means by what it writes: thoughts, calls of tools, and text, told apart while it writes.
//!
//! A family of models is data ([`Format`]); one [`Parser`] runs them all. It never asks whether a tool was
//! offered: parsing is not authorisation. Start reading at [`Parser::push`].

mod call;
mod format;
mod parser;

pub use self::{
    call::Call,
    format::{Format, State},
    parser::{Parser, Piece, Reason},
};
