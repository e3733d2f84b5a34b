//! The router's actor: letters in, letters out. It decides nothing.

use std::sync::Arc;

use bus_schemas::{NodeId, NodeRef};
use logic::role::router::{Config, Effect, Input, Router};
use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::watch;

use crate::{
    clock::{Clock, fresh_epoch},
    post::{Listen, Post},
    shell::{Ports, Shell, ShellArgs, ShellMsg},
    supervisor::{Role, StartError, Started, Starting},
    trail,
};

/// A running router.
pub type RouterRef = ActorRef<ShellMsg<Router>>;

/// The router's ports.
#[derive(Debug)]
pub struct RouterPorts {
    post: Post,
}

impl Ports<Router> for RouterPorts {
    fn perform(&mut self, effect: Effect, me: &RouterRef) {
        match effect {
            Effect::Send(outgoing) => self.post.send(outgoing),
            Effect::Probe(node) => self.post.probe(node, me.clone(), Input::Gone),
            Effect::Fact(fact) => trail::tell(self.post.me(), &fact),
            Effect::Note(note) => tracing::debug!(?note, "router"),
        }
    }

    fn woke(&self) -> Option<Input> {
        Some(Input::Woke)
    }
}

/// Makes routers of one name, each under a new epoch.
pub struct RouterRole {
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
    /// Where the present actor can be found.
    pub current: watch::Sender<Option<RouterRef>>,
}

impl Role for RouterRole {
    fn name(&self) -> String {
        self.node.to_string()
    }

    fn start(&mut self, supervisor: ActorCell) -> Starting<'_> {
        Box::pin(self.start_epoch(supervisor))
    }
}

impl RouterRole {
    async fn start_epoch(&mut self, supervisor: ActorCell) -> Result<Started, StartError> {
        let me = NodeRef {
            node: self.node,
            epoch: fresh_epoch(),
        };
        let post = Post::new(self.bus.clone(), self.subjects.clone(), me);
        let core = Router::new(Config {
            me,
            ..self.config.clone()
        });
        let args = ShellArgs {
            core,
            ports: RouterPorts { post: post.clone() },
            clock: self.clock,
        };
        let (shell, _) = Actor::spawn_linked(None, Shell::default(), args, supervisor)
            .await
            .map_err(|e| StartError::Spawn(e.to_string()))?;
        let listen = Listen {
            notices: true,
            admissions: true,
        };
        let feeding = post
            .feed(shell.clone(), listen, Input::Letter, Input::Link)
            .await?;
        self.current.send_replace(Some(shell.clone()));
        Ok((shell.get_cell(), Box::new(feeding)))
    }
}
