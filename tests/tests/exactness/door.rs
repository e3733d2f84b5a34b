//! The two doors: the same body by HTTP and on a NATS subject. It judges no answer.

use std::{fmt, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::setting::Running;

const COMPLETIONS: &str = "thalamus.v1.completions";
/// A loaded machine takes its time; a hanging request is an error at last.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Where a request enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Http,
    Nats,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http => "HTTP",
            Self::Nats => "NATS",
        })
    }
}

impl Door {
    /// The whole answer to a completion.
    pub(super) fn ask(self, running: &Running, body: &Value) -> Result<Value> {
        match self {
            Self::Http => running.front.ask("/v1/completions", body),
            Self::Nats => {
                let login = running.login.as_ref().context("it has a NATS server")?;
                running.runtime.block_on(by_nats(login, body))
            }
        }
    }
}

/// How a client reaches the NATS server.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) url: String,
    pub(super) user: String,
    pub(super) password: String,
}

async fn by_nats(login: &Login, body: &Value) -> Result<Value> {
    let (user, password) = (login.user.clone(), login.password.clone());
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    let client = options.connect(&login.url).await?;
    let request = async_nats::Request::new()
        .payload(body.to_string().into())
        .timeout(Some(ANSWER_WITHIN));
    let answer = client.send_request(COMPLETIONS, request).await?;
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    let error = answer
        .headers
        .and_then(|h| h.get("Nats-Service-Error").map(|e| e.to_string()));
    ensure!(error.is_none(), "{COMPLETIONS} answered {error:?}: {text}");
    serde_json::from_str(&text).with_context(|| text)
}
