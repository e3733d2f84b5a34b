//! Why UCX refused, in its own words and ours.

use std::ffi::CStr;

use ucx_sys::{OpenError, UCS_ERR_LAST, UCS_OK, Ucp, ucs_status_ptr_t, ucs_status_t};

/// Why UCX cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UcxError {
    /// No library, or one that does not fit.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A call failed.
    #[error("UCX cannot {what}: {reason}")]
    Call {
        /// What was attempted.
        what: &'static str,
        /// UCX's words.
        reason: String,
    },
    /// A setting did not take, or was meant for another version.
    #[error("UCX did not accept the setting {key}={value}")]
    Setting {
        /// Without the prefix.
        key: String,
        /// Wanted.
        value: String,
    },
    /// The system refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// A status as a result.
pub(super) fn check(ucp: &Ucp, status: ucs_status_t, what: &'static str) -> Result<(), UcxError> {
    if status == UCS_OK {
        return Ok(());
    }
    let reason = words(ucp, status);
    Err(UcxError::Call { what, reason })
}

/// UCX's words for a status.
pub(super) fn words(ucp: &Ucp, status: ucs_status_t) -> String {
    // SAFETY: returns a static or thread-local string with a closing zero for any status.
    let words = unsafe { CStr::from_ptr(ucp.ucs_status_string(status)) };
    words.to_string_lossy().into_owned()
}

/// The three exits of every call that posts an operation.
pub(super) enum Posted {
    /// Done now; its callback is not called.
    Done,
    /// Under way; its callback is called once.
    Pending,
    /// Refused; its callback is not called.
    Refused(ucs_status_t),
}

impl Posted {
    pub(super) fn of(pointer: ucs_status_ptr_t) -> Self {
        if pointer.is_null() {
            return Self::Done;
        }
        // UCX hides small negative statuses in the last bytes of the address space.
        let value = pointer as isize;
        match ucs_status_t::try_from(value) {
            Ok(status) if (UCS_ERR_LAST..0).contains(&status) => Self::Refused(status),
            Ok(_) | Err(_) => Self::Pending,
        }
    }
}
