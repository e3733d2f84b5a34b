//! A whole file in memory, placed where the kernel can back it with huge pages.
//!
//! The kernel maps a file's page huge only where address and offset are both multiples of a huge page, and by itself
//! puts a shared map anywhere. A map never moves, and never outlives its value.

use std::{fs::File, io, os::fd::AsRawFd, ptr, ptr::NonNull};

/// A huge page of x86-64, and of aarch64 with pages of 4 KiB. Elsewhere the alignment does no harm.
const HUGE_BYTES: usize = 2 << 20;

/// What may be done with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only looked at: a write through this map is a fault.
    Read,
    /// Also written.
    Write,
}

/// The first bytes of a file, shared with everybody who maps it.
#[derive(Debug)]
pub struct Map {
    base: NonNull<u8>,
    bytes: usize,
    /// Address space that is ours from `base` on: whole huge pages, the last one perhaps in part.
    space: usize,
}

// SAFETY: shared memory that lives as long as the value; whoever touches its bytes answers for that.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `bytes` bytes, which must be more than none.
    ///
    /// # Errors
    /// There is no room, or the file cannot be mapped so.
    pub fn new(file: &File, bytes: usize, access: Access) -> io::Result<Self> {
        let none = || io::Error::from(io::ErrorKind::OutOfMemory);
        let space = bytes
            .checked_next_multiple_of(HUGE_BYTES)
            .ok_or_else(none)?;
        let room = space.checked_add(HUGE_BYTES).ok_or_else(none)?;
        let start = place(ptr::null_mut(), room, libc::PROT_NONE, RESERVE, -1)?;
        let before = start.addr().next_multiple_of(HUGE_BYTES) - start.addr();
        // SAFETY: the room is one huge page longer than the space.
        let (base, end) = unsafe { (start.byte_add(before), start.byte_add(before + space)) };
        // SAFETY: both ends of the reservation are ours, and nobody was told of them.
        unsafe {
            libc::munmap(start, before);
            libc::munmap(end, HUGE_BYTES - before);
        }
        let map = Self {
            base: NonNull::new(base.cast()).ok_or_else(none)?,
            bytes,
            space,
        };
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let shared = libc::MAP_SHARED | libc::MAP_FIXED;
        place(base, bytes, protection, shared, file.as_raw_fd())?;
        // SAFETY: advice on our own map; refusal is harmless.
        unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
        Ok(map)
    }

    /// Gets all memory now, in huge pages where there are any, instead of a little at each first touch. What is in use
    /// stays as it is.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn commit(&self) -> io::Result<()> {
        for offset in (0..self.bytes).step_by(HUGE_BYTES) {
            // SAFETY: inside the map. Only looked at, and whatever is there is a byte; the kernel makes a page of the
            // file for it, without which it would refuse to make a huge one.
            unsafe { ptr::read_volatile(self.base().add(offset)) };
        }
        let advise = |advice| {
            // SAFETY: both pieces of advice keep the bytes of our own map as they are.
            let done = unsafe { libc::madvise(self.base().cast(), self.bytes, advice) };
            (done == 0)
                .then_some(())
                .ok_or_else(io::Error::last_os_error)
        };
        // Huge pages are a gift: without them, or on an older kernel, the next line does all.
        let _gift = advise(libc::MADV_COLLAPSE);
        advise(libc::MADV_POPULATE_WRITE)
    }

    /// First byte.
    #[must_use]
    pub const fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

/// Address space without memory.
const RESERVE: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Maps at an address of ours, or anywhere.
fn place(
    at: *mut libc::c_void,
    bytes: usize,
    protection: libc::c_int,
    flags: libc::c_int,
    fd: libc::c_int,
) -> io::Result<*mut libc::c_void> {
    // SAFETY: without a fixed address it takes fresh space; with one it replaces space that the caller has reserved.
    let placed = unsafe { libc::mmap(at, bytes, protection, flags, fd, 0) };
    if placed == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(placed)
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the space is ours, and nobody holds a pointer into it once the value is gone.
        if unsafe { libc::munmap(self.base().cast(), self.space) } != 0 {
            tracing::warn!(bytes = self.space, "cannot unmap KV blocks");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_where_a_huge_page_may() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(12_288).expect("12 KiB");
        for access in [Access::Read, Access::Write] {
            let map = Map::new(&file, 12_288, access).expect("a map");
            assert_eq!(map.base().addr() % HUGE_BYTES, 0);
            // SAFETY: the last byte of the file, which nobody writes.
            assert_eq!(unsafe { *map.base().add(12_287) }, 0);
        }
    }

    #[test]
    fn an_impossible_size_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        assert!(Map::new(&file, usize::MAX, Access::Read).is_err());
        assert!(Map::new(&file, isize::MAX as usize, Access::Read).is_err());
    }
}
