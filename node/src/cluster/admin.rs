//! What this process answers to `thalamus ctl`: snapshots of its members as rows, and commands to them.
//!
//! It answers for its own members alone. No prompt, output or secret is in any answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actors::{
    ShellMsg,
    admin::{AdminHandler, AdminReply, AdminRequest, Answer, KvRow, NodeRow, RequestRow, WhyReply},
    gateway::GatewayRef,
    router::RouterRef,
    worker::Current,
};
use bus_schemas::{RequestId, messages::Intake};
use logic::{
    Core,
    member::Member,
    role::{gateway, router, worker},
};
use ractor::{ActorRef, rpc::CallResult};
use tokio::sync::watch;

use crate::logging::Levels;

/// A member that does not answer within this time is left out.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the members of this process can be found.
#[derive(Clone, Default)]
pub(super) struct Members {
    pub(super) gateways: Vec<(String, watch::Receiver<Option<GatewayRef>>)>,
    pub(super) routers: Vec<(String, watch::Receiver<Option<RouterRef>>)>,
    pub(super) workers: Vec<(String, watch::Receiver<Option<Current>>)>,
}

/// The handler.
pub(super) struct Local {
    pub(super) members: Arc<std::sync::OnceLock<Members>>,
    pub(super) levels: Levels,
    pub(super) drain_ms: u64,
}

impl AdminHandler for Local {
    fn answer(&self, request: AdminRequest) -> Answer<'_> {
        Box::pin(self.reply(request))
    }
}

async fn snapshot<C>(shell: &ActorRef<ShellMsg<C>>) -> Option<C::Snapshot>
where
    C: Core + 'static,
    C::Input: Send,
    C::Snapshot: Send,
{
    match shell.call(ShellMsg::Snapshot, Some(MEMBER_TIMEOUT)).await {
        Ok(CallResult::Success(snapshot)) => Some(snapshot),
        Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => None,
    }
}

impl Local {
    fn members(&self) -> Members {
        self.members.get().cloned().unwrap_or_default()
    }

    async fn reply(&self, request: AdminRequest) -> AdminReply {
        match request {
            AdminRequest::Nodes => AdminReply::Nodes {
                nodes: self.nodes().await,
            },
            AdminRequest::Requests => AdminReply::Requests {
                requests: self.requests().await,
            },
            AdminRequest::Why { request } => {
                self.with_id(&request, async |id| self.why(id).await).await
            }
            AdminRequest::Cancel { request } => {
                self.with_id(&request, async |id| self.cancel(id).await)
                    .await
            }
            AdminRequest::Kv => AdminReply::Kv {
                workers: self.kv().await,
            },
            AdminRequest::Cordon { node, on } => self.to_worker(&node, worker::Input::Cordon(on)),
            AdminRequest::Drain { node, within_ms } => {
                let within_us = within_ms.unwrap_or(self.drain_ms).saturating_mul(1000);
                self.drain(&node, within_us)
            }
            AdminRequest::LogLevel { target, level } => match self.levels.set(&target, &level) {
                Ok(()) => AdminReply::Done { here: true },
                Err(error) => AdminReply::Error {
                    message: error.to_string(),
                },
            },
        }
    }

    async fn with_id(
        &self,
        text: &str,
        then: impl AsyncFnOnce(RequestId) -> AdminReply,
    ) -> AdminReply {
        match text.parse() {
            Ok(id) => then(id).await,
            Err(error) => AdminReply::Error {
                message: format!("{error}"),
            },
        }
    }

    /// Everybody that any member here hears.
    async fn nodes(&self) -> Vec<NodeRow> {
        let members = self.members();
        let mut heard: BTreeMap<String, NodeRow> = BTreeMap::new();
        let mut add = |seen: &Member| {
            let row = node_row(seen);
            heard.insert(row.node.clone(), row);
        };
        for (_, gateway) in &members.gateways {
            let shell = gateway.borrow().clone();
            let Some(shell) = shell else { continue };
            snapshot(&shell)
                .await
                .iter()
                .flat_map(|s| &s.nodes)
                .for_each(&mut add);
        }
        for (_, current) in &members.workers {
            let current = current.borrow().clone();
            let Some(current) = current else { continue };
            snapshot(&current.shell)
                .await
                .iter()
                .flat_map(|s| &s.nodes)
                .for_each(&mut add);
        }
        for (_, router) in &members.routers {
            let shell = router.borrow().clone();
            let Some(shell) = shell else { continue };
            snapshot(&shell)
                .await
                .iter()
                .flat_map(|s| &s.nodes)
                .for_each(|n| add(&n.member));
        }
        heard.into_values().collect()
    }

    async fn requests(&self) -> Vec<RequestRow> {
        let members = self.members();
        let mut rows = Vec::new();
        for (name, gateway) in &members.gateways {
            let shell = gateway.borrow().clone();
            let Some(shell) = shell else { continue };
            if let Some(snapshot) = snapshot(&shell).await {
                rows.extend(snapshot.open.iter().map(|o| gateway_row(name, o)));
            }
        }
        for (name, current) in &members.workers {
            let current = current.borrow().clone();
            let Some(current) = current else { continue };
            if let Some(snapshot) = snapshot(&current.shell).await {
                rows.extend(snapshot.jobs.iter().map(|j| job_row(name, j)));
                rows.extend(snapshot.sources.iter().map(|s| source_row(name, s)));
            }
        }
        rows
    }

    async fn why(&self, id: RequestId) -> AdminReply {
        let mut placements = Vec::new();
        for (name, router) in self.members().routers {
            let shell = router.borrow().clone();
            let Some(shell) = shell else { continue };
            let Some(snapshot) = snapshot(&shell).await else {
                continue;
            };
            placements.extend(
                snapshot
                    .decisions
                    .iter()
                    .filter(|d| d.request == id)
                    .map(|d| why(&name, d)),
            );
        }
        AdminReply::Why { placements }
    }

    async fn cancel(&self, id: RequestId) -> AdminReply {
        let mut here = false;
        for (_, gateway) in self.members().gateways {
            let shell = gateway.borrow().clone();
            let Some(shell) = shell else { continue };
            let holds = snapshot(&shell)
                .await
                .is_some_and(|s| s.open.iter().any(|o| o.request == id));
            here |= holds
                && shell
                    .cast(ShellMsg::Input(gateway::Input::Cancel(id), None))
                    .is_ok();
        }
        AdminReply::Done { here }
    }

    async fn kv(&self) -> Vec<KvRow> {
        let mut rows = Vec::new();
        for (name, current) in self.members().workers {
            let current = current.borrow().clone();
            let Some(current) = current else { continue };
            let Some(s) = snapshot(&current.shell).await else {
                continue;
            };
            let moved = current.fabric.moved();
            let mut all: BTreeMap<String, u64> = counters(&s.counters)
                .map(|(n, v)| (n.to_owned(), v))
                .collect();
            all.insert("fabric_bytes_in".to_owned(), moved.bytes_in);
            all.insert("fabric_bytes_out".to_owned(), moved.bytes_out);
            let c = s.audit.counts;
            rows.push(KvRow {
                node: name,
                total: c.total,
                free: c.free,
                reserved: c.reserved,
                filling: c.filling,
                sealed: c.sealed,
                cached: c.cached,
                quarantined: c.quarantined,
                jobs: s.jobs.len() + s.sources.len(),
                fault: s.audit.fault,
                counters: all,
            });
        }
        rows
    }

    fn to_worker(&self, node: &str, input: worker::Input) -> AdminReply {
        let members = self.members();
        let current = members
            .workers
            .iter()
            .find(|(name, _)| name == node)
            .and_then(|(_, current)| current.borrow().clone());
        let here = current.is_some_and(|c| c.shell.cast(ShellMsg::Input(input, None)).is_ok());
        AdminReply::Done { here }
    }

    fn drain(&self, node: &str, within_us: u64) -> AdminReply {
        let members = self.members();
        let gateway = members.gateways.iter().find(|(n, _)| n == node);
        if let Some(shell) = gateway.and_then(|(_, g)| g.borrow().clone()) {
            let here = shell
                .cast(ShellMsg::Input(gateway::Input::Drain, None))
                .is_ok();
            return AdminReply::Done { here };
        }
        let router = members.routers.iter().find(|(n, _)| n == node);
        if let Some(shell) = router.and_then(|(_, r)| r.borrow().clone()) {
            let here = shell
                .cast(ShellMsg::Input(router::Input::Drain, None))
                .is_ok();
            return AdminReply::Done { here };
        }
        self.to_worker(node, worker::Input::Drain { within_us })
    }
}

fn node_row(member: &Member) -> NodeRow {
    let beat = &member.beat;
    let intake = match beat.intake {
        Intake::Open => "open",
        Intake::Cordoned => "cordoned",
        Intake::Draining => "draining",
    };
    NodeRow {
        node: member.me.node.to_string(),
        epoch: member.me.epoch.0,
        roles: beat.roles.to_string(),
        model: beat.model.clone(),
        intake: intake.to_owned(),
        running: beat.load.running,
        waiting: beat.load.waiting,
        blocks_total: beat.load.blocks_total,
        blocks_free: beat.load.blocks_free,
        admin: beat.admin.clone(),
    }
}

fn gateway_row(node: &str, open: &gateway::OpenView) -> RequestRow {
    RequestRow {
        request: open.request.to_string(),
        node: node.to_owned(),
        role: "gateway".to_owned(),
        attempt: open.attempt.0,
        state: if open.owner.is_some() {
            "bound"
        } else {
            "admitted"
        }
        .to_owned(),
        peer: open.owner.map_or_else(String::new, |o| o.node.to_string()),
        prompt_tokens: open.prompt_tokens as u64,
        output_tokens: open.output_tokens as u64,
        blocks: 0,
    }
}

fn job_row(node: &str, job: &worker::JobView) -> RequestRow {
    let state = match (job.done, job.bound) {
        (true, _) => "ended",
        (false, true) => "running",
        (false, false) => "promised",
    };
    RequestRow {
        request: job.request.to_string(),
        node: node.to_owned(),
        role: "decode".to_owned(),
        attempt: job.attempt.0,
        state: state.to_owned(),
        peer: job.gateway.node.to_string(),
        prompt_tokens: u64::from(job.prompt_tokens),
        output_tokens: job.output_tokens.iter().map(|t| u64::from(*t)).sum(),
        blocks: job.blocks as u64,
    }
}

fn source_row(node: &str, source: &worker::SourceView) -> RequestRow {
    RequestRow {
        request: source.request.to_string(),
        node: node.to_owned(),
        role: "prefill".to_owned(),
        attempt: 0,
        state: format!("computed {} of {}", source.computed, source.tokens),
        peer: source.audience.node.to_string(),
        prompt_tokens: u64::from(source.tokens),
        output_tokens: 0,
        blocks: source.blocks as u64,
    }
}

fn why(router: &str, decision: &router::Decision) -> WhyReply {
    let name = |n: &bus_schemas::NodeRef| n.node.to_string();
    let chosen = match &decision.prefill {
        Some(prefill) => format!(
            "decode {}, prefill {}",
            name(&decision.decode),
            name(prefill)
        ),
        None => format!("decode {} prefills by itself", name(&decision.decode)),
    };
    let mut lines = vec![format!(
        "attempt {}, placement {}: {chosen}; prompt of {} tokens",
        decision.attempt.0, decision.placement.0, decision.prompt_tokens
    )];
    for e in &decision.explained {
        let c = &e.cost;
        lines.push(format!(
            "  {} <- {}: cost {} us = in ms: wait {:.3} + miss {:.3} + pace {:.3} + stall {:.3} + memory {:.3} + transfer {:.3}; {} cached tokens",
            name(&e.decode),
            e.prefill.as_ref().map_or_else(|| "itself".to_owned(), name),
            c.total_us(), c.wait, c.miss, c.pace, c.stall, c.memory, c.transfer, e.cached_tokens,
        ));
    }
    WhyReply {
        router: router.to_owned(),
        lines,
    }
}

/// A worker's counters by name.
pub(super) fn counters(c: &worker::Counters) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("promised", c.promised),
        ("refused", c.refused),
        ("steps", c.steps),
        ("prefilled_tokens", c.prefilled_tokens),
        ("chunks", c.chunks),
        ("cached_tokens", c.cached_tokens),
        ("generated_tokens", c.generated_tokens),
        ("preemptions", c.preemptions),
        ("blocks_taken", c.blocks_taken),
        ("blocks_offered", c.blocks_offered),
        ("fallbacks", c.fallbacks),
        ("asked_again", c.asked_again),
        ("let_go", c.let_go),
        ("stale", c.stale),
        ("step_failures", c.step_failures),
    ]
    .into_iter()
}
