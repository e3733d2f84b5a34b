//! The generic actor that runs any core.
//!
//! It hands inputs and the time to the core, carries out the effects in order, and keeps one timer armed for
//! the core's deadline. It never looks into an input or an effect, and never awaits another actor.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use logic::{Core, Micros};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message, RpcReplyPort, SupervisionEvent};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use crate::clock::Clock;

/// A timer that fires this late means that the process was frozen, or starved as if it had been.
const FROZEN: Duration = Duration::from_millis(1000);

/// Carries out a core's effects. No method blocks.
pub trait Ports<C: Core>: Send + 'static {
    /// Does what the core wants. Answers come back as inputs through `me`.
    fn perform(&mut self, effect: C::Effect, me: &ActorRef<ShellMsg<C>>);
    /// The input that tells the core that the process was frozen.
    fn woke(&self) -> Option<C::Input>;
}

/// A message to a shell.
#[derive(Debug)]
pub enum ShellMsg<C: Core> {
    /// Something for the core; the permit is the source's credit and goes back once the input is handled.
    Input(C::Input, Option<OwnedSemaphorePermit>),
    /// The timer; what is due, the core knows.
    Wake,
    /// The timer, again, after everything that waited in the mailbox while the process was frozen.
    WakeAfterMail,
    /// What the core shows of itself.
    Snapshot(RpcReplyPort<C::Snapshot>),
}

impl<C> Message for ShellMsg<C>
where
    C: Core + 'static,
    C::Input: Send,
    C::Snapshot: Send,
{
}

/// Leave to put messages into a mailbox, which is unbounded by itself.
#[derive(Clone, Debug)]
pub struct Credits(Arc<Semaphore>);

impl Credits {
    /// `count` messages may be under way at once.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// One credit, as soon as there is one.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().acquire_owned().await.ok()
    }
}

/// The actor.
#[derive(Debug)]
pub struct Shell<C, P>(PhantomData<fn() -> (C, P)>);

impl<C, P> Default for Shell<C, P> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// What a shell is started with.
#[derive(Debug)]
pub struct ShellArgs<C, P> {
    /// The core.
    pub core: C,
    /// Its ports.
    pub ports: P,
    /// Its clock.
    pub clock: Clock,
}

/// A running shell's state.
#[derive(Debug)]
pub struct ShellState<C: Core, P> {
    core: C,
    ports: P,
    clock: Clock,
    armed: Option<(Micros, JoinHandle<()>)>,
    effects: Vec<C::Effect>,
}

impl<C: Core, P: Ports<C>> ShellState<C, P>
where
    C: Send + 'static,
    C::Input: Send,
    C::Effect: Send,
    C::Snapshot: Send,
{
    fn input(&mut self, input: C::Input, me: &ActorRef<ShellMsg<C>>) {
        self.core.handle(self.clock.now(), input, &mut self.effects);
        self.perform(me);
    }

    fn perform(&mut self, me: &ActorRef<ShellMsg<C>>) {
        for effect in self.effects.drain(..) {
            self.ports.perform(effect, me);
        }
        self.arm(me);
    }

    /// Keeps a timer that is not later than the core's deadline; an early one is harmless.
    fn arm(&mut self, me: &ActorRef<ShellMsg<C>>) {
        let Some(at) = self.core.deadline() else {
            return;
        };
        if self.armed.as_ref().is_some_and(|(armed, _)| *armed <= at) {
            return;
        }
        let (me, when) = (me.clone(), self.clock.instant(at));
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(when).await;
            // An error means that the shell is gone, and with it whatever was due.
            let _gone = me.cast(ShellMsg::Wake);
        });
        if let Some((_, old)) = self.armed.replace((at, timer)) {
            old.abort();
        }
    }

    fn wake(&mut self, me: &ActorRef<ShellMsg<C>>) -> Result<(), ActorProcessingErr> {
        let now = self.clock.now();
        let due = self.armed.take().map_or(now, |(at, _)| at);
        if Duration::from_micros(now.since(due)) >= FROZEN
            && let Some(woke) = self.ports.woke()
        {
            tracing::warn!(
                late_ms = now.since(due) / 1000,
                "the process was frozen or starved"
            );
            self.input(woke, me);
            me.cast(ShellMsg::WakeAfterMail)?;
            return Ok(());
        }
        self.expire(me);
        Ok(())
    }

    fn expire(&mut self, me: &ActorRef<ShellMsg<C>>) {
        self.core.expire(self.clock.now(), &mut self.effects);
        self.perform(me);
    }
}

impl<C, P> Actor for Shell<C, P>
where
    C: Core + Send + 'static,
    C::Input: Send,
    C::Effect: Send,
    C::Snapshot: Send,
    P: Ports<C>,
{
    type Msg = ShellMsg<C>;
    type State = ShellState<C, P>;
    type Arguments = ShellArgs<C, P>;

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let ShellArgs { core, ports, clock } = args;
        let mut state = ShellState {
            core,
            ports,
            clock,
            armed: None,
            effects: Vec::new(),
        };
        state.arm(&me);
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShellMsg::Input(input, credit) => {
                state.input(input, &me);
                drop(credit);
            }
            ShellMsg::Wake => state.wake(&me)?,
            ShellMsg::WakeAfterMail => state.expire(&me),
            ShellMsg::Snapshot(reply) => {
                if !reply.is_closed() {
                    let _asker_left = reply.send(state.core.snapshot());
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((_, timer)) = state.armed.take() {
            timer.abort();
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _me: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A shell has no children; an event here is a mistake of whoever linked one.
        tracing::warn!(%event, "unexpected supervision event");
        Ok(())
    }
}
