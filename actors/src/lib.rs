//! The shells around the cores: one ractor actor per role, what feeds it and what carries out its effects.
//!
//! Nothing here decides. A shell turns letters, timers and completions into inputs and effects into IO;
//! it never keeps state of a request, a block or a peer. Start reading at [`shell`].

pub mod admin;
pub mod clock;
pub mod engine_thread;
pub mod gateway;
pub mod post;
pub mod router;
pub mod shell;
pub mod supervisor;
pub mod trail;
pub mod worker;

pub use clock::Clock;
pub use shell::{Credits, Ports, Shell, ShellMsg};
