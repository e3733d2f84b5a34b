//! CUDA devices, found at run time.
//!
//! Nothing here needs CUDA to build, and nothing panics where it is missing: the library is looked for first, and
//! what cudarc does when a symbol is missing is caught. Start reading at [`probe`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError, sys};

use crate::device::{Device, DeviceError, range_end};

/// A device as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaInfo {
    /// Its name.
    pub name: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// Compute capability, major and minor.
    pub compute: (u32, u32),
}

/// Why there are no CUDA devices to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// No driver.
    #[error("no CUDA driver library (libcuda.so.1); install the NVIDIA driver to use a GPU")]
    Missing,
    /// A driver older than this build, or broken.
    #[error("the CUDA driver does not fit this build: it lacks something that is needed")]
    Unfit,
    /// The driver refused.
    #[error("the CUDA driver cannot {what}: {reason}")]
    Driver {
        /// What was attempted.
        what: &'static str,
        /// Its words.
        reason: String,
    },
}

/// The CUDA devices of this machine.
///
/// # Errors
/// [`CudaError`] if there is no usable driver.
pub fn probe() -> Result<Vec<CudaInfo>, CudaError> {
    guarded(|| {
        let count = call("count its devices", CudaContext::device_count())?;
        (0..usize::try_from(count).unwrap_or(0))
            .map(describe)
            .collect()
    })
}

fn describe(ordinal: usize) -> Result<CudaInfo, CudaError> {
    let context = call("open a device", CudaContext::new(ordinal))?;
    let (major, minor) = call("tell a device's capability", context.compute_capability())?;
    Ok(CudaInfo {
        name: call("tell a device's name", context.name())?,
        memory: call("tell a device's memory", context.total_mem())? as u64,
        compute: (major.unsigned_abs(), minor.unsigned_abs()),
    })
}

/// Runs code that calls CUDA where it may be missing.
fn guarded<T>(run: impl FnOnce() -> Result<T, CudaError>) -> Result<T, CudaError> {
    // SAFETY: only opens the library by name; its constructors are the driver's own.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::Missing);
    }
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(CudaError::Unfit))
}

fn call<T>(what: &'static str, result: Result<T, DriverError>) -> Result<T, CudaError> {
    result.map_err(|error| CudaError::Driver {
        what,
        reason: format!("{error:?}"),
    })
}

/// One CUDA device and a stream of its own.
#[derive(Debug)]
pub struct CudaDevice {
    stream: Arc<CudaStream>,
}

impl CudaDevice {
    /// Opens a device.
    ///
    /// # Errors
    /// [`CudaError`] if there is no usable driver or no such device.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        guarded(|| {
            let context = call("open a device", CudaContext::new(ordinal))?;
            let stream = call("make a stream", context.new_stream())?;
            Ok(Self { stream })
        })
    }
}

impl Device for CudaDevice {
    type Buffer = CudaSlice<u8>;

    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, DeviceError> {
        self.stream
            .alloc_zeros(bytes)
            .map_err(|error| match error.0 {
                sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Memory { bytes },
                _ => failed("allocate memory")(error),
            })
    }

    fn copy_in(
        &self,
        from: &[u8],
        into: &mut Self::Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        let end = range_end(offset, from.len(), into.len())?;
        if from.is_empty() {
            return Ok(());
        }
        let mut range = into.slice_mut(offset..end);
        self.stream
            .memcpy_htod(from, &mut range)
            .map_err(failed("copy in"))
    }

    fn copy_out(
        &self,
        from: &Self::Buffer,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), DeviceError> {
        let end = range_end(offset, into.len(), from.len())?;
        if into.is_empty() {
            return Ok(());
        }
        let range = from.slice(offset..end);
        self.stream
            .memcpy_dtoh(&range, into)
            .map_err(failed("copy out"))?;
        self.synchronise()
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.stream.synchronize().map_err(failed("finish its work"))
    }
}

fn failed(what: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| DeviceError::Failed {
        what,
        reason: format!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_answers_on_any_machine() {
        match probe() {
            Ok(devices) => assert!(devices.iter().all(|device| device.memory > 0)),
            Err(error) => assert!(error.to_string().contains("CUDA")),
        }
    }

    #[test]
    fn a_panic_inside_the_driver_is_an_error() {
        let missing = guarded(|| -> Result<(), CudaError> { panic!("a symbol is missing") });
        assert!(matches!(
            missing,
            Err(CudaError::Missing | CudaError::Unfit)
        ));
    }
}
