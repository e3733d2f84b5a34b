//! The post office of a role: letters out to subjects, letters in from subscriptions, probes.
//!
//! Bytes that are no letter are dropped and counted. It never answers a letter by itself, except a probe
//! of this node, whose answer is the node's epoch.

use std::{sync::Arc, time::Duration};

use bus_schemas::{Meta, NodeRef, messages::AnyMessage, subjects::Subjects};
use bytes::Bytes;
use logic::{
    Core,
    role::{Dest, Outgoing},
};
use nats::{
    Bus, Delivery, Link, Publication, PublishError, RequestError, SubscribeError, Subscription,
};
use ractor::ActorRef;
use tokio::task::JoinSet;

use crate::shell::{Credits, ShellMsg};

/// Letters of one role that may wait in its mailbox: at 200 bytes to 20 KiB each this bounds it to some 100 MiB.
const MAILBOX_LETTERS: usize = 4096;
/// Letters that wait at one subscription before new ones are dropped and counted.
const SUBSCRIPTION_LETTERS: usize = 8192;
/// A probe that is not answered within this time says nothing.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a role needs to send and receive letters.
#[derive(Clone)]
pub struct Post {
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    me: NodeRef,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post")
            .field("me", &self.me)
            .field("subjects", &self.subjects)
            .finish()
    }
}

/// What a role listens to besides its own subject and all beats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Notices of all workers.
    pub notices: bool,
    /// Admissions for whichever router takes them.
    pub admissions: bool,
}

/// The tasks that feed a role. Dropping it stops them.
#[derive(Debug)]
pub struct Feeding(JoinSet<()>);

impl Feeding {
    /// Adds a task that ends with the others.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

impl Post {
    /// The post office of `me`.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, subjects: Subjects, me: NodeRef) -> Self {
        Self { bus, subjects, me }
    }

    /// Whose it is.
    #[must_use]
    pub const fn me(&self) -> NodeRef {
        self.me
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// The cluster's subjects.
    #[must_use]
    pub const fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Sends a letter, or counts that it could not be sent: whoever needs it heals the loss.
    pub fn send(&self, outgoing: Outgoing) {
        let Outgoing {
            dest,
            meta,
            message,
        } = outgoing;
        let kind = message.kind();
        let subject = match dest {
            Dest::Node(node) => self.subjects.node(node, kind),
            Dest::AnyRouter => self.subjects.admit_any(),
            Dest::Beats => self.subjects.beat(self.me.node),
            Dest::Notices => self.subjects.notice(self.me.node),
        };
        tracing::trace!(%subject, request = %meta.request, attempt = meta.attempt.0, "letter out");
        let payload = message.encode(meta);
        let publication = Publication {
            subject,
            payload,
            ..Publication::default()
        };
        match self.bus.publish(publication) {
            Ok(()) => metrics::counter!("thalamus_letters_sent_total").increment(1),
            Err(error) => {
                metrics::counter!("thalamus_letters_unsent_total").increment(1);
                let dead = matches!(error, PublishError::TooLarge { .. });
                if dead {
                    tracing::error!(?kind, %error, request = %meta.request, "letter cannot be sent; raise the server's max_payload");
                } else {
                    tracing::debug!(?kind, %error, "letter not sent");
                }
            }
        }
    }

    /// Asks a node's subject whether that epoch still runs there; `gone` is made of the answer that it does not.
    pub fn probe<C>(&self, node: NodeRef, me: ActorRef<ShellMsg<C>>, gone: fn(NodeRef) -> C::Input)
    where
        C: Core + 'static,
        C::Input: Send,
        C::Snapshot: Send,
    {
        let (bus, subject) = (self.bus.clone(), self.subjects.probe(node.node));
        tokio::spawn(async move {
            let publication = Publication {
                subject,
                ..Publication::default()
            };
            let is_gone = match bus.request(publication, PROBE_TIMEOUT).await {
                Ok(answer) => answer.payload != node.epoch.0.to_string(),
                Err(RequestError::NoResponders) => true,
                Err(RequestError::Timeout | RequestError::Publish(_)) => false,
            };
            if is_gone {
                let _shell_left = me.cast(ShellMsg::Input(gone(node), None));
            }
        });
    }

    /// Subscribes a role and starts the tasks that feed it.
    ///
    /// # Errors
    /// [`SubscribeError`] if the bus is closed.
    pub async fn feed<C>(
        &self,
        me: ActorRef<ShellMsg<C>>,
        listen: Listen,
        letter: fn(Meta, AnyMessage) -> C::Input,
        link: fn(bool) -> C::Input,
    ) -> Result<Feeding, SubscribeError>
    where
        C: Core + 'static,
        C::Input: Send,
        C::Snapshot: Send,
    {
        let mut subjects = vec![(self.subjects.node_all(self.me.node), None)];
        subjects.push((self.subjects.beat_all(), None));
        if listen.notices {
            subjects.push((self.subjects.notice_all(), None));
        }
        if listen.admissions {
            subjects.push((
                self.subjects.admit_any(),
                Some(bus_schemas::subjects::ROUTER_GROUP),
            ));
        }
        let credits = Credits::new(MAILBOX_LETTERS);
        let mut feeding = Feeding(JoinSet::new());
        for (subject, queue) in subjects {
            let subscription = self
                .bus
                .subscribe(&subject, queue, SUBSCRIPTION_LETTERS)
                .await?;
            feeding.spawn(pump(subscription, me.clone(), credits.clone(), letter));
        }
        let probes = self
            .bus
            .subscribe(&self.subjects.probe(self.me.node), None, 64)
            .await?;
        feeding.spawn(answer_probes(self.clone(), probes));
        feeding.spawn(watch_link(self.bus.clone(), me, link));
        Ok(feeding)
    }
}

async fn pump<C>(
    mut subscription: Box<dyn Subscription>,
    me: ActorRef<ShellMsg<C>>,
    credits: Credits,
    letter: fn(Meta, AnyMessage) -> C::Input,
) where
    C: Core + 'static,
    C::Input: Send,
    C::Snapshot: Send,
{
    let mut dropped = 0;
    while let Some(delivery) = subscription.next().await {
        let now_dropped = subscription.dropped();
        if now_dropped > dropped {
            metrics::counter!("thalamus_letters_dropped_total").increment(now_dropped - dropped);
            dropped = now_dropped;
        }
        let Some((meta, message)) = open(&delivery) else {
            continue;
        };
        let Some(credit) = credits.take().await else {
            return;
        };
        if me
            .cast(ShellMsg::Input(letter(meta, message), Some(credit)))
            .is_err()
        {
            return;
        }
    }
}

/// The letter in a delivery, if there is one.
fn open(delivery: &Delivery) -> Option<(Meta, AnyMessage)> {
    match AnyMessage::decode(&delivery.payload) {
        Ok(letter) => {
            metrics::counter!("thalamus_letters_received_total").increment(1);
            Some(letter)
        }
        Err(error) => {
            metrics::counter!("thalamus_letters_garbage_total").increment(1);
            tracing::debug!(subject = %delivery.subject, %error, "not a letter");
            None
        }
    }
}

async fn answer_probes(post: Post, mut probes: Box<dyn Subscription>) {
    while let Some(probe) = probes.next().await {
        let Some(subject) = probe.reply else { continue };
        let payload = Bytes::from(post.me.epoch.0.to_string());
        let publication = Publication {
            subject,
            payload,
            ..Publication::default()
        };
        if let Err(error) = post.bus.publish(publication) {
            tracing::debug!(%error, "a probe stays unanswered");
        }
    }
}

async fn watch_link<C>(bus: Arc<dyn Bus>, me: ActorRef<ShellMsg<C>>, link: fn(bool) -> C::Input)
where
    C: Core + 'static,
    C::Input: Send,
    C::Snapshot: Send,
{
    let mut watch = bus.link();
    loop {
        let up = *watch.borrow_and_update() == Link::Up;
        if me.cast(ShellMsg::Input(link(up), None)).is_err() || watch.changed().await.is_err() {
            return;
        }
    }
}

/// Whether a live process already uses this name.
///
/// # Errors
/// [`RequestError`] other than silence.
pub async fn name_is_taken(
    bus: &Arc<dyn Bus>,
    subjects: &Subjects,
    name: bus_schemas::NodeId,
) -> Result<bool, RequestError> {
    let publication = Publication {
        subject: subjects.probe(name),
        ..Publication::default()
    };
    match bus.request(publication, PROBE_TIMEOUT).await {
        Ok(_) => Ok(true),
        Err(RequestError::NoResponders | RequestError::Timeout) => Ok(false),
        Err(error @ RequestError::Publish(_)) => Err(error),
    }
}
