//! What happens inside `progress`: a block finds its place, and everything else is left as a [`Note`] for the thread.
//!
//! Nothing here calls progress or the sink, or waits. UCX comes in through `callbacks`.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ffi::c_void,
    slice,
    sync::Arc,
};

use bus_schemas::NodeRef;
use gpu::Region;
use ucx_sys::{
    UCP_OP_ATTR_FIELD_CALLBACK, UCP_OP_ATTR_FIELD_MEMH, UCP_OP_ATTR_FIELD_MEMORY_TYPE,
    UCP_OP_ATTR_FIELD_USER_DATA, UCS_ERR_CANCELED, UCS_INPROGRESS, UCS_MEMORY_TYPE_HOST, UCS_OK,
    Ucp, ucp_conn_request_h, ucp_mem_h, ucp_request_param_t, ucp_worker_h, ucs_status_t,
};

use super::{
    callbacks::on_landed,
    error::Posted,
    landings::{Claim, Landings},
    message::{BlockHeader, HEADER_BYTES},
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
    /// The pattern of an owner that was greeted, as it came over its lane; empty if it did not.
    Proved { owner: NodeRef, bytes: Vec<u8> },
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
    pub(super) arrivals: *const Arrivals,
    pub(super) kind: OpKind,
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
    /// The body is what an owner shows.
    Proof {
        owner: NodeRef,
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

    /// Takes an operation back from UCX.
    ///
    /// # Safety
    /// `request` is that of an operation which UCX gives back now, and is used no more.
    pub(super) unsafe fn take_back(&self, op: Op, request: *mut c_void, well: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.ucp.ucp_request_free(request) };
        self.pending.set(self.pending.get() - 1);
        self.came_back(op.kind, op.body, true, well);
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
                let op = unsafe { Box::from_raw(raw) };
                let well = matches!(exit, Posted::Done);
                self.came_back(kind, op.body, false, well);
                return well;
            }
        }
        if let OpKind::Landing { take, .. } = kind {
            self.note(Note::Began { take });
        }
        true
    }

    fn came_back(&self, kind: OpKind, body: Vec<u8>, began: bool, well: bool) {
        match kind {
            OpKind::Control => {}
            OpKind::Proof { owner } => {
                let bytes = if well { body } else { Vec::new() };
                self.note(Note::Proved { owner, bytes });
            }
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

    pub(super) fn control(&self, message: Option<(usize, &[u8])>) {
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
    pub(super) fn block(
        &self,
        header: &[u8],
        data: *mut c_void,
        len: usize,
        waits: bool,
    ) -> ucs_status_t {
        let Some(header) = BlockHeader::decode(header) else {
            self.note(Note::Garbage { take: None });
            return UCS_ERR_CANCELED;
        };
        let fits = len == self.region.slot_bytes();
        let claim = self.landings.borrow_mut().claim(header, fits);
        let (kind, slot) = match claim {
            Claim::Into { take, slot, sum } => (OpKind::Landing { take, slot, sum }, slot),
            Claim::Proof { owner } if fits => return self.proof(owner, data, len, waits),
            Claim::Proof { owner } => {
                let bytes = Vec::new();
                self.note(Note::Proved { owner, bytes });
                return UCS_ERR_CANCELED;
            }
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
            self.came_back(kind, Vec::new(), false, true);
            return UCS_OK;
        }
        let op = self.op(kind, [0; HEADER_BYTES], Vec::new());
        // SAFETY: the slot lives as long as the region, which we hold.
        unsafe { self.fetch(op, data, to, len, |op| self.block_params(op)) }
    }

    /// Gives an owner's pattern its place, in the operation itself.
    fn proof(&self, owner: NodeRef, data: *mut c_void, len: usize, waits: bool) -> ucs_status_t {
        let kind = OpKind::Proof { owner };
        if !waits {
            // SAFETY: UCX vouches for the block.
            let bytes = unsafe { slice::from_raw_parts(data.cast_const().cast::<u8>(), len) };
            self.came_back(kind, bytes.to_vec(), false, true);
            return UCS_OK;
        }
        let mut op = self.op(kind, [0; HEADER_BYTES], vec![0; len]);
        let to = op.body.as_mut_ptr();
        // SAFETY: the body lives in the operation until it comes back.
        unsafe { self.fetch(op, data, to, len, body_params) }
    }

    /// Has UCX write a block that waits at its sender to its place.
    ///
    /// # Safety
    /// `data` is UCX's fresh descriptor of a block of `len` bytes, and `to` has room for it until the operation is back.
    unsafe fn fetch(
        &self,
        op: Box<Op>,
        data: *mut c_void,
        to: *mut u8,
        len: usize,
        params: impl FnOnce(*mut Op) -> ucp_request_param_t,
    ) -> ucs_status_t {
        let taken = self.post(op, |op| {
            let mut params = params(op);
            params.cb.recv_am = Some(on_landed);
            // SAFETY: the caller's promise.
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

/// Parameters of an operation on its own body.
pub(super) fn body_params(op: *mut Op) -> ucp_request_param_t {
    ucp_request_param_t {
        op_attr_mask: UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        user_data: op.cast(),
        ..ucp_request_param_t::default()
    }
}
