//! The models that this gateway can serve: their text side, and whether a worker for them lives.
//!
//! Cards come from beats, their files over the bus unless this process has them. It never loads weights.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bus_schemas::subjects::Subjects;
use engine::{card::CardFiles, text::TextModel};
use gateway::backend::ModelEntry;
use nats::Bus;
use tokio::sync::watch;

use super::cards;

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
    /// Those that live, with their card, as the gateway last said.
    live: watch::Sender<Vec<(String, u64)>>,
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
        // it may live already
        self.mark(&self.live.borrow());
        Ok(())
    }

    /// The gateway says which live.
    pub(super) fn live(&self, live: Vec<(String, u64)>) {
        self.mark(&live);
        self.live.send_replace(live);
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

/// Learns the models that live and are not known yet, as the gateway tells of them.
pub(super) async fn learn_models(models: Arc<Models>, bus: Arc<dyn Bus>, subjects: Subjects) {
    let mut told = models.live.subscribe();
    loop {
        let live = told.borrow_and_update().clone();
        let mut failed = false;
        for (name, card) in models.mark(&live) {
            if let Err(error) = learn(&models, &bus, &subjects, &name, card).await {
                tracing::warn!(model = name, %error, "cannot get the model's card from its workers");
                failed = true;
            }
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(FETCH_AGAIN), if failed => {}
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
