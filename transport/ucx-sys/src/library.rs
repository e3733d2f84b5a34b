//! Finds the UCX library, once per process.
//!
//! UCX reads its environment while it is being loaded: variables that others left there could change lanes or trap
//! signals, so they are removed before. The library is never unloaded: its threads and hooks may outlive any handle.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::{Once, OnceLock},
};

use libloading::{Library, os::unix};

use crate::bindings::{UCP_API_MAJOR, UCP_API_MINOR, Ucp};

/// The library's name, the same in all versions that fit.
const NAME: &str = "libucp.so.0";
/// What it needs, in loading order. Only for a directory of one's own: a wheel's libraries carry no search path, and
/// would be mixed with the system's.
const NEEDED: [&str; 4] = [
    "libucm.so.0",
    "libucs.so.0",
    "libucs_signal.so.0",
    "libuct.so.0",
];
/// Names a directory with a UCX of one's own.
const DIRECTORY: &str = "THALAMUS_UCX_DIR";
/// Begins the variables by which an operator sets something of UCX: the rest is UCX's own name.
const OPERATORS: &str = "THALAMUS_UCX_";
/// Set for UCX unless an operator says otherwise. Settings of a transport are here because UCX's interface takes them
/// under names that changed between versions; the environment works with all.
const FORCED: [(&str, &str); 7] = [
    ("UCX_HANDLE_ERRORS", "none"),   // it would trap SIGSEGV
    ("UCX_MEM_EVENTS", "n"),         // it would hook the allocator
    ("UCX_TCP_PUT_ENABLE", "n"),     // 1.13 aborts when a peer resets a put of a frozen sender
    ("UCX_TCP_KEEPIDLE", "2s"),      // a dead host is noticed within a ticket's life
    ("UCX_TCP_CONN_NB", "y"),        // a host that does not answer must not stop the thread
    ("UCX_TCP_TX_SEG_SIZE", "64k"),  // larger segments double the rate over tcp
    ("UCX_TCP_RX_SEG_SIZE", "256k"), // the same
];

/// Version of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes when old programs no longer run.
    pub major: u32,
    /// Changes when something was added.
    pub minor: u32,
    /// Changes when something was mended.
    pub release: u32,
}

/// Why there is no UCX.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Not found, or not loadable, or a function is missing.
    #[error(
        "cannot open the UCX library: {0}; install it (Debian: libucx0) or name its directory in THALAMUS_UCX_DIR"
    )]
    Missing(String),
    /// Found, but not one that these bindings fit.
    #[error("the UCX library is version {}.{}.{}; 1.13 or a later 1.x is needed", .0.major, .0.minor, .0.release)]
    Version(Version),
}

/// Removes foreign `UCX_*` variables and sets those that must be set before the library is loaded, among them what an
/// operator asks for by `THALAMUS_UCX_*`. Once per process.
///
/// # Safety
/// No other thread may read or write the environment except through the standard library meanwhile: call it first in
/// `main`. [`open`] calls it if that was not done.
pub unsafe fn prepare_environment() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        let present: Vec<(String, OsString)> = env::vars_os().filter_map(named).collect();
        // SAFETY: the caller vouches for the other threads, here and below.
        let set = |name: &str, value: &OsStr| unsafe { env::set_var(name, value) };
        for (name, _) in present.iter().filter(|(name, _)| name.starts_with("UCX_")) {
            // SAFETY: as above.
            unsafe { env::remove_var(name) };
        }
        for (name, value) in FORCED {
            set(name, OsStr::new(value));
        }
        for (name, value) in &present {
            if let Some(key) = name.strip_prefix(OPERATORS)
                && name != DIRECTORY
            {
                set(&format!("UCX_{key}"), value);
            }
        }
    });
}

/// Opens the library, or says again how that went.
///
/// # Errors
/// [`OpenError`], which says what to do.
pub fn open() -> Result<(&'static Ucp, Version), OpenError> {
    static OPENED: OnceLock<Result<(Ucp, Version), OpenError>> = OnceLock::new();
    let opened = OPENED.get_or_init(load).as_ref();
    opened
        .map(|(ucp, version)| (ucp, *version))
        .map_err(Clone::clone)
}

fn load() -> Result<(Ucp, Version), OpenError> {
    // SAFETY: the standard library's lock covers all of our own code; `main` has called it before there were threads.
    unsafe { prepare_environment() };
    let missing = |error: libloading::Error| OpenError::Missing(error.to_string());
    let path = match env::var_os(DIRECTORY).map(PathBuf::from) {
        None => PathBuf::from(NAME),
        Some(dir) => {
            for needed in NEEDED
                .map(|name| dir.join(name))
                .iter()
                .filter(|path| path.exists())
            {
                // SAFETY: the operator named the directory; its libraries' constructors are UCX's own.
                std::mem::forget(unsafe { Library::new(needed) }.map_err(missing)?);
            }
            dir.join(NAME)
        }
    };
    let flags = unix::RTLD_NOW | unix::RTLD_LOCAL;
    // SAFETY: UCX's constructors run; the environment that they read was prepared above.
    let library = unsafe { unix::Library::open(Some(path), flags) }.map_err(missing)?;
    // SAFETY: the symbols have the types that UCP's headers declare, in every version that the gate below lets in.
    let ucp = unsafe { Ucp::from_library(library) }.map_err(missing)?;
    let version = version(&ucp);
    if version.major != UCP_API_MAJOR || version.minor < UCP_API_MINOR {
        std::mem::forget(ucp);
        return Err(OpenError::Version(version));
    }
    Ok((ucp, version))
}

fn version(ucp: &Ucp) -> Version {
    let (mut major, mut minor, mut release) = (0, 0, 0);
    // SAFETY: writes three integers of ours.
    unsafe { ucp.ucp_get_version(&raw mut major, &raw mut minor, &raw mut release) };
    Version {
        major,
        minor,
        release,
    }
}
