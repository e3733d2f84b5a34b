//! Micro services (ADR-32) as the `nats micro` command asks for them.
//!
//! Compares the JSON field by field.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nats::{
    Bus,
    service::{self, Endpoint, ServiceError, ServiceInfo},
};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, eventually, message, no_one_listens, settle};

pub(crate) async fn a_service_answers_questions(world: World) {
    let (bus, asker) = (world.connect().await, world.connect().await);
    let info = service_info("thalamus-gateway", "0.1.0");
    let service = service::register(bus.clone(), info, vec![endpoint("chat")]).await;
    let service = service.expect("a valid service");
    settle(&bus).await;
    let ping = ask(&asker, "$SRV.PING").await;
    assert_eq!(
        ping,
        json!({"type": "io.nats.micro.v1.ping_response", "name": "thalamus-gateway",
            "id": service.id(), "version": "0.1.0", "metadata": {"api": "v1"}})
    );
    service.set_endpoints(vec![endpoint("chat"), endpoint("models")]);
    service.set_metadata(BTreeMap::from([("models".to_owned(), "a".to_owned())]));
    let info = ask(&asker, "$SRV.INFO.thalamus-gateway").await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["description"], "serves models");
    assert_eq!(info["metadata"], json!({"models": "a"}));
    assert_eq!(
        info["endpoints"][1],
        json!({"name": "models", "subject": "thalamus.v1.models", "queue_group": "thalamus-gw",
            "metadata": {"stream": "true"}})
    );
    service.record("chat", Duration::from_micros(30), None);
    service.record("chat", Duration::from_micros(10), Some("503:no room"));
    service.record("unknown", Duration::from_micros(10), None);
    service.set_data("chat", json!({"queue_depth": 3}));
    service.set_endpoints(vec![endpoint("chat")]);
    let stats = ask(
        &asker,
        &format!("$SRV.STATS.thalamus-gateway.{}", service.id()),
    )
    .await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    assert!(
        stats["started"]
            .as_str()
            .is_some_and(|started| started.ends_with('Z')),
        "{stats}"
    );
    assert_eq!(
        stats["endpoints"],
        json!([{"name": "chat", "subject": "thalamus.v1.chat", "queue_group": "thalamus-gw",
            "num_requests": 2, "num_errors": 1, "last_error": "503:no room",
            "processing_time": 40_000, "average_processing_time": 20_000,
            "data": {"queue_depth": 3}}])
    );
    drop(service);
    eventually(async || no_one_listens(&asker, "$SRV.PING").await).await;
}

pub(crate) async fn a_service_refuses_bad_names(world: World) {
    let bus = world.connect().await;
    let refused = |name: &'static str, version: &'static str| {
        let bus = bus.clone();
        async move {
            service::register(bus, service_info(name, version), vec![])
                .await
                .map(drop)
        }
    };
    let name = refused("a.b", "0.1.0").await;
    assert_eq!(name, Err(ServiceError::Name("a.b".to_owned())));
    for version in ["1", "1.2.x", "", "v1.2.3"] {
        let refusal = refused("gateway", version).await;
        assert_eq!(refusal, Err(ServiceError::Version(version.to_owned())));
    }
    assert_eq!(refused("gateway", "1.2.3-rc.1+build").await, Ok(()));
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        subject: format!("thalamus.v1.{name}"),
        queue_group: "thalamus-gw".to_owned(),
        metadata: BTreeMap::from([("stream".to_owned(), "true".to_owned())]),
    }
}

fn service_info(name: &str, version: &str) -> ServiceInfo {
    ServiceInfo {
        name: name.to_owned(),
        version: version.to_owned(),
        description: "serves models".to_owned(),
        metadata: BTreeMap::from([("api".to_owned(), "v1".to_owned())]),
    }
}

async fn ask(bus: &Arc<dyn Bus>, subject: &str) -> Value {
    let answer = bus
        .request(message(subject, ""), PATIENCE)
        .await
        .expect("the service answers");
    serde_json::from_slice(&answer.payload).expect("JSON")
}
