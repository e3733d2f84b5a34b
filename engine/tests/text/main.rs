//! Tests of the text side: real model directories, streaming, chat templates and cards.

mod card;
mod checkpoints;
mod detokenizer;
mod fixtures;
mod mini;
mod template;
