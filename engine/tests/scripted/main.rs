//! Tests of the engines without a model: the scripted and the simulated one.

mod blocks;
mod paths;
mod plans;
mod profiles;
mod rig;
mod scripts;
