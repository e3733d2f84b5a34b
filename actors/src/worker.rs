//! The worker's actor: letters, the engine's thread and the fabric around a worker core. It decides nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bus_schemas::{NodeId, NodeRef, limits::FABRIC_FROZEN_US};
use gpu::Region;
use logic::role::worker::{Config, Effect, Input, Worker};
use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::{Notify, watch};
use transport::{EventSink, Export, Fabric, FabricEvent, Piece, Take};

use crate::{
    clock::{Clock, fresh_epoch},
    engine_thread::EngineThread,
    post::{Listen, Post},
    shell::{Ports, Shell, ShellArgs, ShellMsg},
    supervisor::{Role, StartError, Started, Starting},
    trail,
};

/// A running worker.
pub type WorkerRef = ActorRef<ShellMsg<Worker>>;

/// Between two looks at which peers the fabric cannot reach.
const REACH_EVERY: Duration = Duration::from_millis(250);

/// Opens a fabric for one epoch of a worker.
pub type OpenFabric =
    Arc<dyn Fn(NodeRef, Arc<Region>, EventSink) -> Result<Arc<dyn Fabric>, String> + Send + Sync>;

/// The worker's ports.
pub struct WorkerPorts {
    me: NodeRef,
    post: Post,
    engine: EngineThread,
    fabric: Arc<dyn Fabric>,
    drained: Arc<Notify>,
}

impl std::fmt::Debug for WorkerPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPorts")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Ports<Worker> for WorkerPorts {
    fn perform(&mut self, effect: Effect, me: &WorkerRef) {
        match effect {
            Effect::Send(outgoing) => self.post.send(outgoing),
            Effect::Step(plan) => {
                let number = plan.number;
                if !self.engine.step(self.me.epoch.0, plan) {
                    tracing::error!(number, "the engine's thread takes no step");
                    let _self_left = me.cast(ShellMsg::Input(Input::StepFailed { number }, None));
                }
            }
            Effect::Take {
                take,
                ticket,
                seq,
                owner,
                pieces,
            } => self.fabric.take(Take {
                id: take,
                ticket,
                seq,
                owner,
                pieces: pieces
                    .into_iter()
                    .map(|(from, to)| Piece { from, to })
                    .collect(),
                timeout: Duration::from_micros(FABRIC_FROZEN_US),
            }),
            Effect::CancelTake(take) => self.fabric.cancel(take),
            Effect::Export {
                ticket,
                seq,
                audience,
                slots,
            } => {
                self.fabric.export(Export {
                    ticket,
                    seq,
                    audience,
                    slots,
                });
            }
            Effect::Revoke(ticket) => self.fabric.revoke(ticket),
            Effect::KnowPeer { peer, card } => self.fabric.know(peer, &card),
            Effect::ForgetPeer(peer) => self.fabric.forget(peer),
            Effect::Probe(node) => self.post.probe(node, me.clone(), Input::Gone),
            Effect::Fact(fact) => trail::tell(self.post.me(), &fact),
            Effect::Drained => self.drained.notify_one(),
        }
    }

    fn woke(&self) -> Option<Input> {
        Some(Input::Woke)
    }
}

/// What a fabric's event is to the core.
fn input_of(event: FabricEvent) -> Input {
    match event {
        FabricEvent::Progress { id, .. } => Input::TakeProgress(id),
        FabricEvent::Taken { id, result } => {
            if let Err(failure) = result {
                metrics::counter!("thalamus_takes_failed_total").increment(1);
                tracing::debug!(take = id, %failure, "take failed");
            }
            Input::Taken {
                take: id,
                landed: result.is_ok(),
            }
        }
        FabricEvent::Settled { id } => Input::Settled(id),
    }
}

/// Makes workers of one name, each under a new epoch.
pub struct WorkerRole {
    /// Its name.
    pub node: NodeId,
    /// The core's configuration; `me` and `fabric` are filled in at each start.
    pub config: Config,
    /// Bus and subjects.
    pub bus: Arc<dyn nats::Bus>,
    /// Subjects of the cluster.
    pub subjects: bus_schemas::subjects::Subjects,
    /// The engine.
    pub engine: EngineThread,
    /// Opens the fabric.
    pub open_fabric: OpenFabric,
    /// The clock of the process.
    pub clock: Clock,
    /// Where the present actor and fabric can be found.
    pub current: watch::Sender<Option<Current>>,
    /// Rung once the worker has drained.
    pub drained: Arc<Notify>,
}

/// The present incarnation of a worker.
#[derive(Clone)]
pub struct Current {
    /// Its name and epoch.
    pub me: NodeRef,
    /// Its actor.
    pub shell: WorkerRef,
    /// Its fabric.
    pub fabric: Arc<dyn Fabric>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Role for WorkerRole {
    fn name(&self) -> String {
        self.node.to_string()
    }

    fn start(&mut self, supervisor: ActorCell) -> Starting<'_> {
        Box::pin(self.start_epoch(supervisor))
    }
}

impl WorkerRole {
    async fn start_epoch(&mut self, supervisor: ActorCell) -> Result<Started, StartError> {
        self.current.send_replace(None); // the old fabric closes before the new one opens
        let me = NodeRef {
            node: self.node,
            epoch: fresh_epoch(),
        };
        let listener: Arc<Mutex<Option<WorkerRef>>> = Arc::default();
        let fabric = (self.open_fabric)(me, self.engine.region().clone(), sink(&listener))
            .map_err(StartError::Fabric)?;
        let config = Config {
            me,
            fabric: fabric.card(),
            ..self.config.clone()
        };
        let post = Post::new(self.bus.clone(), self.subjects.clone(), me);
        let ports = WorkerPorts {
            me,
            post: post.clone(),
            engine: self.engine.clone(),
            fabric: fabric.clone(),
            drained: self.drained.clone(),
        };
        let args = ShellArgs {
            core: Worker::new(config),
            ports,
            clock: self.clock,
        };
        let (shell, _) = Actor::spawn_linked(None, Shell::default(), args, supervisor)
            .await
            .map_err(|e| StartError::Spawn(e.to_string()))?;
        *listener
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(shell.clone());
        self.engine.listen(me.epoch.0, shell.clone());
        let mut feeding = post
            .feed(shell.clone(), Listen::default(), Input::Letter, Input::Link)
            .await?;
        feeding.spawn(report_reach(fabric.clone(), shell.clone()));
        self.current.send_replace(Some(Current {
            me,
            shell: shell.clone(),
            fabric,
        }));
        Ok((shell.get_cell(), Box::new(feeding)))
    }
}

/// Hands the fabric's events to the shell, once it is there.
fn sink(listener: &Arc<Mutex<Option<WorkerRef>>>) -> EventSink {
    let listener = listener.clone();
    Arc::new(move |event| {
        let shell = listener
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(shell) = &*shell {
            let _shell_left = shell.cast(ShellMsg::Input(input_of(event), None));
        }
    })
}

async fn report_reach(fabric: Arc<dyn Fabric>, shell: WorkerRef) {
    let mut last = Vec::new();
    loop {
        tokio::time::sleep(REACH_EVERY).await;
        let unreachable = fabric.unreachable();
        if unreachable != last {
            last.clone_from(&unreachable);
            if shell
                .cast(ShellMsg::Input(Input::Unreachable(unreachable), None))
                .is_err()
            {
                return;
            }
        }
    }
}
