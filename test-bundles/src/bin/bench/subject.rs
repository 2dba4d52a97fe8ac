//! The two that are measured, turn by turn, and where their samples go.

use std::time::Duration;

use anyhow::{Context, Result};
use test_bundles::node::{Node, Program};

use crate::figures::{Figure, Unit};

/// Ours and the distribution's, on one node.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) programs: [Program; 2],
    pub(crate) figures: Vec<Figure>,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
}

pub(crate) const BOTH: [Side; 2] = [Side::Ours, Side::Theirs];

impl Bench {
    pub(crate) async fn new() -> Result<Self> {
        let programs = [Program::ours()?, Program::distribution()?];
        Ok(Self { node: Node::new().await?, programs, figures: Vec::new() })
    }

    pub(crate) fn program(&self, side: Side) -> &Program {
        &self.programs[side as usize]
    }

    /// A sample of the figure `name`, which comes to be with its first.
    pub(crate) fn add(&mut self, side: Side, name: &'static str, unit: Unit, value: f64) {
        let known = self.figures.iter().position(|figure| figure.name == name);
        let at = known.unwrap_or_else(|| {
            self.figures.push(Figure::new(name, unit));
            self.figures.len() - 1
        });
        self.figures[at].samples[side as usize].push(value);
    }

    pub(crate) fn add_time(&mut self, side: Side, name: &'static str, time: Duration) {
        self.add(side, name, Unit::Milliseconds, milliseconds(time));
    }

    /// CPU time since it was `before`, where the kernel counts it.
    pub(crate) fn add_cpu(&mut self, side: Side, name: &'static str, before: Option<Duration>) {
        if let (Some(before), Some(now)) = (before, self.program(side).cpu()) {
            self.add_time(side, name, now.saturating_sub(before));
        }
    }
}

impl Side {
    /// For an error that says whose it is.
    pub(crate) fn context<T>(self, result: Result<T>) -> Result<T> {
        result.with_context(|| format!("{self:?}"))
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
