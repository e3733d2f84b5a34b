//! Ways to owners: made when a card is heard or a take needs one, and closed when the owner is gone.
//!
//! Nothing here waits for a peer, and nothing is read before the owner has let us in.

use std::time::{Duration, Instant};

use bus_schemas::NodeRef;

use super::{
    conn::Owner,
    lane::{Address, Lane},
    message::Control,
};
use crate::{Failure, proof::pattern};

/// Between two connections to one peer that nobody waits for.
const RETRY: Duration = Duration::from_secs(1);

impl Lane {
    /// A card was heard.
    pub(super) fn know(&mut self, peer: NodeRef, address: Result<Address, Failure>) {
        let Some(replaced) = self.peers.replaced_by(peer) else {
            return;
        };
        replaced.into_iter().for_each(|old| self.forget(old));
        let known = self.peers.get(peer);
        if known.is_none_or(|known| *known != address && address.is_ok()) {
            if known.is_some_and(Result::is_ok) {
                self.forget(peer);
            }
            self.peers.reached(peer, address.is_ok());
            self.peers.insert(peer, address);
        }
        self.connect_ahead(peer);
    }

    /// Greets an owner before it is needed, unless that was tried a moment ago.
    fn connect_ahead(&mut self, peer: NodeRef) {
        let tried = self.tried.get(&peer).is_some_and(|at| at.elapsed() < RETRY);
        if self.owners.contains_key(&peer) || tried {
            return;
        }
        if let Some(Ok(address)) = self.peers.get(peer).copied() {
            self.tried.insert(peer, Instant::now());
            self.greet(peer, address);
        }
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, peer: NodeRef) {
        self.peers.remove(peer);
        self.tried.remove(&peer);
        self.lose(peer);
    }

    /// Makes sure that there is a way to an owner; true if it has let us in already.
    pub(super) fn greet(&mut self, peer: NodeRef, address: Address) -> bool {
        if let Some(owner) = self.owners.get(&peer) {
            return owner.welcomed;
        }
        let Ok(proof) = getrandom::u64() else {
            return false;
        };
        let conn = self.next_conn();
        let endpoint = match self.worker.connect(conn, address.socket) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::warn!(?peer, %error, "no lane to a peer");
                self.lose(peer);
                return false;
            }
        };
        let hello = Control::Hello {
            key: address.key,
            from: self.config.me,
            to: peer,
            proof,
        };
        let mut landings = self.worker.arrivals().landings.borrow_mut();
        landings.expect(proof, peer);
        drop(landings);
        let told = self.worker.tell(&endpoint, &hello);
        let owner = Owner {
            endpoint,
            welcomed: false,
            since: Instant::now(),
        };
        self.owners.insert(peer, owner);
        if !told {
            self.lose(peer);
        }
        false
    }

    /// An owner has shown its pattern, and so lets us ask; or its lane altered it, and then it is not used.
    pub(super) fn proved(&mut self, peer: NodeRef, bytes: &[u8]) {
        let address = self.peers.get(peer).copied();
        let (Some(owner), Some(Ok(address))) = (self.owners.get_mut(&peer), address) else {
            return; // it was lost meanwhile
        };
        if bytes != pattern(&address.key, self.config.region.slot_bytes()) {
            self.lose(peer);
            return self.peers.shun(peer, "its lane altered the read-back");
        }
        owner.welcomed = true;
        let lanes = self.worker.lanes(&owner.endpoint);
        tracing::info!(?peer, lanes, "a peer's blocks can be read over UCX");
        *self.shared.lanes.lock().expect("no holder panics") = lanes;
        self.peers.reached(peer, true);
        for id in self.book.running_of(peer) {
            self.ask(id);
        }
    }

    /// The way to an owner is over: it is closed by force, and the takes from it fail.
    pub(super) fn lose(&mut self, peer: NodeRef) {
        let mut landings = self.worker.arrivals().landings.borrow_mut();
        landings.expect_none(peer);
        drop(landings);
        let owner = self.owners.remove(&peer);
        let welcomed = owner.as_ref().is_some_and(|owner| owner.welcomed);
        let failure = if welcomed {
            Failure::PeerLost
        } else {
            Failure::Unreachable
        };
        for id in self.book.running_of(peer) {
            self.fail(id, failure);
        }
        if self.peers.get(peer).is_some() {
            self.peers.reached(peer, false);
        }
        if let Some(owner) = owner {
            self.close(owner.endpoint);
        }
    }
}
