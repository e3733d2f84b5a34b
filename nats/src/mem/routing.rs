//! The in-memory server's table: who is connected, who listens to what, who gets a message.
//!
//! Plain and synchronous: never locks, waits or spawns. Groups, "no responders" and interest are
//! those of a NATS server; loss and repetition come from a seeded generator, so a test repeats.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::trie::Trie;
use crate::{
    bus::{Delivery, NO_RESPONDERS, Publication, PublishError},
    feed::Inlet,
};

/// Publications kept for a connection while it is cut, as a client queues them.
pub(crate) const OUTBOX_MAX: usize = 8192;
/// Chances are in thousandths.
const PER_MILLE: u64 = 1000;

/// How many deliveries of a thousand go wrong, for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Lost.
    pub lost_per_mille: u16,
    /// Delivered twice.
    pub repeated_per_mille: u16,
    /// The same seed gives the same faults for the same order of publications.
    pub seed: u64,
}

/// One subscription.
pub(crate) struct Listener {
    id: u64,
    connection: u64,
    pattern: String,
    queue: Option<String>,
    inlet: Inlet,
}

/// One connection.
#[derive(Default)]
struct Connection {
    cut: bool,
    outbox: VecDeque<Publication>,
    listeners: BTreeMap<u64, Arc<Listener>>,
}

/// The whole table.
#[derive(Default)]
pub(crate) struct Routing {
    interest: Trie<Arc<Listener>>,
    connections: BTreeMap<u64, Connection>,
    ids: u64,
    loss: Loss,
    draws: u64,
}

impl Routing {
    /// A new connection's id.
    pub(crate) fn connect(&mut self) -> u64 {
        let id = self.fresh_id();
        self.connections.insert(id, Connection::default());
        id
    }

    /// Forgets a connection; its feeds end.
    pub(crate) fn disconnect(&mut self, id: u64) {
        self.withdraw(id);
        self.connections.remove(&id);
    }

    /// Ids for subscriptions come from here too.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Faults from now on.
    pub(crate) fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
        self.draws = loss.seed;
    }

    /// Adds a subscription; false if the connection is closed.
    pub(crate) fn listen(
        &mut self,
        (connection, id): (u64, u64),
        pattern: &str,
        queue: Option<&str>,
        inlet: Inlet,
    ) -> bool {
        let Some(owner) = self.connections.get_mut(&connection) else {
            return false;
        };
        let (pattern, queue) = (pattern.to_owned(), queue.map(str::to_owned));
        let listener = Arc::new(Listener {
            id,
            connection,
            pattern,
            queue,
            inlet,
        });
        owner.listeners.insert(id, listener.clone());
        if !owner.cut {
            self.interest.insert(&listener.pattern, listener.clone());
        }
        true
    }

    /// Removes a subscription.
    pub(crate) fn unlisten(&mut self, connection: u64, id: u64) {
        let Some(owner) = self.connections.get_mut(&connection) else {
            return;
        };
        if let Some(listener) = owner.listeners.remove(&id) {
            self.interest
                .remove(&listener.pattern, |other| other.id == id);
        }
    }

    /// Cuts a connection: its interest is gone, what it publishes waits.
    pub(crate) fn cut(&mut self, id: u64) {
        self.withdraw(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.cut = true;
        }
    }

    /// Mends a connection: its interest is back, what waited is sent.
    pub(crate) fn mend(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !std::mem::take(&mut connection.cut) {
            return;
        }
        for listener in connection.listeners.values() {
            self.interest.insert(&listener.pattern, listener.clone());
        }
        for publication in std::mem::take(&mut connection.outbox) {
            self.route(id, &publication);
        }
    }

    /// Sends a message that was checked, or keeps it while the connection is cut.
    pub(crate) fn publish(
        &mut self,
        id: u64,
        publication: Publication,
    ) -> Result<(), PublishError> {
        let connection = self.connections.get_mut(&id).ok_or(PublishError::Closed)?;
        if !connection.cut {
            self.route(id, &publication);
            return Ok(());
        }
        if connection.outbox.len() == OUTBOX_MAX {
            return Err(PublishError::Full);
        }
        connection.outbox.push_back(publication);
        Ok(())
    }

    fn withdraw(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        for listener in connection.listeners.values() {
            self.interest
                .remove(&listener.pattern, |other| other.id == listener.id);
        }
    }

    fn route(&mut self, connection: u64, publication: &Publication) {
        let mut found = Vec::new();
        self.interest.find(&publication.subject, &mut found);
        if found.is_empty() {
            if let Some(reply) = &publication.reply {
                self.report_no_responders(connection, reply);
            }
            return;
        }
        let mut dice = Dice {
            loss: self.loss,
            draws: &mut self.draws,
        };
        let mut groups: Vec<(&str, Vec<&Listener>)> = Vec::new();
        for listener in found {
            let Some(queue) = listener.queue.as_deref() else {
                dice.deliver(listener, &delivery_of(publication));
                continue;
            };
            match groups.iter_mut().find(|(name, _)| *name == queue) {
                Some((_, members)) => members.push(listener),
                None => groups.push((queue, vec![listener])),
            }
        }
        for (_, members) in groups {
            let chosen = dice.throw(members.len() as u64) as usize;
            dice.deliver(members[chosen], &delivery_of(publication));
        }
    }

    /// As a server does: to one plain subscription of the publisher's own connection.
    fn report_no_responders(&mut self, connection: u64, reply: &str) {
        let mut found = Vec::new();
        self.interest.find(reply, &mut found);
        let own = |listener: &&&Arc<Listener>| {
            listener.connection == connection && listener.queue.is_none()
        };
        if let Some(listener) = found.iter().find(own) {
            let status = Some(NO_RESPONDERS);
            let report = delivery_of(&Publication {
                subject: reply.to_owned(),
                ..Default::default()
            });
            let mut dice = Dice {
                loss: self.loss,
                draws: &mut self.draws,
            };
            dice.deliver(listener, &Delivery { status, ..report });
        }
    }
}

/// A counter-based generator (splitmix64) for group members and faults.
struct Dice<'a> {
    loss: Loss,
    draws: &'a mut u64,
}

impl Dice<'_> {
    fn throw(&mut self, sides: u64) -> u64 {
        *self.draws = self.draws.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *self.draws;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn chance(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.throw(PER_MILLE) < u64::from(per_mille)
    }

    fn deliver(&mut self, listener: &Listener, delivery: &Delivery) {
        if self.chance(self.loss.lost_per_mille) {
            return;
        }
        if self.chance(self.loss.repeated_per_mille) {
            listener.inlet.offer(delivery.clone());
        }
        listener.inlet.offer(delivery.clone());
    }
}

/// What a subscriber sees; a server's parser trims header values.
fn delivery_of(publication: &Publication) -> Delivery {
    let headers = publication.headers.iter();
    Delivery {
        subject: publication.subject.clone(),
        reply: publication.reply.clone(),
        headers: headers
            .map(|(name, value)| (name.clone(), value.trim().to_owned()))
            .collect(),
        payload: publication.payload.clone(),
        status: None,
    }
}
