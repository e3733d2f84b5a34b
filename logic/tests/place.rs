//! Who is chosen, and who never is.

#[path = "place/promised.rs"]
mod promised;

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{
    Epoch, NodeId, NodeRef,
    messages::{Load, Pass},
};
use logic::place::{self, Ask, Candidate, Choice, NodeLoad, Prompt};

const BLOCK_TOKENS: u32 = 16;

#[test]
fn a_long_prompt_goes_to_a_pair_and_a_short_one_to_the_owner_alone() {
    let nodes = [decode("d"), prefill("p")];
    let none = BTreeMap::new();
    let chosen = |tokens| {
        pair(choose(
            &nodes,
            &Ask {
                local_prefill_max: 64,
                ..ask(tokens, &none)
            },
        ))
    };
    assert_eq!(chosen(65), Some(("d", Some("p"))));
    assert_eq!(chosen(64), Some(("d", None)));
}

#[test]
fn a_long_prompt_of_which_little_is_new_stays_with_its_owner() {
    let nodes = [decode("d"), prefill("p")];
    let overlap = overlap(&[("d", 60)]);
    let choice = choose(
        &nodes,
        &Ask {
            local_prefill_max: 64,
            ..ask(1000, &overlap)
        },
    );
    assert_eq!(pair(choice), Some(("d", None)));
}

#[test]
fn without_a_prefill_node_the_owner_prefills_whatever_it_is() {
    let none = BTreeMap::new();
    assert_eq!(
        pair(choose(&[decode("d")], &ask(5000, &none))),
        Some(("d", None))
    );
    assert_eq!(pair(choose(&[prefill("p")], &ask(5000, &none))), None);
    assert_eq!(pair(choose(&[], &ask(5000, &none))), None);
}

#[test]
fn a_worker_of_both_roles_may_prefill_what_it_decodes() {
    let none = BTreeMap::new();
    let worker = Candidate {
        prefill: true,
        ..decode("w")
    };
    assert_eq!(
        pair(choose(std::slice::from_ref(&worker), &ask(5000, &none))),
        Some(("w", None))
    );
    let busy = queue(prefill("p"), 100_000);
    assert_eq!(
        pair(choose(&[worker, busy], &ask(5000, &none))),
        Some(("w", None))
    );
}

#[test]
fn the_node_that_has_the_prompt_is_preferred_until_its_queue_is_longer() {
    let overlap = overlap(&[("p1", 250)]);
    let chosen = |queued| {
        let nodes = [decode("d"), queue(prefill("p1"), queued), prefill("p2")];
        pair(choose(&nodes, &ask(4001, &overlap)))
    };
    assert_eq!(chosen(0), Some(("d", Some("p1"))));
    assert_eq!(chosen(15_000), Some(("d", Some("p1"))));
    assert_eq!(chosen(25_000), Some(("d", Some("p2"))));
}

#[test]
fn a_miss_costs_more_while_requests_wait() {
    let overlap = overlap(&[("p1", 250)]);
    let waiting = |mut node: Candidate| {
        node.load.load.waiting = 10;
        node
    };
    let nodes = [
        decode("d"),
        waiting(queue(prefill("p1"), 25_000)),
        waiting(prefill("p2")),
    ];
    assert_eq!(
        pair(choose(&nodes, &ask(4001, &overlap))),
        Some(("d", Some("p1")))
    );
}

#[test]
fn decoding_goes_where_fewer_decode_and_memory_is_left() {
    let none = BTreeMap::new();
    let mut busy = decode("busy");
    busy.load.load.running = 100;
    busy.load.load.context_tokens = 100_000;
    assert_eq!(
        pair(choose(&[busy, decode("idle")], &ask(10, &none))),
        Some(("idle", None))
    );
    let mut full = decode("full");
    full.load.load.blocks_free = 0;
    assert_eq!(
        pair(choose(&[full, decode("idle")], &ask(10, &none))),
        Some(("idle", None))
    );
}

#[test]
fn a_slow_node_costs_more() {
    let none = BTreeMap::new();
    let mut slow = prefill("a-slow");
    slow.load.load.pass.e *= 2.0;
    let nodes = [decode("d"), slow, prefill("fast")];
    assert_eq!(
        pair(choose(&nodes, &ask(5000, &none))),
        Some(("d", Some("fast")))
    );
}

#[test]
fn what_is_to_be_avoided_is_not_chosen_in_either_place() {
    let none = BTreeMap::new();
    let nodes = [decode("d1"), decode("d2"), prefill("p1"), prefill("p2")];
    let avoid = [node("d1"), node("p2")];
    let choice = choose(
        &nodes,
        &Ask {
            avoid: &avoid,
            ..ask(5000, &none)
        },
    );
    assert_eq!(pair(choice), Some(("d2", Some("p1"))));
    let restarted = [NodeRef {
        epoch: Epoch(0),
        ..node("d1")
    }];
    let choice = choose(
        &nodes[..1],
        &Ask {
            avoid: &restarted,
            ..ask(5000, &none)
        },
    );
    assert_eq!(pair(choice), Some(("d1", None)));
}

#[test]
fn a_pair_without_a_lane_is_not_made_whoever_reports_it() {
    let none = BTreeMap::new();
    let cut = |mut from: Candidate, to: &str| {
        from.unreachable.push(node(to));
        from
    };
    let nodes = [cut(decode("d1"), "p"), decode("d2"), prefill("p")];
    assert_eq!(
        pair(choose(&nodes, &ask(5000, &none))),
        Some(("d2", Some("p")))
    );
    let nodes = [decode("d1"), cut(prefill("p"), "d1")];
    assert_eq!(pair(choose(&nodes, &ask(5000, &none))), Some(("d1", None)));
}

#[test]
fn a_node_that_could_never_hold_it_is_not_chosen() {
    let none = BTreeMap::new();
    let mut small = decode("small");
    small.load.load.blocks_total = 9;
    let asked = Ask {
        blocks_least: 10,
        ..ask(150, &none)
    };
    assert_eq!(
        pair(choose(&[small.clone(), decode("large")], &asked)),
        Some(("large", None))
    );
    assert_eq!(pair(choose(&[small], &asked)), None);
}

#[test]
fn what_took_its_owners_along_gets_an_idle_one_for_itself() {
    let none = BTreeMap::new();
    let mut busy = decode("a");
    busy.load.booked = 1;
    let alone = Ask {
        alone: true,
        ..ask(5000, &none)
    };
    assert_eq!(
        pair(choose(&[busy.clone(), decode("b"), prefill("p")], &alone)),
        Some(("b", None))
    );
    assert_eq!(pair(choose(&[busy, prefill("p")], &alone)), None);
}

#[test]
fn equals_are_chosen_equally_often() {
    let none = BTreeMap::new();
    let nodes: Vec<Candidate> = ["d1", "d2", "d3"]
        .map(decode)
        .into_iter()
        .chain(["p1", "p2"].map(prefill))
        .collect();
    let pairs: BTreeSet<(String, Option<String>)> = (0..64u64)
        .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .filter_map(|random| {
            choose(
                &nodes,
                &Ask {
                    random,
                    ..ask(5000, &none)
                },
            )
        })
        .map(|c| {
            (
                c.decode.node.to_string(),
                c.prefill.map(|p| p.node.to_string()),
            )
        })
        .collect();
    assert_eq!(pairs.len(), 6);
}

#[test]
fn the_chosen_one_leads_the_explanation_and_none_is_cheaper() {
    let overlap = overlap(&[("d2", 3)]);
    let nodes = [decode("d1"), decode("d2"), prefill("p1"), prefill("p2")];
    let choice = choose(&nodes, &ask(5000, &overlap)).expect("all are idle");
    let first = &choice.explained[0];
    assert_eq!(
        (first.decode, first.prefill),
        (choice.decode, choice.prefill)
    );
    assert!(
        choice
            .explained
            .iter()
            .all(|e| e.cost.total_us() >= first.cost.total_us())
    );
    assert!(first.cost.miss > 0.0 && first.cost.pace > 0.0 && first.cost.transfer > 0.0);
}

#[test]
fn among_a_thousand_the_one_with_the_prompt_is_found() {
    let names: Vec<String> = (0..1000).map(|n| format!("d{n:04}")).collect();
    let nodes: Vec<Candidate> = names.iter().map(|name| decode(name)).collect();
    let overlap = overlap(&[("d0777", 300)]);
    assert_eq!(
        pair(choose(&nodes, &ask(5000, &overlap))),
        Some(("d0777", None))
    );
}

#[test]
fn extreme_loads_are_survived() {
    let overlap = overlap(&[("d", u32::MAX)]);
    let most = Load {
        running: u32::MAX,
        waiting: u32::MAX,
        context_tokens: u64::MAX,
        queued_prefill_tokens: u64::MAX,
        blocks_total: u32::MAX,
        blocks_free: u32::MAX,
        blocks_cached: u32::MAX,
        blocks_quarantined: u32::MAX,
        block_tokens: u32::MAX,
        pass: Pass {
            a: f32::MAX,
            c: f32::MAX,
            d: f32::MAX,
            e: f32::MAX,
        },
    };
    let load = NodeLoad {
        load: most,
        booked_tokens: 9,
        booked: u32::MAX,
        booked_blocks: u32::MAX,
    };
    let nodes = [
        Candidate {
            load,
            ..decode("d")
        },
        Candidate {
            load,
            ..prefill("p")
        },
    ];
    let prompt = Prompt {
        tokens: u32::MAX,
        output: u32::MAX,
    };
    for block_tokens in [0, 1, u32::MAX] {
        let asked = Ask {
            prompt,
            block_tokens,
            ..ask(1, &overlap)
        };
        assert!(choose(&nodes, &asked).is_some());
    }
}

/// Nodes are told in any order, and chosen among in that of their names.
fn choose(nodes: &[Candidate], ask: &Ask<'_>) -> Option<Choice> {
    let mut nodes = nodes.to_vec();
    nodes.sort_by_key(|node| node.me.node);
    place::choose(&nodes, ask)
}

fn pair(choice: Option<Choice>) -> Option<(&'static str, Option<&'static str>)> {
    let name = |node: NodeRef| &*Box::leak(node.node.to_string().into_boxed_str());
    choice.map(|c| (name(c.decode), c.prefill.map(name)))
}

fn ask(tokens: u32, overlap: &BTreeMap<NodeId, u32>) -> Ask<'_> {
    Ask {
        prompt: Prompt {
            tokens,
            output: 100,
        },
        blocks_least: 1,
        overlap,
        block_tokens: BLOCK_TOKENS,
        local_prefill_max: 16,
        avoid: &[],
        alone: false,
        random: 0,
    }
}

fn overlap(blocks: &[(&str, u32)]) -> BTreeMap<NodeId, u32> {
    blocks
        .iter()
        .map(|(name, count)| (node(name).node, *count))
        .collect()
}

fn decode(name: &str) -> Candidate {
    Candidate {
        decode: true,
        prefill: false,
        ..prefill(name)
    }
}

fn prefill(name: &str) -> Candidate {
    let load = Load {
        blocks_total: 100_000,
        blocks_free: 100_000,
        block_tokens: BLOCK_TOKENS,
        pass: Pass {
            a: 7620.0,
            c: 34.4,
            d: 10.9,
            e: 40.0,
        },
        ..Load::default()
    };
    Candidate {
        me: node(name),
        decode: false,
        prefill: true,
        load: NodeLoad {
            load,
            booked_tokens: 0,
            booked: 0,
            booked_blocks: 0,
        },
        unreachable: Vec::new(),
    }
}

fn queue(mut node: Candidate, tokens: u64) -> Candidate {
    node.load.load.queued_prefill_tokens = tokens;
    node
}

fn node(name: &str) -> NodeRef {
    NodeRef {
        node: NodeId::new(name).expect("a valid name"),
        epoch: Epoch(1),
    }
}
