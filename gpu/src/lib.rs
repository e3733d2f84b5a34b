//! Memory that keys and values live in, and the devices that own it.
//!
//! This crate never decides what is stored where: it hands out one [`Region`] per worker and copies bytes.
//! CUDA is opened at run time and never needed to build. Start reading at [`region`], then [`device`].
#![allow(unsafe_code)] // memory maps and device pointers are what this crate is for; each block says who guarantees it

pub mod cuda;
pub mod device;
pub mod map;
pub mod region;

pub use cuda::{CudaDevice, CudaError, CudaInfo};
pub use device::{Device, DeviceError, HostDevice};
pub use region::{Region, RegionError};
