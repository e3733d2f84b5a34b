//! The gateway's actor: letters, and the streams of the doors. It decides nothing.

use std::{sync::Arc, time::Duration};

use bus_schemas::{Item, NodeId, NodeRef, Outcome, RequestId};
use logic::role::gateway::{Config, Effect, Gateway, Input};
use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::{Notify, watch};

use crate::{
    clock::{Clock, fresh_epoch},
    post::{Listen, Post},
    shell::{Ports, Shell, ShellArgs, ShellMsg},
    supervisor::{Role, StartError, Started, Starting},
    trail,
};

/// A running gateway.
pub type GatewayRef = ActorRef<ShellMsg<Gateway>>;

/// Where tokens and outcomes go. Called by the gateway's actor; must not block.
pub trait Doors: Send + Sync {
    /// Tokens and ends of one request, in order; false if nobody takes them (any more), which cancels it.
    fn deliver(&self, request: RequestId, items: Vec<Item>, cached_tokens: u32) -> bool;
    /// The outcome of a request, once.
    fn ended(&self, request: RequestId, outcome: Outcome, retry_after_ms: Option<u32>);
    /// A worker confirmed, this long after it was told, that it let go of what was cancelled.
    fn let_go(&self, after: Duration);
    /// Models of live workers with their card hash, whenever a node has come or gone.
    fn models(&self, live: Vec<(String, u64)>);
    /// The gateway has restarted: every open request is lost.
    fn all_lost(&self);
}

/// The gateway's ports.
pub struct GatewayPorts {
    post: Post,
    doors: Arc<dyn Doors>,
    drained: Arc<Notify>,
}

impl std::fmt::Debug for GatewayPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayPorts")
            .field("post", &self.post)
            .finish_non_exhaustive()
    }
}

impl Ports<Gateway> for GatewayPorts {
    fn perform(&mut self, effect: Effect, me: &GatewayRef) {
        match effect {
            Effect::Send(outgoing) => self.post.send(outgoing),
            Effect::Deliver {
                request,
                items,
                cached_tokens,
            } => {
                if !self.doors.deliver(request, items, cached_tokens) {
                    let _self_left = me.cast(ShellMsg::Input(Input::Cancel(request), None));
                }
            }
            Effect::Ended {
                request,
                outcome,
                retry_after_ms,
            } => {
                self.doors.ended(request, outcome, retry_after_ms);
            }
            Effect::LetGo { after_us } => self.doors.let_go(Duration::from_micros(after_us)),
            Effect::Models(models) => self.doors.models(models),
            Effect::Probe(node) => self.post.probe(node, me.clone(), Input::Gone),
            Effect::Fact(fact) => trail::tell(self.post.me(), &fact),
            Effect::Drained => self.drained.notify_one(),
        }
    }

    fn woke(&self) -> Option<Input> {
        Some(Input::Woke)
    }
}

/// Makes gateways of one name, each under a new epoch.
pub struct GatewayRole {
    /// Its name.
    pub node: NodeId,
    /// The core's configuration; `me` is filled in at each start.
    pub config: Config,
    /// The bus.
    pub bus: Arc<dyn nats::Bus>,
    /// Subjects of the cluster.
    pub subjects: bus_schemas::subjects::Subjects,
    /// The clock of the process.
    pub clock: Clock,
    /// The doors.
    pub doors: Arc<dyn Doors>,
    /// Where the present actor can be found.
    pub current: watch::Sender<Option<GatewayRef>>,
    /// Rung once the gateway has drained.
    pub drained: Arc<Notify>,
}

impl Role for GatewayRole {
    fn name(&self) -> String {
        self.node.to_string()
    }

    fn start(&mut self, supervisor: ActorCell) -> Starting<'_> {
        Box::pin(self.start_epoch(supervisor))
    }
}

impl GatewayRole {
    async fn start_epoch(&mut self, supervisor: ActorCell) -> Result<Started, StartError> {
        self.current.send_replace(None);
        self.doors.all_lost();
        let me = NodeRef {
            node: self.node,
            epoch: fresh_epoch(),
        };
        let post = Post::new(self.bus.clone(), self.subjects.clone(), me);
        let core = Gateway::new(Config {
            me,
            ..self.config.clone()
        });
        let ports = GatewayPorts {
            post: post.clone(),
            doors: self.doors.clone(),
            drained: self.drained.clone(),
        };
        let args = ShellArgs {
            core,
            ports,
            clock: self.clock,
        };
        let (shell, _) = Actor::spawn_linked(None, Shell::default(), args, supervisor)
            .await
            .map_err(|e| StartError::Spawn(e.to_string()))?;
        let feeding = post
            .feed(shell.clone(), Listen::default(), Input::Letter, Input::Link)
            .await?;
        self.current.send_replace(Some(shell.clone()));
        Ok((shell.get_cell(), Box::new(feeding)))
    }
}
