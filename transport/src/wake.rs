//! A doorbell that wakes a thread which sleeps in `poll`, and that sleep itself.
//!
//! Ringing never blocks and may happen any number of times before the sleeper looks.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

/// An eventfd.
#[derive(Debug)]
pub(crate) struct Doorbell(OwnedFd);

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes the sleeper. A full counter is as good as a ring.
    pub(crate) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: reads eight bytes of a local; the descriptor is ours. It fails only when already ringing.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    /// Stops ringing.
    pub(crate) fn hush(&self) {
        let mut count = 0_u64;
        // SAFETY: writes eight bytes of a local; the descriptor is ours. It fails only when it does not ring.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What to wait for on a descriptor.
pub(crate) fn interest(fd: RawFd, write: bool) -> libc::pollfd {
    let events = libc::POLLIN | if write { libc::POLLOUT } else { 0 };
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Sleeps until something happens on one of the descriptors or the time is over.
pub(crate) fn sleep(fds: &mut [libc::pollfd], limit: Duration) {
    // Rounded up, so that a deadline is over when the sleep is.
    let millis = limit.as_micros().div_ceil(1000);
    let millis = i32::try_from(millis).unwrap_or(i32::MAX);
    // SAFETY: the slice is a valid array of its length. An interrupted sleep looks like one without events.
    if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) } < 0 {
        fds.iter_mut().for_each(|fd| fd.revents = 0);
    }
}

/// How long a thread that has just been busy looks again at once instead of sleeping: a wakeup costs more.
const SPIN: Duration = Duration::from_micros(50);

/// Decides between looking again and sleeping.
#[derive(Debug, Default)]
pub(crate) struct Spin(Option<Instant>);

impl Spin {
    /// Something happened.
    pub(crate) fn busy(&mut self) {
        self.0 = Some(Instant::now());
    }

    /// How long to sleep if nothing happens before `limit`.
    pub(crate) fn limit(&mut self, limit: Duration) -> Duration {
        if self.0.is_some_and(|at| at.elapsed() < SPIN) {
            return Duration::ZERO;
        }
        self.0 = None;
        limit
    }
}
