//! A peer's region, mapped read-only into this process.
//!
//! Only a file that can neither shrink nor grow is mapped, so that no truncation by its owner can kill us, and
//! only for reading: nothing here can write into a peer's memory.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use gpu::{
    map::{Access, Map},
    region::SPARE_BYTES,
};

use crate::{card::Key, copier::Source, proof};

/// Seals without which a file is not mapped.
const SEALS: libc::c_int =
    libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;

/// A read-only map of `slots` pieces of `slot_bytes`.
#[derive(Debug)]
pub(super) struct Mapping {
    map: Map,
    slots: u32,
    slot_bytes: usize,
}

impl Mapping {
    /// Maps a file that was handed over, if it is sealed and has exactly this size.
    pub(super) fn new(file: OwnedFd, slots: u32, slot_bytes: usize) -> io::Result<Self> {
        let bytes = (slots as usize)
            .checked_mul(slot_bytes)
            .filter(|bytes| *bytes > 0)
            .and_then(|bytes| bytes.checked_add(SPARE_BYTES))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or_else(|| refused("its size makes no sense"))?;
        // SAFETY: no pointers; a file that cannot be sealed answers with an error.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & SEALS != SEALS {
            return Err(refused("it is not sealed"));
        }
        let file = File::from(file);
        if file.metadata()?.len() != bytes as u64 {
            return Err(refused("its size is not what its owner says"));
        }
        let map = Map::new(&file, bytes, Access::Read)?;
        Ok(Self {
            map,
            slots,
            slot_bytes,
        })
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether this is the memory of the owner of this key, as it shows behind its last slot.
    pub(super) fn is_of(&self, key: &Key) -> bool {
        // SAFETY: the map is `SPARE_BYTES` longer than all slots; an owner writes there before it tells its card.
        let spare = unsafe {
            let spare = self.map.base().add(self.slots as usize * self.slot_bytes);
            std::slice::from_raw_parts(spare, SPARE_BYTES)
        };
        spare == proof::pattern(key, SPARE_BYTES)
    }
}

impl Source for Mapping {
    fn slot(&self, slot: u32) -> *const u8 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        // SAFETY: inside the map, as just asserted.
        unsafe { self.map.base().add(slot as usize * self.slot_bytes) }
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use gpu::Region;

    use super::*;

    fn handed_over(region: &Region) -> OwnedFd {
        region.file().try_clone().expect("a descriptor").into()
    }

    #[test]
    fn a_sealed_region_is_seen_by_its_reader() {
        let region = Region::new(2, 4096).expect("8 KiB");
        let mapping = Mapping::new(handed_over(&region), 2, 4096).expect("a map");
        region.write(1, 0, b"seen");
        // SAFETY: four bytes inside slot 1.
        let seen = unsafe { std::slice::from_raw_parts(mapping.slot(1), 4) };
        assert_eq!(seen, b"seen");
    }

    #[test]
    fn what_is_unsealed_or_of_another_size_is_not_mapped() {
        let region = Region::new(2, 4096).expect("8 KiB");
        assert!(Mapping::new(handed_over(&region), 3, 4096).is_err());
        assert!(Mapping::new(handed_over(&region), u32::MAX, usize::MAX).is_err());
        assert!(Mapping::new(handed_over(&region), 0, 4096).is_err());
        let unsealed = tempfile::tempfile().expect("a file");
        unsealed.set_len(8192).expect("8 KiB");
        assert!(Mapping::new(unsealed.into(), 2, 4096).is_err());
    }
}
