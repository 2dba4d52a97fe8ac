//! `linux.timeOffsets`, config-linux.md "Offset for Time Namespace"; time_namespaces(7).

use std::collections::HashMap;

use oci_spec::runtime as oci;

use crate::container::{Clock, Namespace, NamespaceKind, TimeOffset};
use crate::refuse::{At, Refusal, token};

/// Half of what a clock can hold: the kernel lets none be set further than that, on either side.
const MOST_SECONDS: i64 = i64::MAX / 1_000_000_000 / 2;

/// Nanoseconds in a second.
const SECOND: u32 = 1_000_000_000;

/// The offsets in the order of the clocks. They can be given to a new namespace only: those of one that has processes are fixed.
pub(super) fn resolve(
    offsets: Option<&HashMap<String, oci::LinuxTimeOffset>>,
    namespaces: &[Namespace],
) -> Result<Vec<TimeOffset>, Refusal> {
    let mut given: Vec<_> = offsets.into_iter().flatten().collect();
    if given.is_empty() {
        return Ok(Vec::new());
    }
    match namespaces.iter().find(|namespace| namespace.kind == NamespaceKind::Time) {
        None => return Err(Refusal::new("", "needs a time namespace")),
        Some(Namespace { path: Some(_), .. }) => {
            return Err(Refusal::new("", "the time namespace is joined: its offsets are fixed"));
        }
        Some(_) => {}
    }
    // Sorted, so that of several faults always the same one is told.
    given.sort_unstable_by_key(|(clock, _)| *clock);
    given.into_iter().map(|(clock, offset)| one(clock, offset).at(&token(clock))).collect()
}

fn one(clock: &str, offset: &oci::LinuxTimeOffset) -> Result<TimeOffset, Refusal> {
    let clock = match clock {
        "monotonic" => Clock::Monotonic,
        "boottime" => Clock::Boottime,
        _ => return Err(Refusal::new("", "no clock of a time namespace: those are monotonic and boottime")),
    };
    let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
    if !(-MOST_SECONDS..=MOST_SECONDS).contains(&seconds) {
        return Err(Refusal::new("/secs", format!("{seconds} is not {} to {MOST_SECONDS}", -MOST_SECONDS)));
    }
    if nanoseconds >= SECOND {
        return Err(Refusal::new("/nanosecs", format!("{nanoseconds} is not 0 to {}", SECOND - 1)));
    }
    Ok(TimeOffset { clock, seconds, nanoseconds })
}
