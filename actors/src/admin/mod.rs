//! Administration over the ractor cluster: the only remotable actor, its requests, and a client.
//!
//! A process answers for its own roles only; whoever asks about the cluster asks each node in turn. It
//! keeps no membership: who lives is said by beats on the bus, never by this link.

mod client;
mod protocol;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};

pub use self::{
    client::{AdminClient, ClientError},
    protocol::{
        AdminReply, AdminRequest, KvRow, NodeRow, RequestRow, WhyReply, parse_reply, parse_request,
    },
};

/// The one process group.
pub const GROUP: &str = "admin";
/// Largest request or reply: listings of some ten thousand rows.
const FRAME_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The one remotable message: a request as JSON, answered with JSON.
#[derive(RactorClusterMessage)]
pub enum AdminMsg {
    /// A request of [`AdminRequest`]; the reply is an [`AdminReply`].
    #[rpc]
    Call(String, RpcReplyPort<String>),
}

/// A boxed answer.
pub type Answer<'a> = Pin<Box<dyn Future<Output = AdminReply> + Send + 'a>>;

/// Answers for the roles of this process.
pub trait AdminHandler: Send + Sync + 'static {
    /// Does what is asked. Bad input is an [`AdminReply::Error`].
    fn answer(&self, request: AdminRequest) -> Answer<'_>;
}

/// Why the admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken or not ours.
    #[error("cannot listen for admin on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The actor system refused.
    #[error("cannot start the admin actor: {0}")]
    Spawn(String),
}

#[derive(Debug)]
struct AdminActor;

impl Actor for AdminActor {
    type Msg = AdminMsg;
    type State = Arc<dyn AdminHandler>;
    type Arguments = Arc<dyn AdminHandler>;

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        handler: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        ractor::pg::join(GROUP.to_owned(), vec![me.get_cell()]);
        Ok(handler)
    }

    async fn handle(
        &self,
        _me: ActorRef<Self::Msg>,
        message: Self::Msg,
        handler: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let AdminMsg::Call(text, reply) = message;
        let handler = handler.clone();
        // The answer may have to wait for a role, and a handler never waits for an actor.
        tokio::spawn(async move {
            let answer = match parse_request(&text) {
                Ok(request) => handler.answer(request).await,
                Err(error) => AdminReply::Error { message: error },
            };
            let _asker_left = reply.send(answer.to_json());
        });
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _me: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        tracing::warn!(%event, "unexpected supervision event");
        Ok(())
    }
}

/// The open admin port.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    server: ActorRef<NodeServerMessage>,
    actor: ActorRef<AdminMsg>,
}

impl AdminServer {
    /// Opens the port and joins the group. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn start(
        listen: SocketAddr,
        name: &str,
        cookie: String,
        handler: Arc<dyn AdminHandler>,
    ) -> Result<Self, AdminError> {
        let address = free_address(listen)?;
        let server = node_server(address.ip(), address.port(), name, cookie);
        let (server, _) = Actor::spawn(None, server, ())
            .await
            .map_err(|e| AdminError::Spawn(e.to_string()))?;
        let (actor, _) = Actor::spawn(None, AdminActor, handler)
            .await
            .map_err(|e| AdminError::Spawn(e.to_string()))?;
        Ok(Self {
            address,
            server,
            actor,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leaves the group and closes the port.
    pub fn stop(&self) {
        self.actor.stop(None);
        self.server.stop(None);
    }
}

fn node_server(ip: IpAddr, port: u16, name: &str, cookie: String) -> NodeServer {
    NodeServer::new(port, cookie, name.to_owned(), ip.to_string(), None, None)
        .with_listen_addr(ip)
        .with_max_inbound_frame_size(FRAME_BYTES_MAX)
}

/// The address itself if it can be bound, with port 0 replaced by a free one. The cluster's listener does not tell which port it got.
fn free_address(listen: SocketAddr) -> Result<SocketAddr, AdminError> {
    let fail = |source| AdminError::Listen {
        address: listen,
        source,
    };
    let probe = TcpListener::bind(listen).map_err(fail)?;
    probe.local_addr().map_err(fail)
}
