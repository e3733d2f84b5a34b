//! One fixed letter of every kind, with each field set to something that shows in the bytes.
//!
//! The golden files are made of these and of nothing else. Never change a value here once its kind is
//! released: a new form is a new kind, with a sample of its own.

use bus_schemas::{
    Attempt, ChoiceEnd, EndReason, Epoch, Item, Kind, Meta, NodeId, NodeRef, Placement, Record,
    RefuseReason, RequestId, RequestSpec, Roles, Sampling, Stops, Ticket, Trace,
    messages::{
        Abort, Admit, AnyMessage, AskTokens, Beat, Bound, Cancel, Change, Confirm, FindPrefill,
        Intake, Load, Notice, Offer, Orphaned, Pass, Prefill, PrefillFound, PrefillRefused,
        Promised, Refused, Rejected, Release, Released, Reserve, SlotRef, SnapshotAsk,
        SnapshotPart, Stream, Tokens, Unknown,
    },
};

/// The meta of every sample.
pub(crate) fn meta() -> Meta {
    Meta {
        from: node("gateway-1", 0x1111_2222_3333_4444),
        to: node("decode-1", 0x5555_6666_7777_8888),
        request: RequestId(0x0190_a1b2_c3d4_7e5f_8a9b_0c1d_2e3f_4a5b),
        attempt: Attempt(3),
        remaining_us: 59_999_001,
    }
}

/// The sample of a kind.
pub(crate) fn body(kind: Kind) -> AnyMessage {
    match kind {
        Kind::Admit
        | Kind::Rejected
        | Kind::Reserve
        | Kind::Promised
        | Kind::Refused
        | Kind::Bound
        | Kind::Cancel
        | Kind::Orphaned => placing(kind),
        Kind::Tokens | Kind::AskTokens | Kind::Confirm | Kind::Unknown => delivering(kind),
        Kind::Prefill
        | Kind::PrefillRefused
        | Kind::FindPrefill
        | Kind::PrefillFound
        | Kind::Offer
        | Kind::Release
        | Kind::Released
        | Kind::Abort => moving(kind),
        Kind::Beat | Kind::Notice | Kind::SnapshotAsk | Kind::SnapshotPart => telling(kind),
    }
}

fn placing(kind: Kind) -> AnyMessage {
    let placement = Placement(2);
    match kind {
        Kind::Admit => admit().into(),
        Kind::Rejected => Rejected {
            reason: RefuseReason::Draining,
            retry_after_ms: 1500,
        }
        .into(),
        Kind::Reserve => Reserve {
            placement,
            gateway: meta().from,
            prefill: Some(node("prefill-1", 77)),
            admit: admit(),
        }
        .into(),
        Kind::Promised => Promised {
            placement,
            router: node("router-1", 9),
            blocks: 12,
        }
        .into(),
        Kind::Refused => Refused {
            placement,
            reason: RefuseReason::Full,
        }
        .into(),
        Kind::Bound => Bound { placement }.into(),
        Kind::Cancel => Cancel { placement }.into(),
        Kind::Orphaned => Orphaned {
            owner: node("decode-2", 8),
        }
        .into(),
        other => unreachable!("{other:?} is not about placing"),
    }
}

fn delivering(kind: Kind) -> AnyMessage {
    let placement = Placement(2);
    match kind {
        Kind::Tokens => Tokens {
            streams: vec![Stream {
                request: meta().request,
                attempt: Attempt(3),
                placement,
                first: 40,
                items: vec![
                    Item::Token(record(0, 7)),
                    Item::End(end(0, EndReason::StopId(2))),
                    Item::End(end(1, EndReason::StopString(3))),
                    Item::End(end(2, EndReason::Length)),
                ],
                cached_tokens: 32,
                last: true,
                failed: false,
            }],
        }
        .into(),
        Kind::AskTokens => AskTokens {
            placement,
            from: 41,
        }
        .into(),
        Kind::Confirm => Confirm { placement }.into(),
        Kind::Unknown => Unknown { placement }.into(),
        other => unreachable!("{other:?} is not about delivering"),
    }
}

fn moving(kind: Kind) -> AnyMessage {
    let ticket = Ticket(*b"0123456789abcdef");
    match kind {
        Kind::Prefill => Prefill {
            ticket,
            spec: spec(),
            emitted: vec![vec![9, 10], vec![]],
            ended: vec![1],
            from_block: 4,
        }
        .into(),
        Kind::PrefillRefused => PrefillRefused {
            ticket,
            reason: RefuseReason::Expired,
        }
        .into(),
        Kind::FindPrefill => FindPrefill {
            placement: Placement(2),
            avoid: vec![node("prefill-1", 7)],
            tokens: 100,
            output: 200,
            hashes: vec![0x0102_0304_0506_0708, 9],
        }
        .into(),
        Kind::PrefillFound => PrefillFound {
            placement: Placement(2),
            prefill: Some(node("prefill-2", 8)),
        }
        .into(),
        Kind::Offer => Offer {
            ticket,
            seq: 1,
            first_block: 4,
            blocks: vec![slot(100, 6), slot(3, 1)],
            tokens: 96,
            cached_tokens: 64,
            first_tokens: vec![record(1, 0)],
            last: true,
        }
        .into(),
        Kind::Release => Release {
            ticket,
            seq: 1,
            take: 0xdead_beef_0001,
        }
        .into(),
        Kind::Released => Released {
            ticket,
            seq: 1,
            take: 0xdead_beef_0001,
            valid: true,
        }
        .into(),
        Kind::Abort => Abort { ticket }.into(),
        other => unreachable!("{other:?} is not about moving blocks"),
    }
}

fn telling(kind: Kind) -> AnyMessage {
    match kind {
        Kind::Beat => beat().into(),
        Kind::Notice => Notice {
            first: 17,
            changes: vec![
                Change::Stored(0xabcd),
                Change::Removed(0xef01),
                Change::Covered {
                    request: meta().request,
                    attempt: Attempt(3),
                    placement: Placement(2),
                },
            ],
        }
        .into(),
        Kind::SnapshotAsk => SnapshotAsk {}.into(),
        Kind::SnapshotPart => SnapshotPart {
            number: 19,
            part: 1,
            parts: 2,
            blocks: vec![1, u64::MAX],
        }
        .into(),
        other => unreachable!("{other:?} is not about a node's state"),
    }
}

fn beat() -> Beat {
    Beat {
        roles: Roles::WORKER,
        model: "script/echo".to_owned(),
        card: 0x0123_4567_89ab_cdef,
        intake: Intake::Cordoned,
        notice: 19,
        load: Load {
            running: 3,
            waiting: 1,
            context_tokens: 4096,
            queued_prefill_tokens: 512,
            blocks_total: 1024,
            blocks_free: 700,
            blocks_cached: 200,
            blocks_quarantined: 2,
            block_tokens: 16,
            pass: Pass {
                a: 120.5,
                c: 3.25,
                d: 0.5,
                e: 7.75,
            },
        },
        fabric: vec![1, 2, 3],
        unreachable: vec![node("prefill-2", 5)],
        admin: "127.0.0.1:7700".to_owned(),
    }
}

fn admit() -> Admit {
    Admit {
        spec: spec(),
        emitted: vec![vec![9, 10], vec![]],
        ended: vec![1],
        avoid: vec![node("decode-2", 8)],
        alone: true,
    }
}

fn spec() -> RequestSpec {
    RequestSpec {
        request: meta().request,
        model: "script/echo".to_owned(),
        tenant: "acme".to_owned(),
        salt: "s".to_owned(),
        prompt: vec![1, 2, 3, 70_000],
        choices: 2,
        sampling: Sampling {
            temperature: 0.75,
            top_p: 0.5,
            top_k: 40,
            min_p: 0.125,
            frequency_penalty: 0.25,
            presence_penalty: -0.25,
            repetition_penalty: 1.5,
            logit_bias: vec![(5, -100.0)],
            seed: 42,
            logprobs: Some(2),
        },
        stops: Stops {
            strings: vec!["\n\n".to_owned()],
            ids: vec![2],
            ignore_eos: true,
            min_tokens: 1,
        },
        max_tokens: 64,
        priority: -1,
        trace: Trace {
            id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span: 0x00f0_67aa_0ba9_02b7,
            flags: 1,
        },
    }
}

fn record(choice: u16, index: u32) -> Record {
    Record {
        choice,
        index,
        id: 1234,
        logprob: -0.5,
        top: vec![(1234, -0.5), (99, -2.0)],
    }
}

fn end(choice: u16, reason: EndReason) -> ChoiceEnd {
    ChoiceEnd { choice, reason }
}

fn slot(slot: u32, generation: u32) -> SlotRef {
    SlotRef { slot, generation }
}

fn node(name: &str, epoch: u64) -> NodeRef {
    NodeRef {
        node: NodeId::new(name).expect("samples use valid names"),
        epoch: Epoch(epoch),
    }
}
