//! Same tokens, any path: every checkpoint, way of running, door and manner of prefill gives the reference's ids.
//!
//! Each cell of the printed matrix proves by counters that what it names really happened. It judges tokens
//! only, never speed. Start reading at [`Setting`], then [`Manner`].

#[path = "exactness/door.rs"]
mod door;
#[path = "exactness/manner.rs"]
mod manner;
#[path = "exactness/matrix.rs"]
mod matrix;
#[path = "exactness/reference.rs"]
mod reference;
#[path = "exactness/setting.rs"]
mod setting;

use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use thalamus_tests::ledger;

use self::{
    door::Door,
    manner::Start,
    matrix::{Cell, Matrix},
    reference::Reference,
    setting::{Running, Setting},
};

const CHECKPOINTS: [&str; 3] = ["llama3", "qwen2", "qwen3"];

#[test]
fn every_path_gives_the_ids_of_the_reference() -> Result<()> {
    let nats = ledger::need("nats", setting::nats_server()).is_some();
    let ucx = ledger::need("ucx", setting::ucx()).is_some();
    let matrix = Mutex::new(Matrix::default());
    std::thread::scope(|scope| {
        for checkpoint in CHECKPOINTS {
            let matrix = &matrix;
            scope.spawn(move || run(checkpoint, nats, ucx, matrix));
        }
    });
    let matrix = matrix.into_inner().ok().context("no cell panics")?;
    println!("{matrix}");
    let failed = matrix.failed();
    ensure!(
        failed.is_empty(),
        "{} cells failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    ensure!(
        matrix.passed() >= CHECKPOINTS.len(),
        "hardly anything was run"
    );
    Ok(())
}

/// All cells of one checkpoint.
fn run(checkpoint: &'static str, nats: bool, ucx: bool, matrix: &Mutex<Matrix>) {
    for setting in Setting::ALL {
        for start in Start::ALL {
            let cells = cells(checkpoint, setting, start, nats, ucx);
            if let Ok(mut matrix) = matrix.lock() {
                matrix.extend(cells);
            }
        }
    }
}

/// The cells that one running cluster can fill.
fn cells(
    checkpoint: &'static str,
    setting: Setting,
    start: Start,
    nats: bool,
    ucx: bool,
) -> Vec<Cell> {
    let cell = |door, manner, outcome| Cell {
        checkpoint,
        setting,
        door,
        manner,
        outcome,
    };
    let missing = (setting.needs_nats() && !nats) || (setting.needs_ucx() && !ucx);
    if missing {
        let skipped = || Ok("skipped: not on this machine".to_owned());
        let doors = setting.doors(nats).iter();
        let all = doors.flat_map(|d| start.manners().iter().map(|m| cell(*d, *m, skipped())));
        return all.collect();
    }
    let started =
        Reference::of(checkpoint).and_then(|reference| started(reference, setting, start, nats));
    let (reference, running) = match started {
        Ok(started) => started,
        Err(error) => return vec![cell(Door::Http, start.manners()[0], Err(error))],
    };
    let mut cells = Vec::with_capacity(setting.doors(nats).len() * start.manners().len());
    for door in setting.doors(nats) {
        for manner in start.manners() {
            let outcome = manner.judge(&running, *door, &reference);
            cells.push(cell(*door, *manner, outcome));
        }
    }
    cells
}

/// A cluster whose workers know each other.
fn started(
    reference: Reference,
    setting: Setting,
    start: Start,
    nats: bool,
) -> Result<(Reference, Running)> {
    let running = Running::start(setting, reference.checkpoint, start, nats)?;
    running.warm_up(&reference)?;
    Ok((reference, running))
}
