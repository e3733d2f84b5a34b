//! Keeps one role alive: starts it, restarts it as a new epoch when it breaks, gives up past a budget.
//!
//! A restart is a fresh core under a new epoch, never a continued one: what the old one owned is let go by
//! its peers' leases. It holds no state of the role.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use logic::Core;
use nats::SubscribeError;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, Message, SupervisionEvent};
use tokio::{sync::watch, time::Instant};

use crate::{post::Feeding, shell::ShellMsg};

/// Restarts within [`BUDGET_WINDOW`] past which the process is told to end: a role that breaks this often does so for a reason that a restart does not cure.
pub const RESTARTS_MAX: usize = 3;
/// See [`RESTARTS_MAX`].
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// A started role.
#[derive(Debug)]
pub struct Child<C: Core> {
    /// Its actor.
    pub shell: ActorRef<ShellMsg<C>>,
    /// What feeds it.
    pub feeding: Feeding,
}

/// Why a role could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The actor system refused.
    #[error("cannot start the actor: {0}")]
    Spawn(String),
    /// The bus refused.
    #[error("cannot listen on the bus: {0}")]
    Subscribe(#[from] SubscribeError),
    /// The fabric could not be opened.
    #[error("cannot open the fabric: {0}")]
    Fabric(String),
}

/// What keeps a started role running; dropping it stops what feeds it.
pub type Running = Box<dyn std::any::Any + Send>;

/// A started role: its actor, and what must live as long as it does.
pub type Started = (ActorCell, Running);

/// A boxed future of a start.
pub type Starting<'a> = Pin<Box<dyn Future<Output = Result<Started, StartError>> + Send + 'a>>;

/// Makes a role, each time under a new epoch.
pub trait Role: Send + 'static {
    /// What to call it in logs.
    fn name(&self) -> String;
    /// Starts it, linked to `supervisor`.
    fn start(&mut self, supervisor: ActorCell) -> Starting<'_>;
}

/// How a role fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is being started.
    Starting,
    /// It runs; this many restarts so far.
    Running(usize),
    /// It was stopped on purpose.
    Stopped,
    /// It broke too often.
    Failed,
}

/// Messages to a supervisor.
#[derive(Debug)]
pub enum SupervisorMsg {
    /// Stop the role, then yourself.
    Stop,
}

impl Message for SupervisorMsg {}

/// The actor.
#[derive(Debug)]
pub struct Supervisor;

/// Its state.
pub struct SupervisorState {
    role: Box<dyn Role>,
    running: Option<Started>,
    restarts: VecDeque<Instant>,
    total: usize,
    health: watch::Sender<Health>,
}

impl SupervisorState {
    async fn start(&mut self, me: &ActorRef<SupervisorMsg>) -> Result<(), StartError> {
        self.running = None;
        self.running = Some(self.role.start(me.get_cell()).await?);
        self.health.send_replace(Health::Running(self.total));
        Ok(())
    }

    /// Whether one more restart is within the budget.
    fn may_restart(&mut self) -> bool {
        let now = Instant::now();
        self.restarts
            .retain(|at| now.duration_since(*at) < BUDGET_WINDOW);
        self.restarts.push_back(now);
        self.total += 1;
        self.restarts.len() <= RESTARTS_MAX
    }

    async fn broke(&mut self, me: &ActorRef<SupervisorMsg>, why: &str) {
        let name = self.role.name();
        tracing::error!(role = %name, why, "role broke");
        while self.may_restart() {
            match self.start(me).await {
                Ok(()) => return tracing::info!(role = %name, "role restarted as a new epoch"),
                Err(error) => tracing::error!(role = %name, %error, "role does not start"),
            }
        }
        self.running = None;
        self.health.send_replace(Health::Failed);
        me.stop(Some("restart budget spent".to_owned()));
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = (Box<dyn Role>, watch::Sender<Health>);

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        (role, health): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut state = SupervisorState {
            role,
            running: None,
            restarts: VecDeque::new(),
            total: 0,
            health,
        };
        state.start(&me).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Stop => {
                if let Some((actor, running)) = state.running.take() {
                    drop(running);
                    actor.stop(None);
                }
                state.health.send_replace(Health::Stopped);
                me.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, why) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => (
                actor,
                reason.unwrap_or_else(|| "it ended by itself".to_owned()),
            ),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return Ok(()),
        };
        let current = state.running.as_ref().map(|(running, _)| running.get_id());
        if current == Some(actor.get_id()) {
            state.broke(&me, &why).await;
        }
        Ok(())
    }
}

/// A supervised role.
#[derive(Clone, Debug)]
pub struct Supervised {
    actor: ActorRef<SupervisorMsg>,
    health: watch::Receiver<Health>,
}

impl Supervised {
    /// Starts a role under a supervisor of its own.
    ///
    /// # Errors
    /// [`StartError`] if the first start fails.
    pub async fn start(role: Box<dyn Role>) -> Result<Self, StartError> {
        let (sender, health) = watch::channel(Health::Starting);
        let (actor, _) = Actor::spawn(None, Supervisor, (role, sender))
            .await
            .map_err(|e| StartError::Spawn(e.to_string()))?;
        Ok(Self { actor, health })
    }

    /// How it fares, as it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Stops the role and the supervisor.
    pub async fn stop(&self) {
        let _already_gone = self.actor.cast(SupervisorMsg::Stop);
        let mut health = self.health.clone();
        let _sender_gone = health
            .wait_for(|h| matches!(h, Health::Stopped | Health::Failed))
            .await;
    }
}
