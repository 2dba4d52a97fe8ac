//! v1's statistics as containerd's message; times in nanoseconds.

use config::resources::Limit;
use containerd_shim_protos::cgroups::metrics as proto;
use containerd_shim_protos::protobuf::MessageField;
use runtime_core::cgroup::stats::{
    BlkioEntry, Counter, CpuacctV1, HugetlbV1, Keyed, MemoryV1, Pids, RdmaEntry, RdmaStats, StatsV1,
};

/// A clock tick, which is a hundredth of a second on every architecture that has containers.
const TICK_NSEC: u64 = 10_000_000;

/// The message.
pub(super) fn metrics(stats: &StatsV1) -> proto::Metrics {
    proto::Metrics {
        hugetlb: stats.hugetlb.iter().map(hugetlb).collect(),
        pids: stats.pids.map(pids).into(),
        cpu: MessageField::some(cpu(&stats.cpu, &stats.cpuacct)),
        memory: stats.memory.as_ref().map(memory).into(),
        blkio: stats.has_blkio.then(|| blkio(stats)).into(),
        rdma: stats.rdma.as_ref().map(rdma).into(),
        memory_oom_control: stats.memory.as_ref().map(|memory| oom_control(&memory.oom_control)).into(),
        ..Default::default()
    }
}

fn pids(pids: Pids) -> proto::PidsStat {
    let limit = match pids.limit {
        Limit::Unlimited => 0,
        Limit::At(limit) => limit,
    };
    proto::PidsStat { current: pids.current, limit, ..Default::default() }
}

fn cpu(stat: &Keyed, cpuacct: &CpuacctV1) -> proto::CPUStat {
    let usage = proto::CPUUsage {
        total: cpuacct.usage_nsec,
        kernel: cpuacct.system_ticks.saturating_mul(TICK_NSEC),
        user: cpuacct.user_ticks.saturating_mul(TICK_NSEC),
        per_cpu: cpuacct.usage_percpu_nsec.clone(),
        ..Default::default()
    };
    let throttling = proto::Throttle {
        periods: stat.get("nr_periods"),
        throttled_periods: stat.get("nr_throttled"),
        throttled_time: stat.get("throttled_time"),
        ..Default::default()
    };
    proto::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..Default::default()
    }
}

fn memory(memory: &MemoryV1) -> proto::MemoryStat {
    let get = |key| memory.stat.get(key);
    let entry = |counter| MessageField::some(entry(counter));
    proto::MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry(memory.usage),
        swap: entry(memory.swap),
        kernel: entry(memory.kernel),
        kernel_tcp: entry(memory.kernel_tcp),
        ..Default::default()
    }
}

fn entry(counter: Counter) -> proto::MemoryEntry {
    proto::MemoryEntry {
        limit: counter.limit_bytes,
        usage: counter.usage_bytes,
        max: counter.max_bytes,
        failcnt: counter.failures,
        ..Default::default()
    }
}

fn oom_control(file: &Keyed) -> proto::MemoryOomControl {
    proto::MemoryOomControl {
        oom_kill_disable: file.get("oom_kill_disable"),
        under_oom: file.get("under_oom"),
        oom_kill: file.get("oom_kill"),
        ..Default::default()
    }
}

/// Queues, waits and merges were counted by CFQ, which Linux 5.0 has dropped.
fn blkio(stats: &StatsV1) -> proto::BlkIOStat {
    proto::BlkIOStat {
        io_service_bytes_recursive: stats.io_service_bytes.iter().map(blkio_entry).collect(),
        io_serviced_recursive: stats.io_serviced.iter().map(blkio_entry).collect(),
        ..Default::default()
    }
}

fn blkio_entry(entry: &BlkioEntry) -> proto::BlkIOEntry {
    proto::BlkIOEntry {
        op: entry.operation.clone(),
        device: entry.device.clone(),
        major: entry.major,
        minor: entry.minor,
        value: entry.value,
        ..Default::default()
    }
}

fn hugetlb(stats: &HugetlbV1) -> proto::HugetlbStat {
    proto::HugetlbStat {
        usage: stats.usage_bytes,
        max: stats.max_bytes,
        failcnt: stats.failures,
        pagesize: stats.page_size.clone(),
        ..Default::default()
    }
}

fn rdma(stats: &RdmaStats) -> proto::RdmaStat {
    let all = |entries: &[RdmaEntry]| entries.iter().map(rdma_entry).collect();
    proto::RdmaStat { current: all(&stats.current), limit: all(&stats.limit), ..Default::default() }
}

fn rdma_entry(entry: &RdmaEntry) -> proto::RdmaEntry {
    proto::RdmaEntry {
        device: entry.device.clone(),
        hca_handles: entry.handles.unwrap_or(u32::MAX),
        hca_objects: entry.objects.unwrap_or(u32::MAX),
        ..Default::default()
    }
}
