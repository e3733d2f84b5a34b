//! `thalamus ctl`: asks one node who is there, then asks whoever is concerned.
//!
//! It joins the ractor cluster as an isolated member and leaves again. Every wait has a deadline whose end says
//! what may be wrong.

mod table;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use actors::admin::{AdminClient, AdminReply, AdminRequest, ClientError, NodeRow};

use self::table::Table;
use crate::{
    cli::ctl::{
        Ctl, CtlCommand, KvCommand, LogCommand, NodeCommand, Output, PoolCommand, ReqCommand,
    },
    cluster::cookie,
    exit::Failure,
    serve,
};

/// Runs one command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Ctl) -> Result<(), Failure> {
    let config = args.settings.load()?.config;
    let cookie = cookie(config.admin.cookie_file.as_deref(), false)?;
    let seed = config.admin.listen;
    let timeout = Duration::from_secs(args.timeout);
    serve::runtime()?.block_on(async {
        let client = AdminClient::start(cookie, timeout).await.map_err(failure)?;
        let session = Session {
            client,
            seed,
            output: args.output,
        };
        session.run(&args.command).await
    })
}

fn failure(error: ClientError) -> Failure {
    let text = error.to_string();
    match error {
        ClientError::Connect { .. } => Failure::Unreachable(text),
        ClientError::Silent { .. } | ClientError::Timeout { .. } => Failure::Timeout(text),
        ClientError::Start(_) | ClientError::Reply(_) => Failure::Failed(anyhow::anyhow!(text)),
    }
}

struct Session {
    client: AdminClient,
    seed: SocketAddr,
    output: Output,
}

impl Session {
    async fn run(&self, command: &CtlCommand) -> Result<(), Failure> {
        match command {
            CtlCommand::Node(NodeCommand::Ls) => self.nodes().await,
            CtlCommand::Node(NodeCommand::Drain { node }) => {
                let node = node.to_string();
                let request = AdminRequest::Drain {
                    node: node.clone(),
                    within_ms: None,
                };
                self.to_node(&node, request, "drains").await
            }
            CtlCommand::Node(NodeCommand::Cordon { node }) => {
                let node = node.to_string();
                let request = AdminRequest::Cordon {
                    node: node.clone(),
                    on: true,
                };
                self.to_node(&node, request, "takes nothing new").await
            }
            CtlCommand::Node(NodeCommand::Uncordon { node }) => {
                let node = node.to_string();
                let request = AdminRequest::Cordon {
                    node: node.clone(),
                    on: false,
                };
                self.to_node(&node, request, "takes requests").await
            }
            CtlCommand::Pool(PoolCommand::Ls) => self.pools().await,
            CtlCommand::Req(ReqCommand::Ls) => self.requests().await,
            CtlCommand::Req(ReqCommand::Why { id }) => self.why(&id.to_string()).await,
            CtlCommand::Req(ReqCommand::Cancel { id }) => {
                let request = AdminRequest::Cancel {
                    request: id.to_string(),
                };
                self.to_all(&request, &format!("request {id} is not running anywhere"))
                    .await
            }
            CtlCommand::Kv(KvCommand::Top) => self.kv(false).await,
            CtlCommand::Kv(KvCommand::Audit) => self.kv(true).await,
            CtlCommand::Log(LogCommand::Level { target, level }) => {
                let level = format!("{level:?}").to_lowercase();
                let request = AdminRequest::LogLevel {
                    target: target.clone(),
                    level,
                };
                self.to_all(&request, "nobody changed its log").await
            }
        }
    }

    async fn ask(
        &self,
        address: SocketAddr,
        request: &AdminRequest,
    ) -> Result<AdminReply, Failure> {
        match self.client.ask(address, request).await.map_err(failure)? {
            AdminReply::Error { message } => Err(Failure::Refused(message)),
            reply => Ok(reply),
        }
    }

    async fn heard(&self) -> Result<Vec<NodeRow>, Failure> {
        match self.ask(self.seed, &AdminRequest::Nodes).await? {
            AdminReply::Nodes { nodes } => Ok(nodes),
            other => Err(strange(&other)),
        }
    }

    /// Every admin port of the cluster, each once; the one we were told first.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = vec![self.seed];
        for node in self.heard().await? {
            match node.admin.parse() {
                Ok(address) if !addresses.contains(&address) => addresses.push(address),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(addresses)
    }

    /// Asks everybody; a node that does not answer is named and left out.
    async fn ask_all(&self, request: &AdminRequest) -> Result<Vec<AdminReply>, Failure> {
        let mut replies = Vec::new();
        for address in self.addresses().await? {
            match self.ask(address, request).await {
                Ok(reply) => replies.push(reply),
                Err(error) => eprintln!("thalamus: {error}"),
            }
        }
        Ok(replies)
    }

    async fn to_all(&self, request: &AdminRequest, nothing: &str) -> Result<(), Failure> {
        let replies = self.ask_all(request).await?;
        if replies
            .iter()
            .any(|r| matches!(r, AdminReply::Done { here: true }))
        {
            println!("done");
            Ok(())
        } else {
            Err(Failure::Refused(nothing.to_owned()))
        }
    }

    async fn to_node(&self, node: &str, request: AdminRequest, done: &str) -> Result<(), Failure> {
        let nodes = self.heard().await?;
        let Some(row) = nodes.iter().find(|n| n.node == node) else {
            let names: Vec<&str> = nodes.iter().map(|n| n.node.as_str()).collect();
            return Err(Failure::Refused(format!(
                "no live node {node}; there are {}",
                names.join(", ")
            )));
        };
        let address = row.admin.parse().unwrap_or(self.seed);
        match self.ask(address, &request).await? {
            AdminReply::Done { here: true } => {
                println!("{node} {done}");
                Ok(())
            }
            AdminReply::Done { here: false } => Err(Failure::Refused(format!(
                "{node} is no worker; only workers can do that"
            ))),
            other => Err(strange(&other)),
        }
    }

    fn print<T: serde::Serialize>(&self, rows: &[T], table: impl FnOnce() -> Table) {
        match self.output {
            Output::Json => {
                println!(
                    "{}",
                    serde_json::to_string_pretty(rows).expect("rows of plain data serialise")
                );
            }
            Output::Table => print!("{}", table()),
        }
    }

    async fn nodes(&self) -> Result<(), Failure> {
        let nodes = self.heard().await?;
        self.print(&nodes, || {
            let mut table = Table::new(&[
                "NODE",
                "ROLE",
                "STATE",
                "MODEL",
                "RUNNING",
                "WAITING",
                "BLOCKS FREE",
                "ADMIN",
            ]);
            for n in &nodes {
                let blocks = if n.blocks_total == 0 {
                    "-".to_owned()
                } else {
                    format!("{}/{}", n.blocks_free, n.blocks_total)
                };
                table.row(&[
                    &n.node, &n.roles, &n.intake, &n.model, &n.running, &n.waiting, &blocks,
                    &n.admin,
                ]);
            }
            table
        });
        Ok(())
    }

    async fn pools(&self) -> Result<(), Failure> {
        let mut pools: BTreeMap<(String, String), (u32, u32, Vec<String>)> = BTreeMap::new();
        for node in self
            .heard()
            .await?
            .into_iter()
            .filter(|n| !n.model.is_empty())
        {
            let pool = pools.entry((node.model, node.roles)).or_default();
            pool.0 += node.running;
            pool.1 += node.waiting;
            pool.2.push(node.node);
        }
        let rows: Vec<serde_json::Value> = pools
            .iter()
            .map(|((model, roles), (running, waiting, nodes))| {
                serde_json::json!({ "model": model, "roles": roles, "running": running, "waiting": waiting, "nodes": nodes })
            })
            .collect();
        self.print(&rows, || {
            let mut table = Table::new(&["MODEL", "ROLE", "NODES", "RUNNING", "WAITING"]);
            for ((model, roles), (running, waiting, nodes)) in &pools {
                table.row(&[model, roles, &nodes.join(" "), running, waiting]);
            }
            table
        });
        Ok(())
    }

    async fn requests(&self) -> Result<(), Failure> {
        let replies = self.ask_all(&AdminRequest::Requests).await?;
        let rows: Vec<_> = replies
            .into_iter()
            .flat_map(|r| match r {
                AdminReply::Requests { requests } => requests,
                _ => Vec::new(),
            })
            .collect();
        self.print(&rows, || {
            let mut table = Table::new(&[
                "REQUEST", "NODE", "ROLE", "ATTEMPT", "STATE", "PEER", "PROMPT", "OUTPUT", "BLOCKS",
            ]);
            for r in &rows {
                table.row(&[
                    &r.request,
                    &r.node,
                    &r.role,
                    &r.attempt,
                    &r.state,
                    &r.peer,
                    &r.prompt_tokens,
                    &r.output_tokens,
                    &r.blocks,
                ]);
            }
            table
        });
        Ok(())
    }

    async fn why(&self, request: &str) -> Result<(), Failure> {
        let asked = AdminRequest::Why {
            request: request.to_owned(),
        };
        let placements: Vec<_> = self
            .ask_all(&asked)
            .await?
            .into_iter()
            .flat_map(|r| match r {
                AdminReply::Why { placements } => placements,
                _ => Vec::new(),
            })
            .collect();
        if placements.is_empty() {
            return Err(Failure::Refused(format!(
                "no router remembers a placement of {request}; each keeps its last thousand"
            )));
        }
        match self.output {
            Output::Json => println!("{}", serde_json::json!(placements)),
            Output::Table => {
                for placement in &placements {
                    println!("{}: {}", placement.router, placement.lines.join("\n"));
                }
            }
        }
        Ok(())
    }

    async fn kv(&self, audit: bool) -> Result<(), Failure> {
        let rows: Vec<_> = self
            .ask_all(&AdminRequest::Kv)
            .await?
            .into_iter()
            .flat_map(|r| match r {
                AdminReply::Kv { workers } => workers,
                _ => Vec::new(),
            })
            .collect();
        self.print(&rows, || {
            let mut table = Table::new(&[
                "NODE",
                "TOTAL",
                "FREE",
                "RESERVED",
                "FILLING",
                "SEALED",
                "CACHED",
                "QUARANTINED",
                "REQUESTS",
                "AUDIT",
            ]);
            for r in &rows {
                let fault = r.fault.clone().unwrap_or_else(|| "ok".to_owned());
                table.row(&[
                    &r.node,
                    &r.total,
                    &r.free,
                    &r.reserved,
                    &r.filling,
                    &r.sealed,
                    &r.cached,
                    &r.quarantined,
                    &r.jobs,
                    &fault,
                ]);
            }
            table
        });
        let faults: Vec<_> = rows
            .iter()
            .filter(|r| r.fault.is_some())
            .map(|r| r.node.as_str())
            .collect();
        if audit && !faults.is_empty() {
            return Err(Failure::Failed(anyhow::anyhow!(
                "the books of {} do not agree",
                faults.join(", ")
            )));
        }
        Ok(())
    }
}

fn strange(reply: &AdminReply) -> Failure {
    Failure::Failed(anyhow::anyhow!(
        "a node answered something else than was asked: {reply:?}"
    ))
}
