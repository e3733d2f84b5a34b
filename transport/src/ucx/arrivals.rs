//! What UCX's callbacks do: find a block's place, note what happened, and return at once.
//!
//! Callbacks run inside `progress` on the fabric's thread. They never call progress, never call the sink, and never
//! let a panic cross into C; everything else is left as a [`Note`] for the thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
    sync::Arc,
};

use gpu::Region;
use ucx_sys::{
    UCP_AM_RECV_ATTR_FIELD_REPLY_EP, UCP_AM_RECV_ATTR_FLAG_RNDV, UCP_OP_ATTR_FIELD_CALLBACK,
    UCP_OP_ATTR_FIELD_MEMH, UCP_OP_ATTR_FIELD_MEMORY_TYPE, UCP_OP_ATTR_FIELD_USER_DATA,
    UCS_ERR_CANCELED, UCS_INPROGRESS, UCS_MEMORY_TYPE_HOST, UCS_OK, Ucp, ucp_am_recv_param_t,
    ucp_conn_request_h, ucp_ep_h, ucp_mem_h, ucp_request_param_t, ucp_worker_h, ucs_status_t,
};

use super::{
    error::Posted,
    landings::{Claim, Landings},
    message::{BlockHeader, CONTROL_BYTES_MAX, HEADER_BYTES},
};
use crate::checks;

/// Control messages that wait for the thread; more are dropped, and their senders try again.
const CONTROL_MAX: usize = 8192;

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// A control message came over this endpoint.
    Control { over: usize, bytes: Vec<u8> },
    /// Somebody wants to connect.
    Knock(ucp_conn_request_h),
    /// UCX began to write into a slot of this take.
    Began { take: u64 },
    /// A block is here, or its transfer failed; `began` if there was a beginning.
    Landed {
        take: u64,
        began: bool,
        end: Landing,
    },
    /// A block of ours was sent, or not.
    Sent { conn: u64, well: bool },
    /// An endpoint broke.
    Broke { conn: u64, status: ucs_status_t },
    /// A message made no sense; if it was for a take, for which.
    Garbage { take: Option<u64> },
}

/// How a block's transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// It is in its slot.
    Well,
    /// It will never be.
    Lost,
    /// It is there, and not what its owner has.
    Corrupt,
}

/// State that the callbacks share with the thread. UCX keeps its address.
pub(super) struct Arrivals {
    pub(super) landings: RefCell<Landings>,
    pub(super) worker: Cell<ucp_worker_h>,
    ucp: &'static Ucp,
    region: Arc<Region>,
    memory: ucp_mem_h,
    notes: RefCell<VecDeque<Note>>,
    controls: Cell<usize>,
    pending: Cell<usize>,
}

/// One operation that UCX holds on to: everything it may touch, and what to note when it comes back.
pub(super) struct Op {
    arrivals: *const Arrivals,
    kind: OpKind,
    pub(super) header: [u8; HEADER_BYTES],
    pub(super) body: Vec<u8>,
}

/// Whose operation it is.
#[derive(Clone, Copy)]
pub(super) enum OpKind {
    Control,
    Block {
        conn: u64,
    },
    Landing {
        take: u64,
        slot: u32,
        sum: Option<u32>,
    },
}

impl Arrivals {
    pub(super) fn new(ucp: &'static Ucp, region: &Arc<Region>, memory: ucp_mem_h) -> Box<Self> {
        Box::new(Self {
            landings: RefCell::default(),
            worker: Cell::new(std::ptr::null_mut()),
            ucp,
            region: Arc::clone(region),
            memory,
            notes: RefCell::default(),
            controls: Cell::new(0),
            pending: Cell::new(0),
        })
    }

    /// The oldest note.
    pub(super) fn next(&self) -> Option<Note> {
        let note = self.notes.borrow_mut().pop_front()?;
        if matches!(note, Note::Control { .. }) {
            self.controls.set(self.controls.get() - 1);
        }
        Some(note)
    }

    /// Operations that UCX has not given back.
    pub(super) fn pending(&self) -> usize {
        self.pending.get()
    }

    pub(super) fn note(&self, note: Note) {
        self.notes.borrow_mut().push_back(note);
    }

    /// An operation about to be posted.
    pub(super) fn op(&self, kind: OpKind, header: [u8; HEADER_BYTES], body: Vec<u8>) -> Box<Op> {
        Box::new(Op {
            arrivals: self,
            kind,
            header,
            body,
        })
    }

    /// Hands an operation to UCX by `post`, and settles its three exits. False if it was refused.
    pub(super) fn post(&self, op: Box<Op>, post: impl FnOnce(*mut Op) -> Posted) -> bool {
        let kind = op.kind;
        let raw = Box::into_raw(op);
        match post(raw) {
            Posted::Pending => self.pending.set(self.pending.get() + 1),
            exit @ (Posted::Done | Posted::Refused(_)) => {
                // SAFETY: UCX calls no callback after these exits, so the operation is ours again.
                drop(unsafe { Box::from_raw(raw) });
                let well = matches!(exit, Posted::Done);
                self.came_back(kind, false, well);
                return well;
            }
        }
        if let OpKind::Landing { take, .. } = kind {
            self.note(Note::Began { take });
        }
        true
    }

    fn came_back(&self, kind: OpKind, began: bool, well: bool) {
        match kind {
            OpKind::Control => {}
            OpKind::Block { conn } => self.note(Note::Sent { conn, well }),
            OpKind::Landing { take, slot, sum } => {
                let end = match sum {
                    _ if !well => Landing::Lost,
                    Some(sum) if sum != checks::sum(&self.region, slot) => Landing::Corrupt,
                    Some(_) | None => Landing::Well,
                };
                self.note(Note::Landed { take, began, end });
            }
        }
    }

    /// Parameters of an operation on blocks of the region.
    pub(super) fn block_params(&self, op: *mut Op) -> ucp_request_param_t {
        ucp_request_param_t {
            op_attr_mask: UCP_OP_ATTR_FIELD_CALLBACK
                | UCP_OP_ATTR_FIELD_USER_DATA
                | UCP_OP_ATTR_FIELD_MEMH
                | UCP_OP_ATTR_FIELD_MEMORY_TYPE,
            user_data: op.cast(),
            memh: self.memory,
            memory_type: UCS_MEMORY_TYPE_HOST,
            ..ucp_request_param_t::default()
        }
    }

    fn control(&self, message: Option<(usize, &[u8])>) {
        match message {
            Some((over, bytes)) if self.controls.get() < CONTROL_MAX => {
                self.controls.set(self.controls.get() + 1);
                let bytes = bytes.to_vec();
                self.note(Note::Control { over, bytes });
            }
            Some(_) | None => self.note(Note::Garbage { take: None }),
        }
    }

    /// Gives a block its place. `data` is the block itself, or UCX's descriptor of one that waits at its sender.
    fn block(&self, header: &[u8], data: *mut c_void, len: usize, waits: bool) -> ucs_status_t {
        let Some(header) = BlockHeader::decode(header) else {
            self.note(Note::Garbage { take: None });
            return UCS_ERR_CANCELED;
        };
        let fits = len == self.region.slot_bytes();
        let (kind, slot) = match self.landings.borrow_mut().claim(header, fits) {
            Claim::Into { take, slot, sum } => (OpKind::Landing { take, slot, sum }, slot),
            Claim::Late => return UCS_ERR_CANCELED,
            Claim::Wrong { take } => {
                self.note(Note::Garbage { take: Some(take) });
                return UCS_ERR_CANCELED;
            }
        };
        let to = self.region.slot(slot);
        if !waits {
            // SAFETY: `len` is a slot's length, as just checked; UCX vouches for the block, the worker's pool for the slot.
            unsafe { std::ptr::copy_nonoverlapping(data.cast_const().cast(), to, len) };
            self.came_back(kind, false, true);
            return UCS_OK;
        }
        let op = self.op(kind, [0; HEADER_BYTES], Vec::new());
        let taken = self.post(op, |op| {
            let mut params = self.block_params(op);
            params.cb.recv_am = Some(on_landed);
            // SAFETY: the descriptor is UCX's and fresh; the slot lives as long as the region, which we hold.
            Posted::of(unsafe {
                let params = &raw const params;
                self.ucp
                    .ucp_am_recv_data_nbx(self.worker.get(), data, to.cast(), len, params)
            })
        });
        if taken {
            UCS_INPROGRESS
        } else {
            UCS_ERR_CANCELED
        }
    }
}

/// Takes an operation back from UCX.
///
/// # Safety
/// `op` was given to UCX as user data by [`Arrivals::post`], and this is its one callback; `request` is its request.
unsafe fn take_back(request: *mut c_void, op: *mut c_void, status: ucs_status_t) {
    // A panic here would be a bug of ours; the operation then counts as pending for ever, which keeps its slot safe.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's promise; the arrivals outlive the worker that calls us.
        let (op, arrivals) = unsafe {
            let op = Box::from_raw(op.cast::<Op>());
            let arrivals = &*op.arrivals;
            arrivals.ucp.ucp_request_free(request);
            (op, arrivals)
        };
        arrivals.pending.set(arrivals.pending.get() - 1);
        arrivals.came_back(op.kind, true, status == UCS_OK);
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
unsafe extern "C" fn on_landed(
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
