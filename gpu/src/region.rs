//! One allocation that holds a worker's KV blocks: `slots` pieces of `slot_bytes`, in a memfd that peers on this host can map.
//!
//! A region never moves, grows, shrinks or unmaps while anybody holds it. It keeps no record of who uses a slot:
//! the block pool in `logic` does, and the safety of concurrent access rests on its states (a slot that
//! is being filled has one writer; sealed slots have none).

use std::{fs::File, io, os::fd::FromRawFd, sync::Arc};

use crate::map::{Access, Map};

/// Why a region could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// Zero slots, zero bytes, or a product beyond the address space.
    #[error("a region of {slots} slots of {slot_bytes} bytes is not possible")]
    Size {
        /// Slots asked for.
        slots: u32,
        /// Bytes of one.
        slot_bytes: usize,
    },
    /// The system refused.
    #[error("cannot {what} {bytes} bytes for KV blocks: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// Its answer.
        source: io::Error,
    },
}

/// The memory of a worker's KV blocks.
#[derive(Debug)]
pub struct Region {
    map: Map,
    slots: u32,
    slot_bytes: usize,
    file: File,
}

/// Bytes behind the last slot, which no block uses: what a fabric shows there to prove that a map is of this region.
pub const SPARE_BYTES: usize = 4096;

impl Region {
    /// Maps `slots` pieces of `slot_bytes` each, zeroed, in a memfd, sealed so that it can neither shrink nor be written through new maps.
    ///
    /// # Errors
    /// [`RegionError`] if the size makes no sense or the system has not the memory.
    pub fn new(slots: u32, slot_bytes: usize) -> Result<Arc<Self>, RegionError> {
        let bytes = (slots as usize)
            .checked_mul(slot_bytes)
            .filter(|n| *n > 0)
            .and_then(|n| n.checked_add(SPARE_BYTES))
            .filter(|n| isize::try_from(*n).is_ok())
            .ok_or(RegionError::Size { slots, slot_bytes })?;
        let fail = |what| RegionError::System {
            what,
            bytes,
            source: io::Error::last_os_error(),
        };
        // SAFETY: the name is a NUL-terminated literal.
        let fd = unsafe {
            libc::memfd_create(
                c"thalamus-kv".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        };
        if fd < 0 {
            return Err(fail("open a memory file for"));
        }
        // SAFETY: the descriptor was just opened and is owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(bytes as u64)
            .map_err(|source| RegionError::System {
                what: "reserve",
                bytes,
                source,
            })?;
        let map = Map::new(&file, bytes, Access::Write).map_err(|source| RegionError::System {
            what: "map",
            bytes,
            source,
        })?;
        let seals =
            libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;
        // SAFETY: sealing our own memfd; its existing writable map stays valid.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } != 0 {
            return Err(fail("seal"));
        }
        Ok(Arc::new(Self {
            map,
            slots,
            slot_bytes,
            file,
        }))
    }

    /// Gets all memory now, so that a lack of it shows here and not in the middle of a request, and in huge pages where
    /// the kernel has them: readers on this host then map them at once. It takes some 0.3 s a GiB.
    ///
    /// # Errors
    /// [`RegionError::System`] if there is not enough.
    pub fn commit(&self) -> Result<(), RegionError> {
        self.map.commit().map_err(|source| RegionError::System {
            what: "commit",
            bytes: self.bytes(),
            source,
        })
    }

    /// Writes the spare bytes behind the last slot.
    pub fn write_spare(&self, bytes: &[u8; SPARE_BYTES]) {
        // SAFETY: the map is `SPARE_BYTES` longer than all slots; whoever maps it too expects these bytes to change.
        unsafe {
            let spare = self.map.base().add(self.bytes());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), spare, SPARE_BYTES);
        }
    }

    /// How many slots.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of one slot.
    #[must_use]
    pub const fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Bytes of all slots.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.slots as usize * self.slot_bytes
    }

    /// The sealed memory file, to be handed to a peer on this host.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// First byte of the region. Dereferencing is up to code that may be unsafe.
    #[must_use]
    pub const fn base(&self) -> *mut u8 {
        self.map.base()
    }

    /// First byte of a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn slot(&self, slot: u32) -> *mut u8 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        // SAFETY: the slot lies inside the map, as just asserted.
        unsafe { self.map.base().add(slot as usize * self.slot_bytes) }
    }

    /// Copies bytes out of a slot.
    ///
    /// # Panics
    /// If the range leaves the slot.
    pub fn read(&self, slot: u32, offset: usize, into: &mut [u8]) {
        assert!(
            offset + into.len() <= self.slot_bytes,
            "range leaves the slot"
        );
        // SAFETY: inside the map, asserted; the destination is a distinct borrow.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.slot(slot).add(offset),
                into.as_mut_ptr(),
                into.len(),
            )
        };
    }

    /// Copies bytes into a slot. The caller holds the slot as its only writer.
    ///
    /// # Panics
    /// If the range leaves the slot.
    pub fn write(&self, slot: u32, offset: usize, from: &[u8]) {
        assert!(
            offset + from.len() <= self.slot_bytes,
            "range leaves the slot"
        );
        // SAFETY: inside the map, asserted; the pool guarantees a single writer of a slot that is being filled.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.slot(slot).add(offset), from.len())
        };
    }

    /// Copies a whole slot onto another of this region.
    ///
    /// # Panics
    /// If a slot does not exist.
    pub fn copy_slot(&self, from: u32, to: u32) {
        if from != to {
            // SAFETY: two different slots of one map do not overlap; the pool guarantees the writer.
            unsafe {
                std::ptr::copy_nonoverlapping(self.slot(from), self.slot(to), self.slot_bytes)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn bytes_come_back_and_slots_are_apart() {
        let region = Region::new(4, 4096).expect("16 KiB");
        region.write(2, 100, b"hello");
        region.copy_slot(2, 3);
        let mut back = [0; 5];
        region.read(3, 100, &mut back);
        assert_eq!(&back, b"hello");
        region.read(1, 100, &mut back);
        assert_eq!(back, [0; 5]);
    }

    #[test]
    fn a_peer_cannot_map_it_writable() {
        let region = Region::new(1, 4096).expect("4 KiB");
        // SAFETY: only the result is looked at; the map must be refused.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                region.file().as_raw_fd(),
                0,
            )
        };
        assert_eq!(map, libc::MAP_FAILED);
    }

    #[test]
    fn committing_keeps_what_is_there() {
        let region = Region::new(3, 3 << 20).expect("9 MiB");
        region.write(1, 7, b"kept");
        region.commit().expect("9 MiB");
        let mut back = [0; 4];
        region.read(1, 7, &mut back);
        assert_eq!(&back, b"kept");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(matches!(
            Region::new(0, 4096),
            Err(RegionError::Size { .. })
        ));
        assert!(matches!(
            Region::new(u32::MAX, usize::MAX),
            Err(RegionError::Size { .. })
        ));
    }
}
