//! A UCX worker, its endpoints, and what is sent over them. Used by one thread only.
//!
//! Nothing here waits. An endpoint is closed by force, and its operations come back by further progress.

use std::{
    mem::ManuallyDrop,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    ptr,
};

use ucx_sys::{
    UCP_AM_HANDLER_PARAM_FIELD_ARG, UCP_AM_HANDLER_PARAM_FIELD_CB, UCP_AM_HANDLER_PARAM_FIELD_ID,
    UCP_AM_SEND_FLAG_EAGER, UCP_AM_SEND_FLAG_REPLY, UCP_EP_CLOSE_FLAG_FORCE,
    UCP_EP_PARAM_FIELD_CONN_REQUEST, UCP_EP_PARAM_FIELD_ERR_HANDLER,
    UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE, UCP_EP_PARAM_FIELD_FLAGS, UCP_EP_PARAM_FIELD_SOCK_ADDR,
    UCP_EP_PARAMS_FLAGS_CLIENT_SERVER, UCP_ERR_HANDLING_MODE_PEER,
    UCP_LISTENER_ATTR_FIELD_SOCKADDR, UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
    UCP_LISTENER_PARAM_FIELD_SOCK_ADDR, UCP_OP_ATTR_FIELD_FLAGS,
    UCP_WORKER_PARAM_FIELD_THREAD_MODE, UCS_INPROGRESS, UCS_OK, UCS_THREAD_MODE_SINGLE, Ucp,
    ucp_am_handler_param_t, ucp_am_recv_callback_t, ucp_conn_request_h, ucp_ep_h, ucp_ep_params_t,
    ucp_err_handler_t, ucp_listener_attr_t, ucp_listener_h, ucp_listener_params_t,
    ucp_request_param_t, ucp_worker_params_t, ucs_status_ptr_t,
};

use super::{
    arrivals::{Arrivals, OpKind, body_params},
    callbacks::{Tag, on_block, on_broken, on_control, on_knock, on_sent},
    context::Context,
    error::{Posted, UcxError, check},
    message::{BlockHeader, Control, HEADER_BYTES},
    printed::{chosen, printed},
    sockaddr::SocketAddress,
};

/// Active message of control messages.
const CONTROL: u32 = 1;
/// Active message of blocks.
const BLOCK: u32 = 2;

/// A worker.
pub(super) struct Worker {
    context: Context,
    listener: ucp_listener_h,
    arrivals: Box<Arrivals>,
}

impl Endpoint {
    /// What control messages over this endpoint are marked with.
    pub(super) fn mark(&self) -> usize {
        self.raw.addr()
    }

    /// What notes about this endpoint name.
    pub(super) fn conn(&self) -> u64 {
        self.tag.conn
    }
}

/// A connection to a peer, as UCX sees it. Must be closed, not dropped.
pub(super) struct Endpoint {
    raw: ucp_ep_h,
    tag: Box<Tag>,
}

/// An endpoint on its way out.
pub(super) struct Closing {
    request: ucs_status_ptr_t,
    /// The error callback may still be called until the endpoint is gone.
    _tag: Box<Tag>,
}

impl Worker {
    pub(super) fn new(context: Context, listen: IpAddr) -> Result<Self, UcxError> {
        let ucp = context.ucp();
        let params = ucp_worker_params_t {
            field_mask: u64::from(UCP_WORKER_PARAM_FIELD_THREAD_MODE),
            thread_mode: UCS_THREAD_MODE_SINGLE,
            ..ucp_worker_params_t::default()
        };
        let mut raw = ptr::null_mut();
        // SAFETY: the context is alive and outlives the worker, which owns it.
        let status =
            unsafe { ucp.ucp_worker_create(context.raw(), &raw const params, &raw mut raw) };
        check(ucp, status, "make a worker")?;
        let arrivals = Arrivals::new(ucp, context.region(), context.memory());
        arrivals.worker.set(raw);
        let mut worker = Self {
            context,
            listener: ptr::null_mut(),
            arrivals,
        };
        worker.handle(CONTROL, Some(on_control))?;
        worker.handle(BLOCK, Some(on_block))?;
        worker.listen(listen)?;
        Ok(worker)
    }

    fn listen(&mut self, on: IpAddr) -> Result<(), UcxError> {
        let address = SocketAddress::new(SocketAddr::new(on, 0));
        let fields = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
        let mut params = ucp_listener_params_t {
            field_mask: u64::from(fields),
            ..ucp_listener_params_t::default()
        };
        params.sockaddr.addr = address.raw().cast();
        params.sockaddr.addrlen = address.len();
        params.conn_handler.cb = Some(on_knock);
        params.conn_handler.arg = ptr::from_ref(&*self.arrivals).cast_mut().cast();
        let worker = self.arrivals.worker.get();
        // SAFETY: the address outlives the call; the arrivals outlive the listener.
        let status = unsafe {
            self.ucp()
                .ucp_listener_create(worker, &raw const params, &raw mut self.listener)
        };
        check(
            self.ucp(),
            status,
            "listen for readers (is the address one of this host's?)",
        )
    }

    /// Where peers reach this worker.
    pub(super) fn address(&self) -> Result<SocketAddr, UcxError> {
        let mut attr = ucp_listener_attr_t {
            field_mask: u64::from(UCP_LISTENER_ATTR_FIELD_SOCKADDR),
            ..ucp_listener_attr_t::default()
        };
        // SAFETY: UCX fills a local of ours.
        let status = unsafe { self.ucp().ucp_listener_query(self.listener, &raw mut attr) };
        check(self.ucp(), status, "tell its address")?;
        // SAFETY: the bytes are a socket address of the C library, whose layout both types share.
        let address = unsafe { SocketAddress::from_raw((&raw const attr.sockaddr).cast()) };
        address.ok_or_else(|| UcxError::Call {
            what: "tell its address",
            reason: "it is neither IPv4 nor IPv6".to_owned(),
        })
    }

    fn handle(&self, id: u32, callback: ucp_am_recv_callback_t) -> Result<(), UcxError> {
        let params = ucp_am_handler_param_t {
            field_mask: u64::from(
                UCP_AM_HANDLER_PARAM_FIELD_ID
                    | UCP_AM_HANDLER_PARAM_FIELD_CB
                    | UCP_AM_HANDLER_PARAM_FIELD_ARG,
            ),
            id,
            cb: callback,
            arg: ptr::from_ref(&*self.arrivals).cast_mut().cast(),
            ..ucp_am_handler_param_t::default()
        };
        // SAFETY: the arrivals live in a box that outlives the worker.
        let status = unsafe {
            self.ucp()
                .ucp_worker_set_am_recv_handler(self.arrivals.worker.get(), &raw const params)
        };
        check(self.ucp(), status, "set a message handler")
    }

    fn ucp(&self) -> &'static Ucp {
        self.context.ucp()
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// A descriptor that becomes readable when an armed worker has work.
    pub(super) fn events(&self) -> Result<RawFd, UcxError> {
        let mut fd = -1;
        // SAFETY: UCX writes a local of ours; the descriptor stays UCX's.
        let status = unsafe {
            self.ucp()
                .ucp_worker_get_efd(self.arrivals.worker.get(), &raw mut fd)
        };
        check(self.ucp(), status, "tell its event descriptor")?;
        Ok(fd)
    }

    /// Does some work; false if there was none.
    pub(super) fn progress(&self) -> bool {
        // SAFETY: the worker is alive and this is its one thread; no landing or note is borrowed here.
        unsafe { self.ucp().ucp_worker_progress(self.arrivals.worker.get()) != 0 }
    }

    /// Asks for an event at the next work; false if there is some already.
    pub(super) fn arm(&self) -> bool {
        // SAFETY: as for progress.
        unsafe { self.ucp().ucp_worker_arm(self.arrivals.worker.get()) == UCS_OK }
    }

    /// Begins a connection; errors of the peer come as notes that name `conn`.
    pub(super) fn connect(&self, conn: u64, to: SocketAddr) -> Result<Endpoint, UcxError> {
        let address = SocketAddress::new(to);
        let mut params = ucp_ep_params_t {
            field_mask: u64::from(UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR),
            flags: UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
            ..ucp_ep_params_t::default()
        };
        params.sockaddr.addr = address.raw().cast();
        params.sockaddr.addrlen = address.len();
        self.endpoint(conn, params)
    }

    /// Accepts a connection.
    pub(super) fn accept(
        &self,
        conn: u64,
        request: ucp_conn_request_h,
    ) -> Result<Endpoint, UcxError> {
        let params = ucp_ep_params_t {
            field_mask: u64::from(UCP_EP_PARAM_FIELD_CONN_REQUEST),
            conn_request: request,
            ..ucp_ep_params_t::default()
        };
        self.endpoint(conn, params)
    }

    /// Turns a connection away.
    pub(super) fn reject(&self, request: ucp_conn_request_h) {
        // SAFETY: the request came from this listener and is answered once.
        let status = unsafe { self.ucp().ucp_listener_reject(self.listener, request) };
        if let Err(error) = check(self.ucp(), status, "turn a connection away") {
            tracing::debug!(%error, "a stranger stays");
        }
    }

    fn endpoint(&self, conn: u64, mut params: ucp_ep_params_t) -> Result<Endpoint, UcxError> {
        let tag = Box::new(Tag {
            arrivals: &raw const *self.arrivals,
            conn,
        });
        let errors = UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
        params.field_mask |= u64::from(errors);
        params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
        params.err_handler = ucp_err_handler_t {
            cb: Some(on_broken),
            arg: ptr::from_ref(&*tag).cast_mut().cast(),
        };
        let mut raw = ptr::null_mut();
        // SAFETY: what the parameters point at outlives the call; the tag outlives the endpoint.
        let status = unsafe {
            self.ucp()
                .ucp_ep_create(self.arrivals.worker.get(), &raw const params, &raw mut raw)
        };
        check(self.ucp(), status, "connect to a peer")?;
        Ok(Endpoint { raw, tag })
    }

    /// Sends a control message; false if the endpoint is broken.
    pub(super) fn tell(&self, to: &Endpoint, message: &Control) -> bool {
        let op = self
            .arrivals
            .op(OpKind::Control, [0; HEADER_BYTES], message.encode());
        self.arrivals.post(op, |op| {
            let mut params = body_params(op);
            params.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
            params.flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY;
            params.cb.send = Some(on_sent);
            // SAFETY: the body lives in the operation until it comes back; the endpoint is open.
            Posted::of(unsafe {
                let body = &(*op).body;
                let params = &raw const params;
                self.ucp().ucp_am_send_nbx(
                    to.raw,
                    CONTROL,
                    ptr::null(),
                    0,
                    body.as_ptr().cast(),
                    body.len(),
                    params,
                )
            })
        })
    }

    /// Pushes a block; a note tells when it is done. False if the endpoint is broken.
    pub(super) fn push(&self, to: &Endpoint, header: BlockHeader, slot: u32) -> bool {
        let kind = OpKind::Block { conn: to.tag.conn };
        let op = self.arrivals.op(kind, header.encode(), Vec::new());
        let region = self.context.region();
        self.arrivals.post(op, |op| {
            let mut params = self.arrivals.block_params(op);
            params.cb.send = Some(on_sent);
            // SAFETY: the header lives in the operation until it comes back, the slot as long as the region, which the
            // context holds; the endpoint is open.
            Posted::of(unsafe {
                self.ucp().ucp_am_send_nbx(
                    to.raw,
                    BLOCK,
                    (&raw const (*op).header).cast(),
                    HEADER_BYTES,
                    region.slot(slot).cast_const().cast(),
                    region.slot_bytes(),
                    &raw const params,
                )
            })
        })
    }

    /// Sends a block that is in no slot, as [`Worker::push`] sends one that is. False if the endpoint is broken.
    pub(super) fn show(&self, to: &Endpoint, header: BlockHeader, block: Vec<u8>) -> bool {
        let op = self.arrivals.op(OpKind::Control, header.encode(), block);
        self.arrivals.post(op, |op| {
            let mut params = body_params(op);
            params.cb.send = Some(on_sent);
            // SAFETY: header and body live in the operation until it comes back; the endpoint is open.
            Posted::of(unsafe {
                let body = &(*op).body;
                self.ucp().ucp_am_send_nbx(
                    to.raw,
                    BLOCK,
                    (&raw const (*op).header).cast(),
                    HEADER_BYTES,
                    body.as_ptr().cast(),
                    body.len(),
                    &raw const params,
                )
            })
        })
    }

    /// The transports and devices that UCX chose for an endpoint.
    pub(super) fn lanes(&self, of: &Endpoint) -> String {
        // SAFETY: the endpoint is open; the stream is one of the C library's.
        let printed = printed(|stream| unsafe { self.ucp().ucp_ep_print_info(of.raw, stream) });
        printed.map_or_else(|error| error.to_string(), |text| chosen(&text).join(" "))
    }

    /// Begins to close an endpoint: its operations fail and come back by progress.
    pub(super) fn close(&self, endpoint: Endpoint) -> Closing {
        let params = ucp_request_param_t {
            op_attr_mask: UCP_OP_ATTR_FIELD_FLAGS,
            flags: UCP_EP_CLOSE_FLAG_FORCE,
            ..ucp_request_param_t::default()
        };
        // SAFETY: the endpoint is ours and is not used again.
        let request = unsafe { self.ucp().ucp_ep_close_nbx(endpoint.raw, &raw const params) };
        let request = match Posted::of(request) {
            Posted::Pending => request,
            Posted::Done => ptr::null_mut(),
            Posted::Refused(status) => {
                tracing::error!(status, "UCX does not close an endpoint");
                ptr::null_mut()
            }
        };
        Closing {
            request,
            _tag: endpoint.tag,
        }
    }

    /// Whether a closing endpoint is gone; to be asked until it says so.
    pub(super) fn is_closed(&self, closing: &mut Closing) -> bool {
        if closing.request.is_null() {
            return true;
        }
        // SAFETY: the request is pending or done, and is freed once.
        unsafe {
            if self.ucp().ucp_request_check_status(closing.request) == UCS_INPROGRESS {
                return false;
            }
            self.ucp().ucp_request_free(closing.request);
        }
        closing.request = ptr::null_mut();
        true
    }

    /// Ends the use of a worker whose endpoints are closed. It stays in memory until the process ends: UCX 1.13 destroys
    /// a listener while its own thread may still be reading a newcomer's greeting from it, and crashes.
    pub(super) fn retire(self) {
        let pending = self.arrivals.pending();
        if pending > 0 {
            tracing::error!(pending, "UCX does not give operations back");
        }
        let _kept = ManuallyDrop::new(self);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: both are ours, destroyed once, before their context and the arrivals that their callbacks use. Only a
        // worker that nobody was told of comes here, so there is no newcomer.
        unsafe {
            if !self.listener.is_null() {
                self.ucp().ucp_listener_destroy(self.listener);
            }
            self.ucp().ucp_worker_destroy(self.arrivals.worker.get());
        }
    }
}
