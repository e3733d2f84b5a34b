//! One message on a public subject: which operation it is, and the answer of those that are short.
//!
//! Generation is `generate`'s.

use std::{sync::Arc, time::Instant};

use bus_schemas::subjects::{Operation, parse_public};
use nats::{Delivery, Headers};
use serde_json::Value;

use super::{Hall, generate, reply::Replies};
use crate::{doors::Kind, error::ApiError, models};

/// Starts on a message, or refuses it at once.
pub(super) fn accept(hall: &Arc<Hall>, delivery: Delivery) {
    let Some(subject) = delivery.reply.clone() else {
        tracing::debug!(
            subject = delivery.subject,
            "a request has no reply subject; it is dropped"
        );
        return;
    };
    let slow_client = hall.doors.options().slow_client;
    let replies = Replies::new(hall.bus.clone(), subject, slow_client);
    let hall = hall.clone();
    match hall.slots.clone().try_acquire_owned() {
        Ok(slot) => tokio::spawn(async move {
            let _slot = slot;
            handle(&hall, delivery, &replies).await;
        }),
        Err(_) => tokio::spawn(async move {
            let _gone = replies
                .error(Headers::new(), &ApiError::overloaded(None), false)
                .await;
        }),
    };
}

async fn handle(hall: &Arc<Hall>, delivery: Delivery, replies: &Replies) {
    let began = Instant::now();
    let Some((operation, token)) = parse_public(&delivery.subject) else {
        let error = ApiError::field("subject", "there is no operation on this subject");
        let _gone = replies.error(Headers::new(), &error, false).await;
        return;
    };
    let token = token.map(str::to_owned);
    let failure = match operation {
        Operation::Chat => {
            generate::generate(hall, Kind::Chat, &delivery, token.as_deref(), replies).await
        }
        Operation::Completions => {
            generate::generate(hall, Kind::Completion, &delivery, token.as_deref(), replies).await
        }
        Operation::Models => value(Ok(models::list(&hall.doors.models())), replies).await,
        Operation::Tokenize => {
            value(
                hall.doors.tokenize(delivery.payload, token.clone()).await,
                replies,
            )
            .await
        }
        Operation::Detokenize => {
            value(
                hall.doors.detokenize(delivery.payload, token.clone()).await,
                replies,
            )
            .await
        }
    };
    hall.service.record(
        operation,
        token.as_deref(),
        began.elapsed(),
        failure.as_ref(),
    );
}

/// Answers with a value or an error, and gives the error back to be counted.
async fn value(result: Result<Value, ApiError>, replies: &Replies) -> Option<ApiError> {
    match result {
        Ok(value) => {
            let body = value.to_string().into_bytes();
            let _gone = replies.whole(Headers::new(), body).await;
            None
        }
        Err(error) => {
            let _gone = replies.error(Headers::new(), &error, false).await;
            Some(error)
        }
    }
}
