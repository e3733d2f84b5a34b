//! The models that this gateway can serve: their text side, and whether a worker for them lives.
//!
//! Cards come from beats, their files over the bus unless this process has them. It never loads weights.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actors::{ShellMsg, gateway::GatewayRef};
use bus_schemas::subjects::Subjects;
use engine::{card::CardFiles, text::TextModel};
use gateway::backend::ModelEntry;
use nats::Bus;
use ractor::rpc::CallResult;
use tokio::sync::watch;

use super::cards;

/// Between two looks at which models live.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A look that takes longer says nothing.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// A card that could not be fetched is tried again after this.
const FETCH_AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Known {
    card: u64,
    text: Arc<TextModel>,
    ready: bool,
    created: u64,
}

/// Models by name.
#[derive(Debug, Default)]
pub(super) struct Models {
    known: Mutex<BTreeMap<String, Known>>,
}

impl Models {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the doors see.
    pub(super) fn list(&self) -> Vec<ModelEntry> {
        self.lock()
            .iter()
            .map(|(name, k)| ModelEntry {
                name: name.clone(),
                text: k.text.clone(),
                ready: k.ready,
                created: k.created,
            })
            .collect()
    }

    /// This process has the model's files.
    ///
    /// # Errors
    /// They are no good.
    pub(super) fn add(&self, name: &str, card: &CardFiles) -> anyhow::Result<()> {
        let text = Arc::new(TextModel::from_files(card)?);
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let known = Known {
            card: card.hash(),
            text,
            ready: false,
            created,
        };
        self.lock().insert(name.to_owned(), known);
        Ok(())
    }

    /// Marks which live, and says which are not known yet.
    fn mark(&self, live: &[(String, u64)]) -> Vec<(String, u64)> {
        let mut known = self.lock();
        for (name, k) in known.iter_mut() {
            k.ready = live.iter().any(|(n, card)| n == name && *card == k.card);
        }
        live.iter()
            .filter(|(name, card)| known.get(name).is_none_or(|k| k.card != *card && !k.ready))
            .cloned()
            .collect()
    }
}

/// Keeps the models up to date until the gateway is gone.
pub(super) async fn watch_models(
    models: Arc<Models>,
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    gateway: watch::Receiver<Option<GatewayRef>>,
) {
    let mut failed: BTreeMap<u64, tokio::time::Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if gateway.has_changed().is_err() {
            return;
        }
        let Some(shell) = gateway.borrow().clone() else {
            continue;
        };
        let answer = shell.call(ShellMsg::Snapshot, Some(LOOK_TIMEOUT)).await;
        let Ok(CallResult::Success(snapshot)) = answer else {
            continue;
        };
        for (name, card) in models.mark(&snapshot.models) {
            if failed
                .get(&card)
                .is_some_and(|at| at.elapsed() < FETCH_AGAIN)
            {
                continue;
            }
            if let Err(error) = learn(&models, &bus, &subjects, &name, card).await {
                tracing::warn!(model = name, %error, "cannot get the model's card from its workers");
                failed.insert(card, tokio::time::Instant::now());
            }
        }
    }
}

async fn learn(
    models: &Models,
    bus: &Arc<dyn Bus>,
    subjects: &Subjects,
    name: &str,
    card: u64,
) -> anyhow::Result<()> {
    let files = cards::fetch(bus, subjects, name, card).await?;
    models.add(name, &files)?;
    tracing::info!(
        model = name,
        card = format!("{card:016x}"),
        "model learned from its workers"
    );
    Ok(())
}
