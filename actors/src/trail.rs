//! Facts about requests, written into the log: the trail of one request through all nodes.
//!
//! A trace that its client records is told at INFO, any other at DEBUG; outcomes always at INFO. It never
//! keeps anything of a request, and never sends a trace anywhere.

use bus_schemas::NodeRef;
use logic::fact::{Fact, What};
use tracing::Level;

/// The target of all lines, for filters.
const TARGET: &str = "thalamus::request";

/// Opens the fact's span for as long as it takes to say what happened in it.
macro_rules! say {
    ($level:expr, $me:expr, $fact:expr) => {{
        let (span, detail) = ($fact.span, Detail::of(&$fact.what));
        let opened = tracing::span!(
            target: TARGET,
            $level,
            "request",
            trace_id = %format_args!("{:032x}", span.trace.id),
            span_id = %format_args!("{:016x}", span.trace.span),
            parent_id = %format_args!("{:016x}", span.parent),
            request = %span.request,
            attempt = $fact.attempt.0,
            node = %$me.node,
            role = span.role.as_str(),
        );
        let _entered = opened.enter();
        tracing::event!(
            target: TARGET,
            $level,
            us = $fact.us,
            placement = detail.placement,
            peer = detail.peer,
            prefill = detail.prefill,
            count = detail.count,
            outcome = detail.outcome,
            "{}",
            $fact.what.name()
        );
    }};
}

/// Writes a fact of a core of `me` down.
pub fn tell(me: NodeRef, fact: &Fact) {
    let always = matches!(fact.what, What::Ended(_));
    if always || fact.span.trace.is_sampled() {
        if tracing::enabled!(target: TARGET, Level::INFO) {
            say!(Level::INFO, me, fact);
        }
    } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
        say!(Level::DEBUG, me, fact);
    }
}

/// What there is to say of a fact; a field that it lacks is left out.
#[derive(Default)]
struct Detail {
    placement: Option<u32>,
    peer: Option<String>,
    prefill: Option<String>,
    /// Tokens of a prompt, or blocks.
    count: Option<u64>,
    outcome: Option<String>,
}

impl Detail {
    fn of(what: &What) -> Self {
        let name = |node: &NodeRef| Some(node.node.to_string());
        let mut detail = Self::default();
        match what {
            What::Admitted(router) => detail.peer = router.as_ref().and_then(name),
            What::Placed {
                placement,
                decode,
                prefill,
            } => {
                detail.placement = Some(placement.0);
                detail.peer = name(decode);
                detail.prefill = prefill.as_ref().and_then(name);
            }
            What::Refused(reason) => detail.outcome = Some(format!("{reason:?}")),
            What::Promised(placement, blocks) => {
                detail.placement = Some(placement.0);
                detail.count = Some(u64::from(*blocks));
            }
            What::Bound(node) | What::PrefillAsked(node) | What::OwnerLost(node) => {
                detail.peer = name(node);
            }
            What::PrefillStarted(tokens) => detail.count = Some(u64::from(*tokens)),
            What::Taken(blocks) => detail.count = u64::try_from(*blocks).ok(),
            What::Ended(outcome) => detail.outcome = Some(format!("{outcome:?}")),
            What::PrefillEnded
            | What::PrefillFailed
            | What::FirstToken
            | What::Done
            | What::LetGo => {}
        }
        detail
    }
}
