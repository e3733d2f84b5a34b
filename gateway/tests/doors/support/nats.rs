//! A NATS client on the in-memory bus, with a door on the other side.

use std::{sync::Arc, time::Duration};

use ::nats::{Bus, Delivery, Headers, MemBus, MemServer, Publication, Subscription};
use bytes::Bytes;
use gateway::{
    Doors, Options,
    nats_door::{NatsConfig, Running, serve},
};
use serde_json::Value;

use super::Double;

/// No message takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client and the door it talks to.
pub(crate) struct Caller {
    pub(crate) bus: Arc<MemBus>,
    pub(crate) door: Running,
}

/// Answers to one request.
pub(crate) struct Answers(Box<dyn Subscription>);

impl Caller {
    pub(crate) async fn of(core: &Arc<Double>) -> Self {
        Self::with(core, Options::default(), NatsConfig::default()).await
    }

    pub(crate) async fn with(core: &Arc<Double>, options: Options, config: NatsConfig) -> Self {
        let server = MemServer::new();
        let doors = Doors::new(core.clone(), options);
        let door = serve(server.connect(), doors, config)
            .await
            .expect("the door opens");
        Self {
            bus: server.connect(),
            door,
        }
    }

    /// Sends a request, and listens for its answers.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answers {
        self.ask_bytes(subject, headers, body.to_string().into())
            .await
    }

    pub(crate) async fn ask_bytes(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: Bytes,
    ) -> Answers {
        let inbox = self.bus.inbox();
        let answers = self
            .bus
            .subscribe(&inbox, None, 4096)
            .await
            .expect("an inbox");
        let headers: Headers = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let reply = Some(inbox);
        let subject = subject.to_owned();
        self.bus
            .publish(Publication {
                subject,
                reply,
                headers,
                payload,
            })
            .expect("it is sent");
        Answers(answers)
    }

    /// Says something that needs no answer.
    pub(crate) fn publish(&self, subject: &str, text: &str) {
        let said = Publication {
            subject: subject.to_owned(),
            payload: text.to_owned().into(),
            ..Publication::default()
        };
        self.bus.publish(said).expect("it is sent");
    }

    /// Asks for one answer on any subject.
    pub(crate) async fn request(&self, subject: &str) -> Result<Delivery, ::nats::RequestError> {
        let subject = subject.to_owned();
        self.bus
            .request(
                Publication {
                    subject,
                    ..Publication::default()
                },
                PATIENCE,
            )
            .await
    }
}

impl Answers {
    pub(crate) async fn next(&mut self) -> Delivery {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
        next.expect("a message in time").expect("an open bus")
    }

    pub(crate) async fn json(&mut self) -> Value {
        let message = self.next().await;
        serde_json::from_slice(&message.payload).expect("JSON")
    }

    /// Everything up to the empty message.
    pub(crate) async fn all(&mut self) -> Vec<Delivery> {
        let mut all = Vec::new();
        loop {
            let message = self.next().await;
            if message.payload.is_empty() {
                assert!(message.headers.is_empty(), "the end has no headers");
                return all;
            }
            all.push(message);
        }
    }
}
