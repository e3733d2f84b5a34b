//! The door as a NATS micro service: `nats micro ls|info|stats` show its operations, and each model's subjects.
//!
//! Only tells and counts; it never takes a request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bus_schemas::subjects::{GATEWAY_GROUP, Operation, public, public_model};
use nats::{
    Bus,
    service::{Endpoint, Metadata, ServiceError, ServiceHandle, ServiceInfo, register},
};

use crate::{backend::ModelEntry, doors::Doors, error::ApiError};

/// The service's name.
const NAME: &str = "thalamus-gateway";

/// The registration.
pub(super) struct Service(ServiceHandle);

impl Service {
    /// Registers the door with the models of now.
    pub(super) async fn register(bus: Arc<dyn Bus>, doors: &Doors) -> Result<Self, ServiceError> {
        let info = ServiceInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "OpenAI chat and completions on NATS".to_owned(),
            metadata: metadata([
                ("api", "v1".to_owned()),
                ("max_payload", bus.max_payload().to_string()),
            ]),
        };
        Ok(Self(register(bus, info, endpoints(&doors.models())).await?))
    }

    /// Keeps the endpoints in step with the models.
    pub(super) async fn refresh(self: Arc<Self>, doors: Arc<Doors>, every: Duration) {
        let mut known = endpoints(&doors.models());
        loop {
            tokio::time::sleep(every).await;
            let now = endpoints(&doors.models());
            if now != known {
                self.0.set_endpoints(now.clone());
                known = now;
            }
        }
    }

    /// Counts a request.
    pub(super) fn record(
        &self,
        operation: Operation,
        token: Option<&str>,
        took: Duration,
        error: Option<&ApiError>,
    ) {
        let error = error.map(|error| format!("{}:{}", error.class.status(), error.code));
        self.0
            .record(&endpoint_name(operation, token), took, error.as_deref());
    }
}

fn endpoints(models: &[ModelEntry]) -> Vec<Endpoint> {
    let endpoint = |name: String, subject: String, metadata| {
        let queue_group = GATEWAY_GROUP.to_owned();
        Endpoint {
            name,
            subject,
            queue_group,
            metadata,
        }
    };
    let general = Operation::ALL
        .into_iter()
        .map(|op| endpoint(endpoint_name(op, None), public(op), Metadata::new()));
    let of_model = models.iter().flat_map(|model| {
        let with_model = Operation::ALL.into_iter().filter(|op| op.takes_model());
        with_model.map(move |op| {
            let subject = public_model(op, &model.name);
            let token = bus_schemas::subjects::model_token(&model.name);
            endpoint(endpoint_name(op, Some(&token)), subject, about(model))
        })
    });
    general.chain(of_model).collect()
}

fn about(model: &ModelEntry) -> Metadata {
    metadata([
        ("model", model.name.clone()),
        ("context", model.text.context_tokens().to_string()),
        ("tools", false.to_string()),
        ("reasoning", false.to_string()),
        ("stream", true.to_string()),
    ])
}

/// A name may hold letters, digits, `-` and `_`; the `%` of a coded model name becomes `-`.
fn endpoint_name(operation: Operation, token: Option<&str>) -> String {
    match token {
        None => operation.as_str().to_owned(),
        Some(token) => format!("{}-{}", operation.as_str(), token.replace('%', "-")),
    }
}

fn metadata<const N: usize>(pairs: [(&str, String); N]) -> Metadata {
    BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value)))
}
