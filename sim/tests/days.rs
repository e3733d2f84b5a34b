//! Seeded days of a whole cluster. A failure prints the seed that repeats it.

use sim::day::{live, with_held_bus};

/// Days lived through by every test run.
const SEEDS: u64 = 200;

#[test]
fn every_request_and_every_block_comes_to_one_end() {
    let mut completed = 0;
    let mut taken = 0;
    let mut preempted = 0;
    let mut asked_again = 0;
    for seed in 0..SEEDS {
        let report = live(seed, None);
        assert!(
            report.faults.is_empty(),
            "repeat with seed {seed}: {:#?}",
            report.faults
        );
        completed += report.completed;
        taken += report.blocks_taken;
        preempted += report.preemptions;
        asked_again += report.asked_again;
    }
    assert!(
        completed > 1000,
        "only {completed} requests completed in {SEEDS} days"
    );
    assert!(taken > 500, "only {taken} blocks moved in {SEEDS} days");
    assert!(
        preempted > 50,
        "only {preempted} preemptions in {SEEDS} days"
    );
    assert!(asked_again > 0, "no second prefill worker was ever asked");
}

#[test]
fn the_same_seed_gives_the_same_day() {
    for seed in [3, 17, 101] {
        assert_eq!(live(seed, None), live(seed, None));
    }
}

#[test]
fn a_bus_that_stands_still_costs_time_and_nothing_else() {
    for seed in 0..20 {
        let report = with_held_bus(seed, 5_000_000);
        assert_eq!(report.faults, Vec::<String>::new(), "seed {seed}");
        assert_eq!((report.completed, report.otherwise), (40, 0), "seed {seed}");
        assert_eq!(report.owners_lost, 0, "no migration, seed {seed}");
        assert_eq!(report.let_go, 0, "no orphan, seed {seed}");
    }
}
