//! The question before a request with a client's own id runs: does it run already, here or elsewhere?
//!
//! It is asked on the request's own subject, so that whoever runs it answers. Never runs anything.

use std::time::Duration;

use bus_schemas::subjects::public_attach;
use nats::{Bus, Publication, RequestError};
use serde_json::{Value, json};

use crate::error::{ApiError, Class};

/// Whoever runs a request answers within a fraction of this.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The question: hand the answer of the request with this body to another caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attach {
    /// Hash of the body.
    pub(super) body: blake3::Hash,
    /// The new caller.
    pub(super) to: String,
    /// The first message that it lacks, if it says.
    pub(super) from: Option<u64>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// The caller gets it.
    Yes,
    /// That id has another body.
    Other,
    /// What the caller lacks is not kept any more.
    Forgotten,
    /// It has just ended.
    Ended,
}

impl Attached {
    const ALL: [Self; 4] = [Self::Yes, Self::Other, Self::Forgotten, Self::Ended];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Other => "other",
            Self::Forgotten => "forgotten",
            Self::Ended => "ended",
        }
    }

    /// The answer's body.
    pub(super) fn to_json(self) -> String {
        json!({ "attached": self.as_str() }).to_string()
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let word = body["attached"].as_str()?;
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

impl Attach {
    fn to_json(&self) -> String {
        let body = self.body.to_hex();
        json!({ "body": body.as_str(), "to": self.to, "from": self.from }).to_string()
    }

    /// Reads a question; none if it is garbage.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        Some(Self {
            to: body["to"].as_str()?.to_owned(),
            from: body["from"].as_u64(),
            body: blake3::Hash::from_hex(body["body"].as_str()?).ok()?,
        })
    }

    /// Asks whoever runs `id`; true if it took the caller over, false if nobody runs it.
    ///
    /// # Errors
    /// It runs, and the caller cannot have it.
    pub(super) async fn ask(&self, bus: &dyn Bus, id: &str) -> Result<bool, ApiError> {
        let question = Publication {
            subject: public_attach(id),
            payload: self.to_json().into(),
            ..Publication::default()
        };
        let answer = match bus.request(question, ANSWER_MAX).await {
            Ok(answer) => Attached::parse(&answer.payload),
            Err(RequestError::NoResponders) => return Ok(false),
            Err(RequestError::Timeout | RequestError::Publish(_)) => None,
        };
        match answer {
            Some(Attached::Yes) => Ok(true),
            Some(Attached::Ended) => Ok(false),
            Some(Attached::Other) => Err(in_use()),
            Some(Attached::Forgotten) => {
                let message = "this request is running already, and its first messages are no longer kept; ask with a \
                    later Thalamus-Start-Seq, cancel it, or use another id";
                Err(ApiError::new(Class::Conflict, "stream_forgotten", message))
            }
            // running it twice would be worse
            None => Err(ApiError::overloaded(None)),
        }
    }
}

/// That id has another body.
pub(super) fn in_use() -> ApiError {
    let message = "another request with this id is running; use another id";
    ApiError::new(Class::Conflict, "request_id_in_use", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_survive_the_wire_and_garbage_is_none() {
        for from in [None, Some(7)] {
            let attach = Attach {
                body: blake3::hash(b"x"),
                to: "_INBOX.a".into(),
                from,
            };
            assert_eq!(Attach::parse(attach.to_json().as_bytes()), Some(attach));
        }
        for word in Attached::ALL {
            assert_eq!(Attached::parse(word.to_json().as_bytes()), Some(word));
        }
        for garbage in [
            "",
            "{}",
            "[]",
            r#"{"body":"zz","to":"a"}"#,
            "{\"attached\":1}",
        ] {
            assert_eq!(Attach::parse(garbage.as_bytes()), None);
            assert_eq!(Attached::parse(garbage.as_bytes()), None);
        }
    }
}
