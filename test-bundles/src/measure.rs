//! What a process has of the machine, by proc(5).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Memory in kB of 1024 bytes, as /proc/PID/smaps_rollup has it.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Its share: a page that n processes map counts as an n-th.
    pub pss_kb: u32,
    /// What would be free without it: pages that nobody else maps.
    pub private_kb: u32,
    /// What no file backs: unlike the other two it does not change with who else runs the same program.
    pub anonymous_kb: u32,
}

/// Within this a shim that nobody calls has given back what it needs no more.
const REST: Duration = Duration::from_secs(1);

/// Leaves shims in peace, so that what they have is what they keep.
pub async fn rest() {
    tokio::time::sleep(REST * crate::slower()).await;
}

/// The memory of process `pid`.
pub fn memory(pid: u32) -> Result<Memory> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let kb = |name: &str| -> Result<u32> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file}: {name}"))?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{file}: {name}"))
    };
    let private_kb = kb("Private_Clean:")? + kb("Private_Dirty:")?;
    Ok(Memory { pss_kb: kb("Pss:")?, private_kb, anonymous_kb: kb("Anonymous:")? })
}

/// How many threads it has.
pub fn threads(pid: u32) -> Result<usize> {
    entries(&format!("/proc/{pid}/task"))
}

/// How many descriptors it has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    entries(&format!("/proc/{pid}/fd"))
}

/// CPU time of the process itself, in whole clock ticks.
pub fn cpu(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let fields: Vec<_> = stat.rsplit_once(") ").context("no command's name")?.1.split(' ').collect();
    // Fields 14 and 15 of proc_pid_stat(5): user and system time.
    let ticks = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(Duration::from_secs(1) * ticks / per_second)
}

fn entries(directory: &str) -> Result<usize> {
    Ok(fs::read_dir(directory).with_context(|| format!("read {directory}"))?.count())
}
