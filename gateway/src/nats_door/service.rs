//! The door as a NATS micro service: `nats micro ls|info|stats` show its operations, and each model's subjects.
//!
//! Only tells and counts; it never takes a request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bus_schemas::subjects::{GATEWAY_GROUP, Operation, model_token, public, public_model};
use nats::{
    Bus,
    service::{Endpoint, Metadata, ServiceError, ServiceHandle, ServiceInfo, register},
};

use serde_json::json;

use crate::{backend::ModelEntry, doors::Doors, error::ApiError, metrics::Standing};

/// The service's name.
const NAME: &str = "thalamus-gateway";

/// The registration.
pub(super) struct Service {
    handle: ServiceHandle,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// Registers the door with the models of now.
    pub(super) async fn register(bus: Arc<dyn Bus>, doors: &Doors) -> Result<Self, ServiceError> {
        let info = ServiceInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "OpenAI chat and completions on NATS".to_owned(),
            metadata: own(&doors.models(), bus.max_payload()),
        };
        let handle = register(bus.clone(), info, endpoints(&doors.models())).await?;
        Ok(Self { handle, bus })
    }

    /// Keeps models, endpoints and their figures up to date.
    pub(super) async fn refresh(self: Arc<Self>, doors: Arc<Doors>, every: Duration) {
        let mut known = endpoints(&doors.models());
        loop {
            tokio::time::sleep(every).await;
            let models = doors.models();
            let now = endpoints(&models);
            if now != known {
                self.handle.set_endpoints(now.clone());
                self.handle
                    .set_metadata(own(&models, self.bus.max_payload()));
                known = now;
            }
            for model in &models {
                self.tell(model, doors.standing(&model.name));
            }
        }
    }

    /// Shows how a model fares, at each of its endpoints.
    fn tell(&self, model: &ModelEntry, standing: Standing) {
        let token = model_token(&model.name);
        let Standing { waiting, ttft_ms } = standing;
        for operation in Operation::ALL.into_iter().filter(|op| op.takes_model()) {
            let data = json!({ "queue_depth": waiting, "ttft_ms": ttft_ms });
            self.handle
                .set_data(&endpoint_name(operation, Some(&token)), data);
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
        self.handle
            .record(&endpoint_name(operation, token), took, error.as_deref());
    }
}

/// What the service says of itself.
fn own(models: &[ModelEntry], max_payload: usize) -> Metadata {
    let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
    metadata([
        ("api", "v1".to_owned()),
        ("max_payload", max_payload.to_string()),
        ("models", names.join(",")),
    ])
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
            let token = model_token(&model.name);
            endpoint(endpoint_name(op, Some(&token)), subject, about(model))
        })
    });
    general.chain(of_model).collect()
}

fn about(model: &ModelEntry) -> Metadata {
    let (has_calls, has_thoughts) = crate::models::speaks(model);
    metadata([
        ("model", model.name.clone()),
        ("context", model.text.context_tokens().to_string()),
        ("tools", has_calls.to_string()),
        ("reasoning", has_thoughts.to_string()),
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
