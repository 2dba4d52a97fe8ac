//! v2's statistics as containerd's message; times in microseconds.

use config::resources::Limit;
use containerd_shim_protos::cgroups_v2::metrics as proto;
use containerd_shim_protos::protobuf::MessageField;
use runtime_core::cgroup::stats::{
    HugetlbV2, IoEntry, Keyed, MemoryV2, Pids, Pressure, PressureLine, RdmaEntry, RdmaStats, StatsV2,
};

/// The message.
pub(super) fn metrics(stats: &StatsV2) -> proto::Metrics {
    let io = proto::IOStat {
        usage: stats.io.iter().map(io_entry).collect(),
        psi: stats.io_pressure.map(pressure).into(),
        ..Default::default()
    };
    proto::Metrics {
        pids: MessageField::some(pids(stats.pids)),
        cpu: MessageField::some(cpu(&stats.cpu, stats.cpu_pressure)),
        memory: MessageField::some(memory(&stats.memory)),
        rdma: MessageField::some(stats.rdma.as_ref().map(rdma).unwrap_or_default()),
        io: MessageField::some(io),
        hugetlb: stats.hugetlb.iter().map(hugetlb).collect(),
        memory_events: (!stats.memory_events.is_empty()).then(|| memory_events(&stats.memory_events)).into(),
        ..Default::default()
    }
}

/// `max` is the largest number; no file is 0.
fn limit(limit: Option<Limit>) -> u64 {
    match limit {
        None => 0,
        Some(Limit::Unlimited) => u64::MAX,
        Some(Limit::At(limit)) => limit,
    }
}

fn pids(pids: Option<Pids>) -> proto::PidsStat {
    let current = pids.map_or(0, |pids| pids.current);
    proto::PidsStat { current, limit: limit(pids.map(|pids| pids.limit)), ..Default::default() }
}

fn cpu(stat: &Keyed, psi: Option<Pressure>) -> proto::CPUStat {
    proto::CPUStat {
        usage_usec: stat.get("usage_usec"),
        user_usec: stat.get("user_usec"),
        system_usec: stat.get("system_usec"),
        nr_periods: stat.get("nr_periods"),
        nr_throttled: stat.get("nr_throttled"),
        throttled_usec: stat.get("throttled_usec"),
        psi: psi.map(pressure).into(),
        nr_bursts: stat.get("nr_bursts"),
        burst_usec: stat.get("burst_usec"),
        ..Default::default()
    }
}

fn memory(memory: &MemoryV2) -> proto::MemoryStat {
    let get = |key| memory.stat.get(key);
    proto::MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: both(&memory.stat, "workingset_refault"),
        workingset_activate: both(&memory.stat, "workingset_activate"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: memory.current_bytes,
        usage_limit: limit(memory.max_bytes),
        swap_usage: memory.swap_current_bytes,
        swap_limit: limit(memory.swap_max_bytes),
        max_usage: memory.peak_bytes,
        swap_max_usage: memory.swap_peak_bytes,
        psi: memory.pressure.map(pressure).into(),
        ..Default::default()
    }
}

/// Linux 5.9 has split these into `_anon` and `_file`; the message has one field for both.
fn both(stat: &Keyed, key: &str) -> u64 {
    let split = ["_anon", "_file"].map(|kind| stat.get(&format!("{key}{kind}")));
    stat.get(key) + split[0] + split[1]
}

fn memory_events(events: &Keyed) -> proto::MemoryEvents {
    proto::MemoryEvents {
        low: events.get("low"),
        high: events.get("high"),
        max: events.get("max"),
        oom: events.get("oom"),
        oom_kill: events.get("oom_kill"),
        oom_group_kill: events.get("oom_group_kill"),
        ..Default::default()
    }
}

fn pressure(pressure: Pressure) -> proto::PSIStats {
    let line = |line: PressureLine| proto::PSIData {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total_usec,
        ..Default::default()
    };
    proto::PSIStats { some: pressure.some.map(line).into(), full: pressure.full.map(line).into(), ..Default::default() }
}

fn io_entry(entry: &IoEntry) -> proto::IOEntry {
    proto::IOEntry {
        major: entry.major,
        minor: entry.minor,
        rbytes: entry.read_bytes,
        wbytes: entry.written_bytes,
        rios: entry.reads,
        wios: entry.writes,
        ..Default::default()
    }
}

fn hugetlb(stats: &HugetlbV2) -> proto::HugeTlbStat {
    proto::HugeTlbStat {
        current: stats.current_bytes,
        max: limit(stats.max_bytes),
        pagesize: stats.page_size.clone(),
        failcnt: stats.failures,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_it_is_the_largest_number_and_without_a_file_nothing() {
        assert_eq!([None, Some(Limit::Unlimited), Some(Limit::At(7))].map(limit), [0, u64::MAX, 7]);
        let metrics = metrics(&StatsV2::default());
        assert!(metrics.memory_events.is_none() && metrics.cpu.psi.is_none());
        assert!(metrics.io.is_some() && metrics.rdma.is_some() && metrics.pids.limit == 0);
    }
}
