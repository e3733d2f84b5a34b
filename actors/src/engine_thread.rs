//! The thread that runs an engine: one step at a time, answers as inputs of whichever worker shell is current.
//!
//! It outlives a restarted role: a new epoch's first step simply waits behind the step that is running.
//! It never plans and never touches a block that the plan does not name.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use engine::{Engine, EngineError, Shape};
use gpu::Region;
use logic::{
    batch::StepPlan,
    role::worker::{Input, Worker},
};
use ractor::ActorRef;

use crate::shell::ShellMsg;

/// Steps that may wait: a core has one out, and a restarted one may add one before the old one is done.
const STEPS_WAITING: usize = 2;

/// Who gets the answers.
type Listener = Arc<Mutex<Option<(u64, ActorRef<ShellMsg<Worker>>)>>>;

/// Why an engine's thread cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineThreadError {
    /// The system gave no thread.
    #[error("cannot start the engine's thread: {0}")]
    Spawn(#[from] std::io::Error),
}

/// A handle to the thread.
#[derive(Clone, Debug)]
pub struct EngineThread {
    steps: mpsc::SyncSender<(u64, StepPlan)>,
    listener: Listener,
    shape: Shape,
    region: Arc<Region>,
}

impl EngineThread {
    /// Starts the thread around an engine and the memory of its blocks.
    ///
    /// # Errors
    /// [`EngineThreadError`].
    pub fn start(
        name: &str,
        engine: Box<dyn Engine>,
        region: Arc<Region>,
    ) -> Result<Self, EngineThreadError> {
        let (steps, inbox) = mpsc::sync_channel(STEPS_WAITING);
        let listener: Listener = Arc::default();
        let shape = engine.shape().clone();
        let (answers, memory) = (listener.clone(), region.clone());
        thread::Builder::new()
            .name(format!("engine-{name}"))
            .spawn(move || run(engine, &memory, &inbox, &answers))?;
        Ok(Self {
            steps,
            listener,
            shape,
            region,
        })
    }

    /// What the engine needs and offers.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The memory it works on.
    #[must_use]
    pub const fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// From now on answers go to this shell, and only answers to steps of this epoch.
    pub fn listen(&self, epoch: u64, shell: ActorRef<ShellMsg<Worker>>) {
        *lock(&self.listener) = Some((epoch, shell));
    }

    /// Queues a step; false if the thread is gone or has more than a core may have out.
    #[must_use]
    pub fn step(&self, epoch: u64, plan: StepPlan) -> bool {
        self.steps.try_send((epoch, plan)).is_ok()
    }
}

fn lock(
    listener: &Listener,
) -> std::sync::MutexGuard<'_, Option<(u64, ActorRef<ShellMsg<Worker>>)>> {
    listener
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run(
    mut engine: Box<dyn Engine>,
    region: &Region,
    steps: &mpsc::Receiver<(u64, StepPlan)>,
    listener: &Listener,
) {
    while let Ok((epoch, plan)) = steps.recv() {
        let number = plan.number;
        let answer = match engine.step(&plan, region) {
            Ok(result) => Input::Stepped(result),
            Err(error @ EngineError::Plan(_)) => {
                tracing::error!(%error, number, "the engine refused a step");
                Input::StepFailed { number }
            }
            Err(error @ EngineError::Fatal(_)) => {
                tracing::error!(%error, number, "the engine broke; this process ends");
                std::process::exit(70); // EX_SOFTWARE: memory of a broken device is not to be trusted
            }
        };
        if let Some((current, shell)) = &*lock(listener)
            && *current == epoch
        {
            let _shell_left = shell.cast(ShellMsg::Input(answer, None));
        }
    }
}
