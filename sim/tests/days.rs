//! Seeded days of a whole cluster. A failure prints the seed that repeats it.

use sim::day::live;

/// Days lived through by every test run.
const SEEDS: u64 = 200;

#[test]
fn every_request_and_every_block_comes_to_one_end() {
    let mut completed = 0;
    let mut taken = 0;
    let mut preempted = 0;
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
}

#[test]
fn the_same_seed_gives_the_same_day() {
    for seed in [3, 17, 101] {
        assert_eq!(live(seed, None), live(seed, None));
    }
}
