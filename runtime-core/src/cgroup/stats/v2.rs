//! Statistics from the files of v2, all in one directory; Documentation/admin-guide/cgroup-v2.rst, accounting/psi.rst.

use std::path::Path;

use config::resources::Limit;

use super::{Files, Keyed, Pids, RdmaStats, device, gone, page_sizes};
use crate::error::Result;

/// What a cgroup of v2 reports. A controller that is not enabled for it reports nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatsV2 {
    /// `pids`
    pub pids: Option<Pids>,
    /// `cpu.stat`, whole: microseconds by key, `nr_bursts` and `burst_usec` among them.
    pub cpu: Keyed,
    /// `cpu.pressure`
    pub cpu_pressure: Option<Pressure>,
    /// `memory`
    pub memory: MemoryV2,
    /// `memory.events`, which counts what happened below too.
    pub memory_events: Keyed,
    /// `io.stat`
    pub io: Vec<IoEntry>,
    /// `io.pressure`
    pub io_pressure: Option<Pressure>,
    /// `hugetlb`, by page size.
    pub hugetlb: Vec<HugetlbV2>,
    /// `rdma`
    pub rdma: Option<RdmaStats>,
}

/// `memory`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryV2 {
    /// `memory.stat`, whole.
    pub stat: Keyed,
    /// `memory.current`
    pub current_bytes: u64,
    /// `memory.max`
    pub max_bytes: Option<Limit>,
    /// `memory.peak`
    pub peak_bytes: u64,
    /// `memory.swap.current`
    pub swap_current_bytes: u64,
    /// `memory.swap.max`
    pub swap_max_bytes: Option<Limit>,
    /// `memory.swap.peak`
    pub swap_peak_bytes: u64,
    /// `memory.pressure`
    pub pressure: Option<Pressure>,
}

/// What tasks have waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Option<PressureLine>,
    /// All tasks that were not idle waited.
    pub full: Option<PressureLine>,
}

/// Shares of the last 10, 60 and 300 seconds in percent, and all time in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// `avg10`
    pub avg10: f64,
    /// `avg60`
    pub avg60: f64,
    /// `avg300`
    pub avg300: f64,
    /// `total`
    pub total_usec: u64,
}

/// What a block device did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// `rbytes`
    pub read_bytes: u64,
    /// `wbytes`
    pub written_bytes: u64,
    /// `rios`
    pub reads: u64,
    /// `wios`
    pub writes: u64,
}

/// `hugetlb` of one page size
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugetlbV2 {
    /// `2MB`
    pub page_size: String,
    /// `current`
    pub current_bytes: u64,
    /// `max`
    pub max_bytes: Option<Limit>,
    /// `events`: how often `max` was met.
    pub failures: u64,
}

/// Reads all of it. Kind `NotFound` where `directory` is not there.
pub(in crate::cgroup) fn read(directory: Option<&Path>) -> Result<StatsV2> {
    let mut files = Files::open(directory)?;
    if !files.exist() {
        return Err(gone());
    }
    Ok(StatsV2 {
        pids: files.pids()?,
        cpu: files.keyed("cpu.stat")?.unwrap_or_default(),
        cpu_pressure: files.text("cpu.pressure")?.map(pressure),
        memory: memory(&mut files)?,
        memory_events: files.keyed("memory.events")?.unwrap_or_default(),
        io: files.text("io.stat")?.map(|text| text.lines().filter_map(io).collect()).unwrap_or_default(),
        io_pressure: files.text("io.pressure")?.map(pressure),
        hugetlb: page_sizes().into_iter().map(|size| hugetlb(&mut files, size)).collect::<Result<_>>()?,
        rdma: files.rdma()?,
    })
}

fn memory(files: &mut Files) -> Result<MemoryV2> {
    Ok(MemoryV2 {
        stat: files.keyed("memory.stat")?.unwrap_or_default(),
        current_bytes: files.count("memory.current")?,
        max_bytes: files.number("memory.max")?,
        peak_bytes: files.count("memory.peak")?,
        swap_current_bytes: files.count("memory.swap.current")?,
        swap_max_bytes: files.number("memory.swap.max")?,
        swap_peak_bytes: files.count("memory.swap.peak")?,
        pressure: files.text("memory.pressure")?.map(pressure),
    })
}

/// Lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn pressure(text: &str) -> Pressure {
    let line = |name: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(name))?;
        let value = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let share = |key| value(key).and_then(|value| value.parse().ok()).unwrap_or_default();
        let total_usec = value("total").and_then(|value| value.parse().ok()).unwrap_or_default();
        Some(PressureLine { avg10: share("avg10"), avg60: share("avg60"), avg300: share("avg300"), total_usec })
    };
    Pressure { some: line("some "), full: line("full ") }
}

/// A line of `8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0`. A device that did nothing yet has its
/// number alone, and is left out.
fn io(line: &str) -> Option<IoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = device(words.next()?)?;
    let mut entry = IoEntry { major, minor, ..IoEntry::default() };
    let mut any = false;
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        any = true;
        let value = value.parse().unwrap_or_default();
        match key {
            "rbytes" => entry.read_bytes = value,
            "wbytes" => entry.written_bytes = value,
            "rios" => entry.reads = value,
            "wios" => entry.writes = value,
            _ => {}
        }
    }
    any.then_some(entry)
}

fn hugetlb(files: &mut Files, page_size: String) -> Result<HugetlbV2> {
    let name = |file: &str| format!("hugetlb.{page_size}.{file}");
    let (current_bytes, max_bytes) = (files.count(&name("current"))?, files.number(&name("max"))?);
    let failures = files.keyed(&name("events"))?.unwrap_or_default().get("max");
    Ok(HugetlbV2 { page_size, current_bytes, max_bytes, failures })
}

#[cfg(test)]
mod tests {
    use super::super::tests::scratch;
    use super::*;

    #[test]
    fn every_file_is_read() {
        let psi = "some avg10=1.50 avg60=2.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.10 total=5\n";
        let scratch = scratch(&[
            ("pids.current", "3\n"),
            ("pids.max", "10\n"),
            ("cpu.stat", "usage_usec 10\nnr_bursts 4\nburst_usec 9\n"),
            ("cpu.pressure", psi),
            ("memory.stat", "anon 1\nthp_collapse_alloc 2\n"),
            ("memory.current", "11\n"),
            ("memory.max", "max\n"),
            ("memory.peak", "12\n"),
            ("memory.swap.max", "0\n"),
            ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=6\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 \n"),
        ]);
        let stats = read(Some(scratch.path())).unwrap();
        assert_eq!(stats.pids, Some(Pids { current: 3, limit: Limit::At(10) }));
        assert_eq!((stats.cpu.get("usage_usec"), stats.cpu.get("nr_bursts"), stats.cpu.get("burst_usec")), (10, 4, 9));
        let pressure = stats.cpu_pressure.unwrap();
        assert_eq!(pressure.some, Some(PressureLine { avg10: 1.5, avg60: 2.25, avg300: 0.0, total_usec: 77 }));
        assert_eq!(pressure.full, Some(PressureLine { avg300: 0.1, total_usec: 5, ..PressureLine::default() }));
        let memory = stats.memory;
        assert_eq!((memory.stat.get("anon"), memory.stat.get("thp_collapse_alloc")), (1, 2));
        assert_eq!((memory.current_bytes, memory.max_bytes, memory.peak_bytes), (11, Some(Limit::Unlimited), 12));
        assert_eq!((memory.swap_max_bytes, memory.swap_current_bytes), (Some(Limit::At(0)), 0));
        assert_eq!(memory.pressure.unwrap().full, None);
        assert_eq!(stats.memory_events.get("oom_kill"), 1);
        let entry = IoEntry { major: 8, minor: 0, read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
        assert_eq!((stats.io, stats.io_pressure), (vec![entry], None));
    }
}
