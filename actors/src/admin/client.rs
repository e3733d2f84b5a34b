//! Asks a node over the ractor cluster, as an isolated member that leaves when it is dropped.
//!
//! The cluster link has no failure detector and a wrong cookie shows only as silence, so every wait here
//! has a deadline, and its end names what may be wrong.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use ractor::{Actor, ActorId, ActorRef, rpc::CallResult};
use ractor_cluster::{NodeServerMessage, client_connect};

use super::{AdminMsg, AdminReply, AdminRequest, GROUP, free_address, node_server, parse_reply};

/// Between two looks at whether the group has appeared.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This side of the cluster could not be started.
    #[error("cannot start the admin client: {0}")]
    Start(String),
    /// Nothing listens there.
    #[error("nothing listens on {address}: {why}; is the node up, and is this its admin address?")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        why: String,
    },
    /// It listens, but does not talk to us.
    #[error(
        "{address} did not let us in within {waited:?}: the cookie is wrong, or it is no admin port of this cluster"
    )]
    Silent {
        /// Where.
        address: SocketAddr,
        /// How long we waited.
        waited: Duration,
    },
    /// It let us in and did not answer.
    #[error("{address} did not answer within {waited:?}")]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// How long we waited.
        waited: Duration,
    },
    /// Its answer makes no sense.
    #[error("{0}")]
    Reply(String),
}

/// A member of the cluster that only asks.
#[derive(Debug)]
pub struct AdminClient {
    server: ActorRef<NodeServerMessage>,
    timeout: Duration,
}

impl AdminClient {
    /// Joins with a cookie; every later wait ends after `timeout`.
    ///
    /// # Errors
    /// [`ClientError::Start`].
    pub async fn start(cookie: String, timeout: Duration) -> Result<Self, ClientError> {
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let address = free_address(local).map_err(|e| ClientError::Start(e.to_string()))?;
        let name = format!("ctl-{}", std::process::id());
        let server = node_server(address.ip(), address.port(), &name, cookie);
        let (server, _) = Actor::spawn(None, server, ())
            .await
            .map_err(|e| ClientError::Start(e.to_string()))?;
        Ok(Self { server, timeout })
    }

    /// Asks the node whose admin port is at `address`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn ask(
        &self,
        address: SocketAddr,
        request: &AdminRequest,
    ) -> Result<AdminReply, ClientError> {
        let actor = self.find(address).await?;
        let text = serde_json::to_string(request).expect("requests of plain data serialise");
        let answer = actor
            .call(|reply| AdminMsg::Call(text, reply), Some(self.timeout))
            .await;
        match answer {
            Ok(CallResult::Success(text)) => parse_reply(&text).map_err(ClientError::Reply),
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => {
                Err(ClientError::Timeout {
                    address,
                    waited: self.timeout,
                })
            }
        }
    }

    /// The admin actor of the node at `address`, connecting first if need be.
    async fn find(&self, address: SocketAddr) -> Result<ActorRef<AdminMsg>, ClientError> {
        if let Some(actor) = self.known(address).await {
            return Ok(actor);
        }
        client_connect(&self.server, address)
            .await
            .map_err(|e| ClientError::Connect {
                address,
                why: e.to_string(),
            })?;
        let start = Instant::now();
        while start.elapsed() < self.timeout {
            if let Some(actor) = self.known(address).await {
                return Ok(actor);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(ClientError::Silent {
            address,
            waited: self.timeout,
        })
    }

    /// The group's member behind the session with that address.
    async fn known(&self, address: SocketAddr) -> Option<ActorRef<AdminMsg>> {
        let sessions = self
            .server
            .call(NodeServerMessage::GetSessions, Some(self.timeout))
            .await;
        let CallResult::Success(sessions) = sessions.ok()? else {
            return None;
        };
        let address = address.to_string();
        let node = sessions.values().find(|s| s.peer_addr == address)?.node_id;
        ractor::pg::get_members(&GROUP.to_owned())
            .into_iter()
            .find(
                |cell| matches!(cell.get_id(), ActorId::Remote { node_id, .. } if node_id == node),
            )
            .map(Into::into)
    }
}

impl Drop for AdminClient {
    fn drop(&mut self) {
        self.server.stop(None);
    }
}
