//! The router's core, driven letter by letter.

#[path = "router/bench.rs"]
mod bench;
#[path = "router/finding.rs"]
mod finding;
#[path = "router/picture.rs"]
mod picture;
#[path = "router/placing.rs"]
mod placing;
#[path = "router/soup.rs"]
mod soup;
