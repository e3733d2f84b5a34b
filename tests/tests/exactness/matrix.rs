//! The printed matrix: one line a cell. It judges nothing.

use std::fmt;

use anyhow::Result;

use super::{door::Door, manner::Manner, setting::Setting};

/// One path, and how it ended: a note, or what was wrong.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) checkpoint: &'static str,
    pub(super) setting: Setting,
    pub(super) door: Door,
    pub(super) manner: Manner,
    pub(super) outcome: Result<String>,
}

impl Cell {
    fn name(&self) -> String {
        format!(
            "{:8} {:28} {:4} {:14}",
            self.checkpoint, self.setting, self.door, self.manner
        )
    }
}

/// All cells so far.
#[derive(Debug, Default)]
pub(super) struct Matrix(Vec<Cell>);

impl Matrix {
    pub(super) fn extend(&mut self, cells: Vec<Cell>) {
        self.0.extend(cells);
    }

    pub(super) fn failed(&self) -> Vec<String> {
        let failed = self.0.iter().filter_map(|cell| {
            let error = cell.outcome.as_ref().err()?;
            Some(format!("{}: {error:#}", cell.name()))
        });
        failed.collect()
    }

    pub(super) fn passed(&self) -> usize {
        self.0.iter().filter(|cell| cell.outcome.is_ok()).count()
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cells: Vec<&Cell> = self.0.iter().collect();
        cells.sort_by_key(|cell| cell.checkpoint);
        writeln!(f, "CHECKPOINT, SETTING, DOOR, MANNER")?;
        for cell in cells {
            match &cell.outcome {
                Ok(note) => writeln!(f, "{} ok: {note}", cell.name())?,
                Err(error) => writeln!(f, "{} WRONG: {error:#}", cell.name())?,
            }
        }
        Ok(())
    }
}
