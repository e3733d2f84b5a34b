//! A device that owns memory: allocate, copy in, copy out, wait. The trait, and its double on the host.
//!
//! It never decides what is stored where. Copies may still be under way when a call returns; [`Device::synchronise`]
//! waits for them. A range outside a buffer is refused before anything is copied.

/// Why a device refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The range leaves the buffer.
    #[error("bytes {offset} to {end} are not inside a buffer of {bytes}")]
    Range {
        /// First byte.
        offset: usize,
        /// One past the last.
        end: usize,
        /// Of the buffer.
        bytes: usize,
    },
    /// The device has not so much memory left.
    #[error("the device has not {bytes} bytes left")]
    Memory {
        /// Asked for.
        bytes: usize,
    },
    /// The device itself failed: its process should end.
    #[error("the device cannot {what}: {reason}")]
    Failed {
        /// What was attempted.
        what: &'static str,
        /// The driver's words.
        reason: String,
    },
}

/// Memory and the copies into and out of it.
pub trait Device: Send + Sync {
    /// A piece of the device's memory, freed when it is dropped.
    type Buffer: Send;

    /// Allocates zeroed bytes.
    ///
    /// # Errors
    /// [`DeviceError`] if there is not enough memory.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, DeviceError>;

    /// Copies host bytes into a buffer.
    ///
    /// # Errors
    /// [`DeviceError`] if the range leaves the buffer or the device fails.
    fn copy_in(
        &self,
        from: &[u8],
        into: &mut Self::Buffer,
        offset: usize,
    ) -> Result<(), DeviceError>;

    /// Copies bytes of a buffer to the host, and waits for them.
    ///
    /// # Errors
    /// [`DeviceError`] if the range leaves the buffer or the device fails.
    fn copy_out(
        &self,
        from: &Self::Buffer,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), DeviceError>;

    /// Waits until everything asked for is done.
    ///
    /// # Errors
    /// [`DeviceError`] if some of it failed.
    fn synchronise(&self) -> Result<(), DeviceError>;
}

/// The double: the host's own memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDevice;

impl Device for HostDevice {
    type Buffer = Vec<u8>;

    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, DeviceError> {
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(bytes)
            .map_err(|_| DeviceError::Memory { bytes })?;
        buffer.resize(bytes, 0);
        Ok(buffer)
    }

    fn copy_in(
        &self,
        from: &[u8],
        into: &mut Self::Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        let end = range_end(offset, from.len(), into.len())?;
        into[offset..end].copy_from_slice(from);
        Ok(())
    }

    fn copy_out(
        &self,
        from: &Self::Buffer,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), DeviceError> {
        let end = range_end(offset, into.len(), from.len())?;
        into.copy_from_slice(&from[offset..end]);
        Ok(())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// The end of a range, if the range lies inside a buffer.
pub(crate) fn range_end(offset: usize, len: usize, bytes: usize) -> Result<usize, DeviceError> {
    let end = offset.saturating_add(len);
    if end > bytes {
        return Err(DeviceError::Range { offset, end, bytes });
    }
    Ok(end)
}
