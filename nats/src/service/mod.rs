//! A NATS micro service (ADR-32) on any bus: answers `$SRV.PING`, `INFO` and `STATS`.
//!
//! It tells what there is and counts what it is told; it never listens on an endpoint's subject and
//! never serves a request: that is its owner's work.

mod messages;
mod started;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinSet;

pub use self::messages::{Endpoint, Metadata, ServiceInfo};
use self::messages::{EndpointStats, Identity, InfoResponse, StatsResponse};
use crate::{
    bus::{Bus, Delivery, Publication, SubscribeError, Subscription},
    name::random_id,
};

/// Questions that wait for their turn; who asks more at once asks again.
const QUESTIONS_MAX: usize = 64;

/// Why a service cannot be registered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Not a name.
    #[error("{0:?} is no service name: use letters, digits, - and _")]
    Name(String),
    /// Not a version.
    #[error("{0:?} is no semantic version, such as 1.2.3")]
    Version(String),
    /// The bus refused.
    #[error("cannot listen for questions about the service: {0}")]
    Subscribe(#[from] SubscribeError),
}

/// A registered service; dropping it ends the registration.
pub struct ServiceHandle {
    registration: Arc<Registration>,
    _answers: JoinSet<()>,
}

struct Registration {
    /// Its metadata is where it began.
    info: ServiceInfo,
    metadata: Mutex<Metadata>,
    id: String,
    started: String,
    endpoints: Mutex<BTreeMap<String, Row>>,
}

/// An endpoint and what happened there.
struct Row {
    endpoint: Endpoint,
    requests: u64,
    errors: u64,
    last_error: String,
    busy: Duration,
    data: Option<Value>,
}

/// What can be asked.
#[derive(Clone, Copy)]
enum Question {
    Ping,
    Info,
    Stats,
}

/// Registers a service on `bus`; its endpoints may change later.
///
/// # Errors
/// [`ServiceError`].
pub async fn register(
    bus: Arc<dyn Bus>,
    info: ServiceInfo,
    endpoints: Vec<Endpoint>,
) -> Result<ServiceHandle, ServiceError> {
    if !is_name(&info.name) {
        return Err(ServiceError::Name(info.name));
    }
    if !is_version(&info.version) {
        return Err(ServiceError::Version(info.version));
    }
    let (id, started) = (random_id(), started::rfc3339(SystemTime::now()));
    let registration = Arc::new(Registration {
        metadata: Mutex::new(info.metadata.clone()),
        info,
        id,
        started,
        endpoints: Mutex::default(),
    });
    registration.set_endpoints(endpoints);
    let mut answers = JoinSet::new();
    for question in [Question::Ping, Question::Info, Question::Stats] {
        for subject in registration.subjects(question) {
            let questions = bus.subscribe(&subject, None, QUESTIONS_MAX).await?;
            answers.spawn(answer(
                bus.clone(),
                questions,
                registration.clone(),
                question,
            ));
        }
    }
    Ok(ServiceHandle {
        registration,
        _answers: answers,
    })
}

impl ServiceHandle {
    /// This instance's id.
    pub fn id(&self) -> &str {
        &self.registration.id
    }

    /// Counts one request of `endpoint`, and its error if it ended with one; unknown endpoints are
    /// ignored, since a model may go while its last request ends.
    pub fn record(&self, endpoint: &str, took: Duration, error: Option<&str>) {
        if let Some(row) = self.registration.endpoints().get_mut(endpoint) {
            row.requests += 1;
            row.busy += took;
            if let Some(error) = error {
                row.errors += 1;
                error.clone_into(&mut row.last_error);
            }
        }
    }

    /// Sets the free part of an endpoint's statistics.
    pub fn set_data(&self, endpoint: &str, data: Value) {
        if let Some(row) = self.registration.endpoints().get_mut(endpoint) {
            row.data = Some(data);
        }
    }

    /// Replaces the service's metadata.
    pub fn set_metadata(&self, metadata: Metadata) {
        *self.registration.metadata() = metadata;
    }

    /// Replaces the endpoints; those that stay, by name, keep their counts.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        self.registration.set_endpoints(endpoints);
    }
}

impl Registration {
    fn endpoints(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.endpoints
            .lock()
            .expect("nothing panics while it holds the endpoints")
    }

    fn metadata(&self) -> MutexGuard<'_, Metadata> {
        self.metadata
            .lock()
            .expect("nothing panics while it holds the metadata")
    }

    fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        let mut rows = self.endpoints();
        let mut old = std::mem::take(&mut *rows);
        for endpoint in endpoints {
            let row = match old.remove(&endpoint.name) {
                Some(row) => Row { endpoint, ..row },
                None => Row::new(endpoint),
            };
            rows.insert(row.endpoint.name.clone(), row);
        }
    }

    /// To everybody, to all of the name, to this one.
    fn subjects(&self, question: Question) -> [String; 3] {
        let (verb, name, id) = (question.verb(), &self.info.name, &self.id);
        [
            format!("$SRV.{verb}"),
            format!("$SRV.{verb}.{name}"),
            format!("$SRV.{verb}.{name}.{id}"),
        ]
    }

    fn answer(&self, question: Question) -> serde_json::Result<Vec<u8>> {
        let metadata = self.metadata();
        let identity = Identity {
            kind: question.response_type(),
            name: &self.info.name,
            id: &self.id,
            version: &self.info.version,
            metadata: &metadata,
        };
        let rows = self.endpoints();
        match question {
            Question::Ping => serde_json::to_vec(&identity),
            Question::Info => serde_json::to_vec(&InfoResponse {
                identity,
                description: &self.info.description,
                endpoints: rows.values().map(|row| &row.endpoint).collect(),
            }),
            Question::Stats => serde_json::to_vec(&StatsResponse {
                identity,
                started: &self.started,
                endpoints: rows.values().map(Row::stats).collect(),
            }),
        }
    }
}

impl Row {
    fn new(endpoint: Endpoint) -> Self {
        let (last_error, busy) = (String::new(), Duration::ZERO);
        Self {
            endpoint,
            requests: 0,
            errors: 0,
            last_error,
            busy,
            data: None,
        }
    }

    fn stats(&self) -> EndpointStats<'_> {
        // nanoseconds in 64 bits last for centuries of work
        let busy_ns = u64::try_from(self.busy.as_nanos()).unwrap_or(u64::MAX);
        EndpointStats {
            name: &self.endpoint.name,
            subject: &self.endpoint.subject,
            queue_group: &self.endpoint.queue_group,
            num_requests: self.requests,
            num_errors: self.errors,
            last_error: &self.last_error,
            processing_time: busy_ns,
            average_processing_time: busy_ns.checked_div(self.requests).unwrap_or(0),
            data: self.data.as_ref(),
        }
    }
}

impl Question {
    fn verb(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }

    fn response_type(self) -> &'static str {
        match self {
            Self::Ping => "io.nats.micro.v1.ping_response",
            Self::Info => "io.nats.micro.v1.info_response",
            Self::Stats => "io.nats.micro.v1.stats_response",
        }
    }
}

/// Answers one question until the bus closes.
async fn answer(
    bus: Arc<dyn Bus>,
    mut questions: Box<dyn Subscription>,
    registration: Arc<Registration>,
    question: Question,
) {
    while let Some(Delivery { reply, .. }) = questions.next().await {
        let Some(subject) = reply else { continue };
        let payload = registration
            .answer(question)
            .expect("names, texts and counts are JSON");
        let payload = Bytes::from(payload);
        if let Err(error) = bus.publish(Publication {
            subject,
            payload,
            ..Publication::default()
        }) {
            tracing::warn!(%error, "a question about the service got no answer");
        }
    }
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(letter)
}

/// Three numbers, and whatever may follow a `-` or `+`.
fn is_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.len() == 3 && numbers.iter().all(number)
}
