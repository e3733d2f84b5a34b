//! Letters without sense: nothing panics, and every bound holds.

use bus_schemas::{
    Attempt, Epoch, Meta, NodeRef, Placement, RefuseReason, RequestId,
    messages::{AnyMessage, Change, Notice, Promised, Refused, SnapshotPart},
};
use logic::role::router::Input;
use proptest::prelude::*;

use crate::bench::{Bench, admit, beat_of, letters, node};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn letters_without_sense_are_survived(
        inputs in prop::collection::vec((input(), 0u64..2_000_000), 1..80),
    ) {
        let mut bench = Bench::new(8);
        let mut admissions = 0;
        for (input, pause) in inputs {
            admissions += usize::from(matches!(&input, Input::Letter(_, AnyMessage::Admit(_))));
            for effects in [bench.give(input), bench.pass(pause)] {
                for outgoing in letters(&effects) {
                    prop_assert_eq!(outgoing.meta.from, node("router"));
                    prop_assert!(outgoing.meta.to != NodeRef::NONE, "to nobody: {:?}", outgoing);
                }
            }
            let state = bench.state();
            prop_assert!(state.placing <= admissions && state.bookings <= admissions * 4);
            prop_assert!(state.decisions.len() <= 1024 && state.nodes.len() <= 6);
        }
        // At rest nothing is left that only a letter could end.
        bench.give(Input::Link(true));
        bench.pass(10_000_000);
        let state = bench.state();
        prop_assert_eq!((state.placing, state.bookings, state.nodes.len()), (0, 0, 1), "only itself");
        prop_assert_eq!(state.indexed, 0);
    }
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        12 => (meta(), message()).prop_map(|(meta, message)| Input::Letter(meta, message)),
        1 => worker().prop_map(Input::Gone),
        1 => any::<bool>().prop_map(Input::Link),
        1 => Just(Input::Woke),
    ]
}

fn worker() -> impl Strategy<Value = NodeRef> {
    let names = prop::sample::select(vec!["d1", "d2", "p1", "w1", "gateway"]);
    (names, 1u64..3).prop_map(|(name, epoch)| NodeRef {
        epoch: Epoch(epoch),
        ..node(name)
    })
}

fn meta() -> impl Strategy<Value = Meta> {
    let time = prop_oneof![Just(0), Just(1_000_000), Just(u64::MAX)];
    (worker(), 0u128..4, 0u32..3, time).prop_map(|(from, request, attempt, remaining_us)| Meta {
        from,
        to: NodeRef::NONE,
        request: RequestId(request),
        attempt: Attempt(attempt),
        remaining_us,
    })
}

/// A number that is small, or at the end of its range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0u64..6, 1 => Just(u64::MAX)]
}

fn message() -> impl Strategy<Value = AnyMessage> {
    let placement = (0u32..4).prop_map(Placement);
    let changes = prop::collection::vec(change(), 0..4);
    prop_oneof![
        (number(), number(), any::<bool>()).prop_map(|(notice, load, prefill)| {
            let mut beat = beat_of(if prefill { "p" } else { "d" });
            beat.notice = notice;
            beat.load.queued_prefill_tokens = load;
            beat.load.block_tokens = u32::try_from(load).unwrap_or(u32::MAX);
            beat.into()
        }),
        Just(beat_of("d").into()),
        Just(beat_of("p").into()),
        (
            0u128..4,
            any::<bool>(),
            prop::collection::vec(worker(), 0..2)
        )
            .prop_map(|(request, alone, avoid)| {
                let mut admit = admit(request);
                (admit.alone, admit.avoid) = (alone, avoid);
                admit.into()
            }),
        placement.clone().prop_map(|placement| {
            Promised {
                placement,
                router: node("router"),
                blocks: 0,
            }
            .into()
        }),
        (placement, 0usize..3).prop_map(|(placement, which)| {
            let reasons = [
                RefuseReason::Full,
                RefuseReason::Invalid,
                RefuseReason::Ended,
            ];
            Refused {
                placement,
                reason: reasons[which],
            }
            .into()
        }),
        (number(), changes).prop_map(|(first, changes)| Notice { first, changes }.into()),
        (
            number(),
            0u32..3,
            0u32..3,
            prop::collection::vec(0u64..5, 0..4)
        )
            .prop_map(|(number, part, parts, blocks)| SnapshotPart {
                number,
                part,
                parts,
                blocks
            }
            .into()),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        number().prop_map(Change::Stored),
        number().prop_map(Change::Removed),
        (0u128..4, 0u32..3, 0u32..3).prop_map(|(request, attempt, placement)| Change::Covered {
            request: RequestId(request),
            attempt: Attempt(attempt),
            placement: Placement(placement),
        }),
    ]
}
