//! Where the time of a Create goes, so that "why was this pod slow to start" has an answer in the log.
//!
//! Made by whoever creates a container, and carried through: each part is added as it is done. The children stamp their steps
//! on the shared [`Board`]; they are turned into words only when somebody asks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use init::sync::Board;

use crate::plan::Plan;

/// The parts of one Create, in the order in which they were done.
#[derive(Debug)]
pub struct Timing {
    begun: Instant,
    last: Instant,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// Something that the parent did.
    Lap(&'static str, Duration),
    /// All that the children did, step by step.
    Steps(Box<Plan>, Vec<Duration>),
}

impl Default for Timing {
    fn default() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, parts: Vec::new() }
    }
}

impl Timing {
    /// `what` took the time since the part before.
    pub fn lap(&mut self, what: &'static str) {
        let now = Instant::now();
        self.parts.push(Part::Lap(what, now - self.last));
        self.last = now;
    }

    /// The children have performed `plan` since the part before.
    pub(crate) fn steps(&mut self, plan: Plan, took: Vec<Duration>) {
        let steps: Duration = took.iter().sum();
        let now = Instant::now();
        self.parts.push(Part::Steps(Box::new(plan), took));
        self.parts.push(Part::Lap("fork, and switch between processes", (now - self.last).saturating_sub(steps)));
        self.last = now;
    }

    /// The time since it was made.
    pub fn total(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Each part in words, with its time.
    pub fn parts(&self) -> Vec<(String, Duration)> {
        let mut parts = Vec::new();
        for part in &self.parts {
            match part {
                Part::Lap(what, took) => parts.push(((*what).to_owned(), *took)),
                Part::Steps(plan, steps) => {
                    let named = (0..).zip(steps).map(|(place, took)| (plan.name(place), *took));
                    parts.extend(named);
                }
            }
        }
        parts
    }

    /// The `count` parts that took longest, longest first: `step 17: mount overlay at /data (…) 812.0 ms, …`.
    pub fn slowest(&self, count: usize) -> String {
        let mut parts = self.parts();
        parts.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let words = parts.iter().take(count).map(|(what, took)| format!("{what}: {}", milliseconds(*took)));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// `1.250 ms`
pub fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// What each step took that was done, from the stamps on the board.
pub(crate) fn steps(board: &Board) -> Vec<Duration> {
    let mut before = board.begun.load(Ordering::Relaxed);
    let stamps = board.done.iter().map(|stamp| stamp.load(Ordering::Relaxed)).take_while(|stamp| *stamp != 0);
    stamps.map(|stamp| Duration::from_nanos(stamp.saturating_sub(std::mem::replace(&mut before, stamp)))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, AtomicU64};

    use super::*;

    #[test]
    fn stamps_become_the_time_of_each_step() {
        let board = Board {
            pid: AtomicI32::new(0),
            failure: AtomicU64::new(0),
            begun: AtomicU64::new(1_000),
            done: [const { AtomicU64::new(0) }; init::sync::STAMPS],
        };
        for (stamp, time) in board.done.iter().zip([1_500, 1_700, 9_700]) {
            stamp.store(time, Ordering::Relaxed);
        }
        assert_eq!(steps(&board), [500, 200, 8_000].map(Duration::from_nanos));
    }

    #[test]
    fn the_slowest_come_first() {
        let mut timing = Timing::default();
        let lap = |what, ms| Part::Lap(what, Duration::from_millis(ms));
        timing.parts = vec![lap("a", 1), lap("b", 30), lap("c", 7)];
        assert_eq!(timing.slowest(2), "b: 30.000 ms, c: 7.000 ms");
    }
}
