//! Statistics from the files of v1, which lie in a hierarchy per controller; Documentation/admin-guide/cgroup-v1.

use std::path::Path;

use super::{Files, Keyed, Pids, RdmaStats, device, gone, page_sizes};
use crate::error::Result;

/// What the controllers of v1 report. A controller that is not mounted reports nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatsV1 {
    /// `pids`
    pub pids: Option<Pids>,
    /// `cpu.stat`: `nr_periods`, `nr_throttled`, `throttled_time` (ns), `nr_bursts`, `burst_time` (ns).
    pub cpu: Keyed,
    /// `cpuacct`
    pub cpuacct: CpuacctV1,
    /// `memory`
    pub memory: Option<MemoryV1>,
    /// `blkio`, by the kernel's own throttling: the file `blkio.throttle.io_service_bytes_recursive`.
    pub io_service_bytes: Vec<BlkioEntry>,
    /// The same in operations: `blkio.throttle.io_serviced_recursive`.
    pub io_serviced: Vec<BlkioEntry>,
    /// Whether `blkio` is mounted.
    pub has_blkio: bool,
    /// `hugetlb`, by page size.
    pub hugetlb: Vec<HugetlbV1>,
    /// `rdma`
    pub rdma: Option<RdmaStats>,
}

/// `cpuacct`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuacctV1 {
    /// `cpuacct.usage`
    pub usage_nsec: u64,
    /// `cpuacct.usage_percpu`
    pub usage_percpu_nsec: Vec<u64>,
    /// `cpuacct.stat`, user: hundredths of a second.
    pub user_ticks: u64,
    /// `cpuacct.stat`, system: hundredths of a second.
    pub system_ticks: u64,
}

/// `memory`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryV1 {
    /// `memory.stat`, whole.
    pub stat: Keyed,
    /// `memory.oom_control`: `oom_kill_disable`, `under_oom`, `oom_kill`.
    pub oom_control: Keyed,
    /// `memory.*`
    pub usage: Counter,
    /// `memory.memsw.*`: memory and swap together.
    pub swap: Counter,
    /// `memory.kmem.*`
    pub kernel: Counter,
    /// `memory.kmem.tcp.*`
    pub kernel_tcp: Counter,
}

/// The four files of something that is counted; zeroes where this kernel does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// `limit_in_bytes`
    pub limit_bytes: u64,
    /// `usage_in_bytes`
    pub usage_bytes: u64,
    /// `max_usage_in_bytes`
    pub max_bytes: u64,
    /// `failcnt`
    pub failures: u64,
}

/// What a block device did, by operation (`Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Its path (`/dev/vda`); empty where the kernel has no name for it.
    pub device: String,
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// The operation.
    pub operation: String,
    /// Bytes or times.
    pub value: u64,
}

/// `hugetlb` of one page size
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugetlbV1 {
    /// `2MB`
    pub page_size: String,
    /// `usage_in_bytes`
    pub usage_bytes: u64,
    /// `max_usage_in_bytes`
    pub max_bytes: u64,
    /// `failcnt`
    pub failures: u64,
}

/// Reads all of it; `directory` says where a controller's files are. Kind `NotFound` where none of the directories is there.
pub(in crate::cgroup) fn read<'a>(directory: impl Fn(&str) -> Option<&'a Path>) -> Result<StatsV1> {
    let open = |controller| Files::open(directory(controller));
    let (mut cpu, mut cpuacct, mut memory) = (open("cpu")?, open("cpuacct")?, open("memory")?);
    let (mut pids, mut blkio, mut hugetlb, mut rdma) = (open("pids")?, open("blkio")?, open("hugetlb")?, open("rdma")?);
    if ![&cpu, &cpuacct, &memory, &pids, &blkio, &hugetlb, &rdma].iter().any(|files| files.exist()) {
        return Err(gone());
    }
    let mut stats = StatsV1 {
        pids: pids.pids()?,
        cpu: cpu.keyed("cpu.stat")?.unwrap_or_default(),
        cpuacct: cpuacct_of(&mut cpuacct)?,
        memory: memory_of(&mut memory)?,
        io_service_bytes: blkio_of(&mut blkio, "blkio.throttle.io_service_bytes_recursive")?,
        io_serviced: blkio_of(&mut blkio, "blkio.throttle.io_serviced_recursive")?,
        has_blkio: blkio.exist(),
        hugetlb: hugetlb_of(&mut hugetlb)?,
        rdma: rdma.rdma()?,
    };
    name_devices(&mut stats);
    Ok(stats)
}

fn cpuacct_of(files: &mut Files) -> Result<CpuacctV1> {
    let percpu = files.text("cpuacct.usage_percpu")?.unwrap_or_default();
    let usage_percpu_nsec = percpu.split_whitespace().filter_map(|usage| usage.parse().ok()).collect();
    let stat = files.keyed("cpuacct.stat")?.unwrap_or_default();
    Ok(CpuacctV1 {
        usage_nsec: files.count("cpuacct.usage")?,
        usage_percpu_nsec,
        user_ticks: stat.get("user"),
        system_ticks: stat.get("system"),
    })
}

fn memory_of(files: &mut Files) -> Result<Option<MemoryV1>> {
    let Some(stat) = files.keyed("memory.stat")? else { return Ok(None) };
    Ok(Some(MemoryV1 {
        stat,
        oom_control: files.keyed("memory.oom_control")?.unwrap_or_default(),
        usage: counter(files, "memory")?,
        swap: counter(files, "memory.memsw")?,
        kernel: counter(files, "memory.kmem")?,
        kernel_tcp: counter(files, "memory.kmem.tcp")?,
    }))
}

fn counter(files: &mut Files, prefix: &str) -> Result<Counter> {
    let mut count = |file: &str| files.count(&format!("{prefix}.{file}"));
    Ok(Counter {
        limit_bytes: count("limit_in_bytes")?,
        usage_bytes: count("usage_in_bytes")?,
        max_bytes: count("max_usage_in_bytes")?,
        failures: count("failcnt")?,
    })
}

/// Lines of `8:0 Read 4096`; the closing `Total 4096` is of no device.
fn blkio_of(files: &mut Files, file: &str) -> Result<Vec<BlkioEntry>> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let (operation, value) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        Some(BlkioEntry { device: String::new(), major, minor, operation, value })
    };
    Ok(files.text(file)?.map(|text| text.lines().filter_map(entry).collect()).unwrap_or_default())
}

/// Looks the devices' names up, if there are devices: the table is not the cgroup's.
fn name_devices(stats: &mut StatsV1) {
    if stats.io_serviced.is_empty() && stats.io_service_bytes.is_empty() {
        return;
    }
    let table = std::fs::read_to_string("/proc/partitions").unwrap_or_default();
    for entry in stats.io_serviced.iter_mut().chain(&mut stats.io_service_bytes) {
        entry.device =
            partition(&table, entry.major, entry.minor).map(|name| format!("/dev/{name}")).unwrap_or_default();
    }
}

/// The name in a table of `major minor #blocks name`.
fn partition(table: &str, major: u64, minor: u64) -> Option<&str> {
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let mut is = |number: u64| words.next().is_some_and(|word| word.parse() == Ok(number));
        if is(major) && is(minor) { words.nth(1) } else { None }
    })
}

fn hugetlb_of(files: &mut Files) -> Result<Vec<HugetlbV1>> {
    if !files.exist() {
        return Ok(Vec::new());
    }
    let of_size = |page_size: String| {
        let mut count = |file: &str| files.count(&format!("hugetlb.{page_size}.{file}"));
        let (usage_bytes, max_bytes) = (count("usage_in_bytes")?, count("max_usage_in_bytes")?);
        let failures = count("failcnt")?;
        Ok(HugetlbV1 { page_size, usage_bytes, max_bytes, failures })
    };
    page_sizes().into_iter().map(of_size).collect()
}

#[cfg(test)]
mod tests {
    use config::resources::Limit;

    use super::super::tests::scratch;
    use super::*;

    #[test]
    fn every_file_is_read() {
        let scratch = scratch(&[
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 77\n"),
            ("cpuacct.stat", "user 12\nsystem 13\n"),
            ("cpuacct.usage", "250000\n"),
            ("cpuacct.usage_percpu", "100000 150000 \n"),
            ("memory.stat", "cache 1\ntotal_cache 2\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.memsw.usage_in_bytes", "21\n"),
            ("memory.kmem.max_usage_in_bytes", "22\n"),
            ("memory.kmem.tcp.failcnt", "23\n"),
            ("blkio.throttle.io_serviced_recursive", "0:0 Read 5\n0:0 Total 5\nTotal 5\n"),
            ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
        ]);
        let stats = read(|_| Some(scratch.path())).unwrap();
        assert_eq!(stats.pids, Some(Pids { current: 3, limit: Limit::Unlimited }));
        assert_eq!((stats.cpu.get("nr_throttled"), stats.cpu.get("throttled_time")), (2, 77));
        let cpuacct = CpuacctV1 {
            usage_nsec: 250_000,
            usage_percpu_nsec: vec![100_000, 150_000],
            user_ticks: 12,
            system_ticks: 13,
        };
        assert_eq!(stats.cpuacct, cpuacct);
        let memory = stats.memory.unwrap();
        assert_eq!((memory.stat.get("total_cache"), memory.oom_control.get("oom_kill")), (2, 6));
        assert_eq!(memory.usage.limit_bytes, 9_223_372_036_854_771_712);
        assert_eq!((memory.swap.usage_bytes, memory.kernel.max_bytes, memory.kernel_tcp.failures), (21, 22, 23));
        let (reads, total) = (&stats.io_serviced[0], &stats.io_serviced[1]);
        assert_eq!((reads.operation.as_str(), reads.value, total.operation.as_str()), ("Read", 5, "Total"));
        assert_eq!(stats.io_serviced.len(), 2);
        assert_eq!(stats.rdma.unwrap().current[0].handles, Some(2));
    }

    #[test]
    fn without_directories_there_is_no_cgroup() {
        assert_eq!(read(|_| Some(Path::new("/nowhere"))).unwrap_err().to_string(), "cgroup does not exist");
        assert_eq!(read(|_| None).unwrap_err().kind(), crate::Kind::NotFound);
    }

    #[test]
    fn devices_have_the_names_of_the_kernel() {
        let table = "major minor  #blocks  name\n\n 259        0   52428800 vda\n 259        1 1 vda1\n";
        assert_eq!(partition(table, 259, 1), Some("vda1"));
        assert_eq!(partition(table, 0, 259), None);
    }
}
