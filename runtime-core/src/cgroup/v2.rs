//! cgroup v2: resources as its files take them, converted from the v1 values of the spec, and controllers enabled on the way
//! down; Documentation/admin-guide/cgroup-v2.rst. Device rules have no file: see `device_filter`.

use std::path::{Path, PathBuf};

use config::resources::{BlockIo, Cpu, Limit, Memory, Resources, Throttle};

use super::host::{self, Host};
use super::write::{Write, put};
use crate::error::{Error, Kind, Result};

/// `cpu.max`'s own default.
const DEFAULT_PERIOD: u64 = 100_000;

/// All that `resources` of a new container ask for. Pure. Kind `Unimplemented` for what v2 has no file for.
pub(super) fn writes(resources: &Resources) -> Result<Vec<Write>> {
    refuse_what_v2_lacks(resources)?;
    let mut writes = Vec::new();
    writes.extend(resources.pids.map(|limit| Write::new("pids.max", super::pids_max(limit))));
    memory(&resources.memory, &mut writes)?;
    cpu(&resources.cpu, &mut writes);
    block_io(&resources.block_io, &mut writes);
    for huge in &resources.hugepages {
        writes.push(Write::new(format!("hugetlb.{}.max", huge.page_size), huge.limit));
        writes.push(Write::new(format!("hugetlb.{}.rsvd.max", huge.page_size), huge.limit).or_skip());
    }
    writes.extend(resources.rdma.iter().map(super::rdma_max));
    // Last: what names the file itself wins. A file takes one line by each write.
    for (file, value) in &resources.unified {
        let value = if file == "pids.max" { with_room(value) } else { value.clone() };
        writes.extend(value.lines().map(|line| Write::new(file, line)));
    }
    Ok(writes)
}

/// A limit on processes that init's stages fit in.
fn with_room(limit: &str) -> String {
    limit.trim().parse().map_or_else(|_| limit.to_owned(), |limit| super::pids_max(Limit::At(limit)))
}

fn refuse_what_v2_lacks(resources: &Resources) -> Result<()> {
    let weights = &resources.block_io;
    let leaf_weight =
        weights.leaf_weight.is_some() || weights.weight_devices.iter().any(|device| device.leaf_weight.is_some());
    let lacking = [
        (resources.memory.swappiness.is_some(), "memory/swappiness: cgroup v2 has none"),
        (resources.memory.disable_oom_killer, "memory/disableOOMKiller: cgroup v2 cannot"),
        (resources.cpu.realtime_runtime.is_some(), "cpu/realtimeRuntime: cgroup v2 has none"),
        (resources.cpu.realtime_period.is_some(), "cpu/realtimePeriod: cgroup v2 has none"),
        (leaf_weight, "blockIO/leafWeight: cgroup v2 has none"),
        (resources.network.class_id.is_some(), "network/classID: cgroup v2 has none"),
        (!resources.network.priorities.is_empty(), "network/priorities: cgroup v2 has none"),
    ];
    match lacking.iter().find(|(asked, _)| *asked) {
        Some((_, text)) => Err(Error::new(Kind::Unimplemented, format!("resources/{text}"))),
        None => Ok(()),
    }
}

fn text(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "max".into(),
        Limit::At(value) => value.to_string(),
    }
}

fn memory(memory: &Memory, writes: &mut Vec<Write>) -> Result<()> {
    writes.extend(swap_max(memory)?.map(|limit| {
        let write = Write::new("memory.swap.max", text(limit));
        // Without swap accounting there is nothing to limit, and nothing to forbid.
        if matches!(limit, Limit::Unlimited | Limit::At(0)) { write.or_skip() } else { write }
    }));
    writes.extend(memory.limit.map(|limit| Write::new("memory.max", text(limit))));
    writes.extend(memory.reservation.map(|limit| Write::new("memory.low", text(limit))));
    Ok(())
}

/// Swap alone, where the spec has memory and swap together: as runc converts (opencontainers/cgroups, utils.go,
/// `ConvertMemorySwapToCgroupV2Value`).
fn swap_max(memory: &Memory) -> Result<Option<Limit>> {
    match (memory.limit, memory.swap) {
        (Some(Limit::Unlimited), None) => Ok(Some(Limit::Unlimited)),
        (_, None | Some(Limit::Unlimited)) | (Some(Limit::Unlimited), _) => Ok(memory.swap),
        (Some(Limit::At(limit)), Some(Limit::At(both))) => Ok(Some(Limit::At(both.saturating_sub(limit)))),
        (None, Some(Limit::At(_))) => {
            Err(Error::new(Kind::Invalid, "resources/memory/swap: needs memory/limit, for cgroup v2 counts swap alone"))
        }
    }
}

fn cpu(cpu: &Cpu, writes: &mut Vec<Write>) {
    writes.extend(cpu.shares.map(|shares| Write::new("cpu.weight", cpu_weight(shares))));
    // After the weight: an idle group has none of its own.
    writes.extend(cpu.idle.map(|idle| {
        let write = Write::new("cpu.idle", u8::from(idle));
        // Linux 5.15. Without it no group is idle.
        if idle { write } else { write.or_skip() }
    }));
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = text(cpu.quota.unwrap_or(Limit::Unlimited));
        writes.push(Write::new("cpu.max", format!("{quota} {}", cpu.period.unwrap_or(DEFAULT_PERIOD))));
    }
    writes.extend(cpu.burst.map(|burst| {
        let write = Write::new("cpu.max.burst", burst);
        // Linux 5.14. Without it there is no burst.
        if burst == 0 { write.or_skip() } else { write }
    }));
    writes.extend(cpu.cpus.as_ref().map(|cpus| Write::new("cpuset.cpus", cpus)));
    writes.extend(cpu.mems.as_ref().map(|mems| Write::new("cpuset.mems", mems)));
}

/// Shares (2 to 262144, 1024 being usual) to weight (1 to 10000, 100 being usual), by the curve of runc 1.3.2 and crun 1.23
/// that meets all three points: opencontainers/cgroups, utils.go, `ConvertCPUSharesToCgroupV2Value`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and 10000 by the range of shares"
)]
#[expect(clippy::cast_precision_loss, reason = "shares up to 2^18 are exact")]
fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = log.mul_add(log, 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// BFQ takes the spec's weights (10 to 1000); `io.weight` wants 1 to 10000, by the line of runc
/// (`ConvertBlkIOToIOWeightValue`).
fn block_io(block_io: &BlockIo, writes: &mut Vec<Write>) {
    let io_weight = |weight: u16| 1 + (u64::from(weight) - 10) * 9999 / 990;
    let weight = |whom: &str, weight: u16| {
        let other = Write::new("io.weight", format!("{whom} {}", io_weight(weight)));
        Write::new("io.bfq.weight", format!("{whom} {weight}")).or(other)
    };
    writes.extend(block_io.weight.map(|value| weight("default", value)));
    for device in &block_io.weight_devices {
        writes.extend(device.weight.map(|value| weight(&format!("{}:{}", device.major, device.minor), value)));
    }
    let throttles: [(&str, &[Throttle]); 4] = [
        ("rbps", &block_io.read_bps),
        ("wbps", &block_io.write_bps),
        ("riops", &block_io.read_iops),
        ("wiops", &block_io.write_iops),
    ];
    for (name, throttles) in throttles {
        for Throttle { major, minor, rate } in throttles {
            let rate = if *rate == 0 { "max".into() } else { rate.to_string() };
            writes.push(Write::new("io.max", format!("{major}:{minor} {name}={rate}")));
        }
    }
}

/// Enables every controller of the hierarchy's `root` for `directory`: each cgroup above passes them down. One that is
/// refused (a cgroup above has processes of its own) is left out; a limit that needs it then fails by its file's name.
pub(super) fn enable_controllers(directory: &Path, root: &Path) {
    let controllers = |at: &Path| std::fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
    let all = controllers(root);
    if all.split_whitespace().eq(controllers(directory).split_whitespace()) {
        return;
    }
    let above: Vec<&Path> = directory.ancestors().skip(1).take_while(|above| above.starts_with(root)).collect();
    for above in above.into_iter().rev() {
        let file = above.join("cgroup.subtree_control");
        let enable: Vec<String> = all.split_whitespace().map(|controller| format!("+{controller}")).collect();
        // The kernel takes all or none of one write.
        if !enable.is_empty() && put(&file, &enable.join(" ")).is_err() {
            for one in &enable {
                if let Err(errno) = put(&file, one) {
                    log::debug!("{}", Error::sys(format_args!("write {one} to {}", file.display()), errno));
                }
            }
        }
    }
}

/// The cgroup of `init`, below `directory`, where the container has enabled controllers for cgroups of its own there, as
/// systemd or another engine in it does: then `directory` itself takes no process any more (EBUSY). runc does the same, see
/// its issue 2356.
pub(super) fn beside(init: i32, directory: &Path) -> Option<PathBuf> {
    let enabled = std::fs::read_to_string(directory.join("cgroup.subtree_control")).ok()?;
    let table = std::fs::read_to_string(format!("/proc/{init}/cgroup")).ok()?;
    let own = Host::get().ok()?.hierarchy_of(directory).map(|hierarchy| host::own_directory(hierarchy, &table))?;
    (!enabled.trim().is_empty() && own.starts_with(directory)).then_some(own)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_meet_minimum_default_and_maximum() {
        let weights = [0, 2, 1024, 262_144, u64::MAX].map(cpu_weight);
        assert_eq!(weights, [1, 1, 100, 10_000, 10_000]);
    }

    proptest! {
        #[test]
        fn more_shares_are_no_less_weight(shares in 2_u64..300_000) {
            prop_assert!(cpu_weight(shares) <= cpu_weight(shares + 1));
            prop_assert!((1..=10_000).contains(&cpu_weight(shares)));
        }
    }
}
