//! One list of scenarios, run on every fabric: what the `Fabric` contract promises, whoever keeps the promise.
//!
//! UCX scenarios run against the real library and say `SKIPPED` where there is none; once more against another version
//! of it, in a process of its own, where `THALAMUS_TEST_UCX_DIR` names its directory.

mod harness;
#[path = "../../../tests/src/ledger.rs"]
pub mod ledger;
mod scenarios;

use std::process::Command;

use harness::{Cluster, Kind};

/// Names a directory with a second version of the UCX libraries.
const SECOND_UCX: &str = "THALAMUS_TEST_UCX_DIR";

#[test]
fn a_second_version_of_ucx_keeps_every_promise() {
    let dir = std::env::var_os(SECOND_UCX).ok_or("THALAMUS_TEST_UCX_DIR is not set");
    let Some(dir) = ledger::need("second-ucx", dir) else {
        return;
    };
    let own = std::env::current_exe().expect("this binary");
    let output = Command::new(own)
        .args(["ucx::", "--nocapture"]) // a skipped test says so, and passes
        .env("THALAMUS_UCX_DIR", &dir)
        .output()
        .expect("this binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let none = ["running 0 tests", "SKIPPED"];
    assert!(!none.iter().any(|none| said.contains(none)), "{said}");
}

fn run(kind: Kind, scenario: fn(&Cluster)) {
    if let Some(cluster) = Cluster::new(kind) {
        scenario(&cluster);
    }
}

macro_rules! stamp {
    ($($scenario:ident,)*) => {
        mod memory {
            $(#[test]
            fn $scenario() {
                super::run(super::Kind::Memory, super::scenarios::$scenario);
            })*
        }

        mod shm {
            $(#[test]
            fn $scenario() {
                super::run(super::Kind::Shm, super::scenarios::$scenario);
            })*
        }

        mod ucx {
            $(#[test]
            fn $scenario() {
                super::run(super::Kind::Ucx, super::scenarios::$scenario);
            })*
        }
    };
}

stamp! {
    bytes_arrive_in_the_chosen_slots_and_nowhere_else,
    many_takes_interleave,
    two_nodes_take_from_each_other_at_once,
    an_empty_take_needs_a_ticket_too,
    a_take_without_a_ticket_is_denied,
    a_take_by_the_wrong_audience_is_denied,
    a_take_of_an_older_generation_is_denied,
    a_take_of_a_block_that_was_not_exported_is_denied,
    a_take_of_a_slot_that_does_not_exist_is_denied,
    a_take_under_a_revoked_ticket_is_denied,
    a_take_into_a_slot_that_does_not_exist_is_garbled,
    a_take_of_too_many_blocks_is_refused,
    an_unknown_owner_is_unreachable,
    an_owner_with_a_senseless_card_is_unreachable,
    other_block_sizes_do_not_fit,
    a_cancelled_take_ends_at_once_and_settles,
    takes_given_up_at_any_moment_all_settle,
    cancelling_what_is_over_or_unknown_changes_nothing,
    a_block_that_is_not_what_its_owner_exported_is_corrupt,
    a_take_without_time_misses_its_deadline,
    a_dropped_owner_is_lost,
    a_forgotten_owner_is_lost,
    a_restarted_owner_is_reached_under_its_new_epoch,
    stopping_ends_all_takes,
}
