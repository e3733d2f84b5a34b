//! The NATS door: OpenAI's bodies on public subjects, on any [`Bus`].
//!
//! It turns messages into requests and events into messages; what a request means is decided behind
//! [`crate::doors`]. Who a client is comes from its connection, never from its headers. Start reading at
//! [`serve`], then `request`.

mod asked;
mod attach;
mod generate;
mod history;
mod probe;
mod reply;
mod request;
mod running;
mod service;
mod stream;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bus_schemas::subjects::{GATEWAY_GROUP, Operation, public};
use nats::{Bus, SubscribeError, Subscription, service::ServiceError};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use self::{probe::Probes, running::Registry, service::Service};
use crate::{doors::Doors, keys::TENANT_DEFAULT};

/// Messages of one subject that wait to be looked at; a look takes microseconds.
const QUEUE_MAX: usize = 4096;

/// Settings of the NATS door.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Whose requests those on this bus are: a bus belongs to one tenant.
    pub tenant: String,
    /// Requests handled at once; one more is refused.
    pub open_max: usize,
    /// Between two looks at which models there are.
    pub refresh: Duration,
    /// How long a client with a window may acknowledge nothing.
    pub ack_within: Duration,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            tenant: TENANT_DEFAULT.to_owned(),
            open_max: 4096,
            refresh: Duration::from_secs(2),
            ack_within: Duration::from_secs(30),
        }
    }
}

/// Why the door cannot open.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A subject.
    #[error("cannot listen for requests: {0}")]
    Subscribe(#[from] SubscribeError),
    /// The registration.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What every request sees.
struct Hall {
    bus: Arc<dyn Bus>,
    doors: Arc<Doors>,
    config: NatsConfig,
    probes: Arc<Probes>,
    registry: Arc<Registry>,
    service: Arc<Service>,
    slots: Arc<Semaphore>,
    /// Bytes that all streams keep of what they sent.
    kept: Arc<AtomicUsize>,
}

/// An open door.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    listening: JoinSet<()>,
    background: JoinSet<()>,
    slots: Arc<Semaphore>,
    open_max: usize,
}

impl Running {
    /// Takes no new requests, waits for those that run; false if some were left after `within`.
    pub async fn stop(mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
        let all = u32::try_from(self.open_max).unwrap_or(u32::MAX);
        let rest = async {
            while self.listening.join_next().await.is_some() {}
            // the last permit comes back with the last request
            self.slots.acquire_many(all).await.is_ok()
        };
        let ended = tokio::time::timeout(within, rest).await.is_ok();
        self.background.shutdown().await;
        ended
    }
}

/// Opens the door.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    bus: Arc<dyn Bus>,
    doors: Arc<Doors>,
    config: NatsConfig,
) -> Result<Running, ServeError> {
    let mut background = JoinSet::new();
    let service = Arc::new(Service::register(bus.clone(), &doors).await?);
    background.spawn(service.clone().refresh(doors.clone(), config.refresh));
    let probes = Arc::new(Probes::new(bus.inbox()));
    let answers = bus.subscribe(&probes.pattern(), None, QUEUE_MAX).await?;
    background.spawn(probes.clone().listen(answers));
    let slots = Arc::new(Semaphore::new(config.open_max));
    let (stop, open_max) = (watch::Sender::new(false), config.open_max);
    let registry = Arc::default();
    let hall = Arc::new(Hall {
        bus,
        doors,
        config,
        probes,
        registry,
        service,
        slots: slots.clone(),
        kept: Arc::default(),
    });
    let mut listening = JoinSet::new();
    for subject in subjects() {
        let requests = hall
            .bus
            .subscribe(&subject, Some(GATEWAY_GROUP), QUEUE_MAX)
            .await?;
        listening.spawn(listen(hall.clone(), requests, stop.subscribe()));
    }
    Ok(Running {
        stop,
        listening,
        background,
        slots,
        open_max,
    })
}

fn subjects() -> impl Iterator<Item = String> {
    Operation::ALL.into_iter().flat_map(|op| {
        let one = public(op);
        let with_model = op.takes_model().then(|| format!("{one}.*"));
        [Some(one), with_model].into_iter().flatten()
    })
}

/// Takes requests of one subject until the door stops or the bus closes.
async fn listen(
    hall: Arc<Hall>,
    mut requests: Box<dyn Subscription>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(request) => request::accept(&hall, request),
                None => return,
            },
            // its sender lives as long as the door
            _ = stop.wait_for(|stopped| *stopped) => break,
        }
    }
    requests.drain();
    while let Some(request) = requests.next().await {
        request::accept(&hall, request);
    }
}
