//! The functions that UCX calls: each hands over to the arrivals and returns at once.
//!
//! They run inside `progress` on the fabric's thread, never call progress, and never let a panic cross into C.

use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

use ucx_sys::{
    UCP_AM_RECV_ATTR_FIELD_REPLY_EP, UCP_AM_RECV_ATTR_FLAG_RNDV, UCS_ERR_CANCELED, UCS_OK,
    ucp_am_recv_param_t, ucp_conn_request_h, ucp_ep_h, ucs_status_t,
};

use super::{
    arrivals::{Arrivals, Note, Op},
    message::{CONTROL_BYTES_MAX, HEADER_BYTES},
};

/// Takes an operation back from UCX.
///
/// # Safety
/// `op` was given to UCX as user data by [`Arrivals::post`], and this is its one callback; `request` is its request.
unsafe fn take_back(request: *mut c_void, op: *mut c_void, status: ucs_status_t) {
    // A panic here would be a bug of ours; the operation then counts as pending for ever, which keeps its slot safe.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's promise; the arrivals outlive the worker that calls us.
        unsafe {
            let op = *Box::from_raw(op.cast::<Op>());
            let arrivals = op.arrivals;
            (*arrivals).take_back(op, request, status == UCS_OK);
        }
    }));
    if caught.is_err() {
        tracing::error!("a UCX callback panicked");
    }
}

/// A send has ended.
pub(super) unsafe extern "C" fn on_sent(
    request: *mut c_void,
    status: ucs_status_t,
    op: *mut c_void,
) {
    // SAFETY: UCX calls this once for a pending operation.
    unsafe { take_back(request, op, status) };
}

/// A block has been written into its slot, or not.
pub(super) unsafe extern "C" fn on_landed(
    request: *mut c_void,
    status: ucs_status_t,
    _len: usize,
    op: *mut c_void,
) {
    // SAFETY: UCX calls this once for a pending operation.
    unsafe { take_back(request, op, status) };
}

/// A control message came.
pub(super) unsafe extern "C" fn on_control(
    arrivals: *mut c_void,
    _header: *const c_void,
    _header_len: usize,
    data: *mut c_void,
    len: usize,
    param: *const ucp_am_recv_param_t,
) -> ucs_status_t {
    // SAFETY: UCX passes what was registered, parameters that live during the call, and `len` bytes unless the message
    // waits at its sender, in which case they are not looked at.
    let run = || unsafe {
        let has = |attr| (*param).recv_attr & u64::from(attr) != 0;
        let waits = has(UCP_AM_RECV_ATTR_FLAG_RNDV);
        let fits = !waits && len > 0 && len <= CONTROL_BYTES_MAX;
        let message = (fits && has(UCP_AM_RECV_ATTR_FIELD_REPLY_EP)).then(|| {
            let bytes = slice::from_raw_parts(data.cast_const().cast(), len);
            ((*param).reply_ep.addr(), bytes)
        });
        (*arrivals.cast::<Arrivals>()).control(message);
        if waits { UCS_ERR_CANCELED } else { UCS_OK }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(UCS_ERR_CANCELED)
}

/// A block came, or waits at its sender.
pub(super) unsafe extern "C" fn on_block(
    arrivals: *mut c_void,
    header: *const c_void,
    header_len: usize,
    data: *mut c_void,
    len: usize,
    param: *const ucp_am_recv_param_t,
) -> ucs_status_t {
    // SAFETY: as for control messages; the header has `header_len` bytes.
    let run = || unsafe {
        let waits = (*param).recv_attr & u64::from(UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
        let header = match header_len {
            HEADER_BYTES => slice::from_raw_parts(header.cast(), header_len),
            _ => &[],
        };
        let status = (*arrivals.cast::<Arrivals>()).block(header, data, len, waits);
        // An eager block that is refused is simply not looked at any more.
        if waits { status } else { UCS_OK }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(UCS_ERR_CANCELED)
}

/// Somebody wants to connect. Only noted: accepting is the thread's business.
pub(super) unsafe extern "C" fn on_knock(request: ucp_conn_request_h, arrivals: *mut c_void) {
    // SAFETY: UCX passes what was registered, which outlives the listener.
    let run = || unsafe { (*arrivals.cast::<Arrivals>()).note(Note::Knock(request)) };
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        tracing::error!("a UCX connection callback panicked");
    }
}

/// An endpoint broke. Only noted: closing it is the thread's business.
pub(super) unsafe extern "C" fn on_broken(tag: *mut c_void, _ep: ucp_ep_h, status: ucs_status_t) {
    let run = || {
        // SAFETY: the tag that was given with the endpoint, which outlives it; so do the arrivals.
        let (arrivals, conn) = unsafe {
            let tag = &*tag.cast::<Tag>();
            (&*tag.arrivals, tag.conn)
        };
        arrivals.note(Note::Broke { conn, status });
    };
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        tracing::error!("a UCX error callback panicked");
    }
}

/// Names an endpoint to its error callback.
pub(super) struct Tag {
    pub(super) arrivals: *const Arrivals,
    pub(super) conn: u64,
}
