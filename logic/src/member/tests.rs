//! Leases under silence, restarts, a link that goes, a clock that jumps, and a bus that stands still.

use bus_schemas::{
    Role, Roles,
    messages::{Intake, Load},
};

use super::*;

#[test]
fn a_silent_node_is_lost_after_one_lease_and_a_beating_one_is_not() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    assert_eq!(members.observe(at(0), node("a", 1), beat()), Observed::New);
    assert_eq!(members.observe(at(0), node("b", 1), beat()), Observed::New);
    assert_eq!(
        members.observe(at(700), node("a", 1), beat()),
        Observed::Renewed
    );
    hears(&mut members, 0..=1500);
    assert_eq!(members.deadline(), Some(at(1500)));
    assert_eq!(members.expire(at(1499)), []);
    assert_eq!(members.expire(at(1500)), [node("b", 1)]);
    assert!(members.is_live(node("a", 1)) && !members.is_live(node("b", 1)));
    hears(&mut members, 1500..=2200);
    assert_eq!(members.expire(at(2200)), [node("a", 1)]);
    assert_eq!(members.deadline(), None, "only itself is left, and beats");
}

#[test]
fn a_larger_epoch_ends_the_smaller_and_a_smaller_is_stale() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    members.observe(at(0), node("a", 5), beat());
    assert_eq!(
        members.observe(at(1), node("a", 4), beat()),
        Observed::Stale
    );
    let observed = members.observe(at(2), node("a", 6), beat());
    assert_eq!(observed, Observed::Restarted(node("a", 5)));
    assert_eq!(
        members.get(node("a", 6).node).map(|m| m.me),
        Some(node("a", 6))
    );
    assert!(!members.is_live(node("a", 5)));
}

#[test]
fn a_late_beat_of_an_older_epoch_does_not_bring_a_lost_node_back() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    members.observe(at(0), node("a", 5), beat());
    assert!(members.gone(node("a", 5)));
    assert!(!members.gone(node("a", 5)));
    assert_eq!(
        members.observe(at(1), node("a", 4), beat()),
        Observed::Stale
    );
    assert_eq!(members.observe(at(2), node("a", 5), beat()), Observed::New);
}

#[test]
fn nothing_is_judged_while_the_own_link_is_down_and_for_a_lease_after() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    members.observe(at(0), node("a", 1), beat());
    members.link(at(100), false);
    assert_eq!(members.deadline(), None);
    assert_eq!(members.expire(at(9000)), []);
    assert_eq!(members.suspects(at(9000)), []);
    members.link(at(9000), true);
    hears(&mut members, 9000..=10_500);
    assert_eq!(members.expire(at(10_499)), []);
    assert_eq!(members.deadline(), Some(at(10_500)));
    assert_eq!(members.expire(at(10_500)), [node("a", 1)]);
}

#[test]
fn nothing_is_judged_for_a_lease_after_a_jump() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    members.observe(at(0), node("a", 1), beat());
    hears(&mut members, 58_000..=60_000);
    members.woke(at(60_000));
    hears(&mut members, 60_000..=61_500);
    assert!(!members.is_judging(at(61_000)));
    assert_eq!(members.expire(at(61_499)), []);
    members.observe(at(61_499), node("a", 1), beat());
    assert_eq!(members.expire(at(61_500)), []);
}

#[test]
fn told_twice_that_the_link_is_up_it_goes_on_judging() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    members.link(at(0), true);
    members.observe(at(0), node("a", 1), beat());
    hears(&mut members, 0..=1400);
    members.link(at(1400), true);
    assert_eq!(members.expire(at(1500)), [node("a", 1)]);
}

#[test]
fn a_suspect_is_named_once_per_beat_until_it_is_heard() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    members.observe(at(0), node("a", 1), beat());
    hears(&mut members, 0..=1000);
    assert_eq!(members.suspects(at(499)), []);
    assert_eq!(members.suspects(at(500)), [node("a", 1)]);
    assert_eq!(members.suspects(at(749)), []);
    assert_eq!(members.suspects(at(750)), [node("a", 1)]);
    members.observe(at(760), node("a", 1), beat());
    assert_eq!(members.suspects(at(1000)), []);
}

#[test]
fn names_are_walked_in_order_and_their_number_is_bounded() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    for index in (0..MEMBERS_MAX).rev() {
        members.observe(at(0), node(&format!("n{index:05}"), 1), beat());
    }
    assert_eq!(
        members.observe(at(0), node("one-too-many", 1), beat()),
        Observed::Stale
    );
    let names: Vec<NodeId> = members.iter().map(|m| m.me.node).collect();
    assert!(names.is_sorted() && names.len() == MEMBERS_MAX);
}

#[test]
fn nothing_is_judged_while_the_own_beats_do_not_come_back_and_for_a_lease_after() {
    let mut members = Members::new(node("me", 1), LEASE_US);
    hears(&mut members, 0..=2000);
    members.observe(at(2000), node("a", 1), beat());
    for ms in 2000..7000 {
        assert_eq!(
            members.expire(at(ms)),
            [],
            "the bus has stood still since 2000"
        );
        assert!(
            members.deadline().is_none_or(|end| end > at(ms)),
            "no timer spins"
        );
    }
    assert_eq!(members.suspects(at(7000)), []);
    hears(&mut members, 7000..=8500);
    assert_eq!(members.expire(at(8499)), []);
    assert_eq!(members.expire(at(8500)), [node("a", 1)]);
}

#[test]
fn nobody_is_judged_before_the_first_own_beat() {
    let mut members = Members::new(node("me", 2), LEASE_US);
    members.observe(at(0), node("a", 1), beat());
    members.observe(at(0), node("me", 1), beat());
    assert_eq!(
        (members.expire(at(9000)), members.deadline()),
        (vec![], None)
    );
}

/// Its own beats come back, 100 ms apart.
fn hears(members: &mut Members, ms: std::ops::RangeInclusive<u64>) {
    for ms in ms.step_by(100) {
        members.observe(at(ms), members.me, beat());
    }
}

const fn at(ms: u64) -> Micros {
    Micros(ms * 1000)
}

fn node(name: &str, epoch: u64) -> NodeRef {
    NodeRef {
        node: NodeId::new(name).expect("a valid name"),
        epoch: Epoch(epoch),
    }
}

fn beat() -> Beat {
    Beat {
        roles: Roles::only(Role::Decode),
        model: "m".to_owned(),
        card: 1,
        intake: Intake::Open,
        notice: 0,
        load: Load::default(),
        fabric: Vec::new(),
        unreachable: Vec::new(),
        admin: String::new(),
    }
}
