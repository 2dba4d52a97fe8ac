//! cgroup v1: resources as its files take them, and what a new cpuset needs; Documentation/admin-guide/cgroup-v1.

use std::path::Path;

use config::resources::{BlockIo, Cpu, DeviceRule, DeviceSet, Limit, Memory, Network, Resources, Throttle};
use nix::errno::Errno;

use super::devices;
use super::write::{Write, put};
use crate::error::{Error, Kind, Result};

/// All that `resources` of a new container ask for. Pure.
pub(super) fn writes(resources: &Resources) -> Result<Vec<Write>> {
    if let Some((file, _)) = resources.unified.first() {
        return Err(Error::new(Kind::Unimplemented, format!("unified resource {file}: this host has cgroup v1")));
    }
    let mut writes = device_writes(resources.devices.as_deref().unwrap_or_default());
    memory(&resources.memory, &mut writes);
    cpu(&resources.cpu, &mut writes);
    writes.extend(resources.pids.map(|limit| Write::new("pids.max", super::pids_max(limit))));
    block_io(&resources.block_io, &mut writes);
    for huge in &resources.hugepages {
        let file = |kind| format!("hugetlb.{}{kind}.limit_in_bytes", huge.page_size);
        writes.push(Write::new(file(""), huge.limit));
        writes.push(Write::new(file(".rsvd"), huge.limit).or_skip());
    }
    network(&resources.network, &mut writes);
    writes.extend(resources.rdma.iter().map(super::rdma_max));
    Ok(writes)
}

fn device_writes(rules: &[DeviceRule]) -> Vec<Write> {
    let file = |rule: &DeviceRule| if rule.allow { "devices.allow" } else { "devices.deny" };
    devices::effective(rules).iter().map(|rule| Write::new(file(rule), device_text(rule.device))).collect()
}

fn device_text(device: Option<DeviceSet>) -> String {
    let Some(device) = device else { return "a".into() };
    let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
    let letters = [(DeviceSet::READ, 'r'), (DeviceSet::WRITE, 'w'), (DeviceSet::MKNOD, 'm')];
    let access: String = letters.iter().filter(|(bit, _)| device.access & bit != 0).map(|(_, letter)| letter).collect();
    let kind = if device.block { 'b' } else { 'c' };
    format!("{kind} {}:{} {access}", number(device.major), number(device.minor))
}

/// -1 is no limit.
fn text(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "-1".into(),
        Limit::At(value) => value.to_string(),
    }
}

fn memory(memory: &Memory, writes: &mut Vec<Write>) {
    writes.extend(memory.limit.map(|limit| Write::new("memory.limit_in_bytes", text(limit))));
    // Without a word about swap, no limit on memory is no limit on both.
    let swap = memory.swap.or(memory.limit.filter(|limit| *limit == Limit::Unlimited));
    writes.extend(swap.map(|limit| {
        let write = Write::new("memory.memsw.limit_in_bytes", text(limit));
        // A kernel that does not account swap does not limit it either.
        if limit == Limit::Unlimited { write.or_skip() } else { write }
    }));
    writes.extend(memory.reservation.map(|limit| Write::new("memory.soft_limit_in_bytes", text(limit))));
    writes.extend(memory.disable_oom_killer.then(|| Write::new("memory.oom_control", 1)));
    writes.extend(memory.swappiness.map(|swappiness| Write::new("memory.swappiness", swappiness)));
}

fn cpu(cpu: &Cpu, writes: &mut Vec<Write>) {
    writes.extend(cpu.realtime_period.map(|period| Write::new("cpu.rt_period_us", period)));
    writes.extend(cpu.realtime_runtime.map(|runtime| Write::new("cpu.rt_runtime_us", runtime)));
    writes.extend(cpu.shares.map(|shares| Write::new("cpu.shares", shares)));
    writes.extend(cpu.period.map(|period| Write::new("cpu.cfs_period_us", period)));
    writes.extend(cpu.quota.map(|quota| Write::new("cpu.cfs_quota_us", text(quota))));
    writes.extend(cpu.burst.map(|burst| {
        let write = Write::new("cpu.cfs_burst_us", burst);
        // Linux 5.14. Without it there is no burst.
        if burst == 0 { write.or_skip() } else { write }
    }));
    writes.extend(cpu.idle.map(|idle| {
        let write = Write::new("cpu.idle", u8::from(idle));
        // Linux 5.15. Without it no group is idle.
        if idle { write } else { write.or_skip() }
    }));
    writes.extend(cpu.cpus.as_ref().map(|cpus| Write::new("cpuset.cpus", cpus)));
    writes.extend(cpu.mems.as_ref().map(|mems| Write::new("cpuset.mems", mems)));
}

/// The weight files are BFQ's where CFQ's are gone (Linux 5.0).
fn block_io(block_io: &BlockIo, writes: &mut Vec<Write>) {
    let weight = |file: &str, value: String| {
        Write::new(format!("blkio.{file}"), &value).or(Write::new(format!("blkio.bfq.{file}"), value))
    };
    writes.extend(block_io.weight.map(|value| weight("weight", value.to_string())));
    writes.extend(block_io.leaf_weight.map(|value| Write::new("blkio.leaf_weight", value)));
    for device in &block_io.weight_devices {
        let text = |value| format!("{}:{} {value}", device.major, device.minor);
        writes.extend(device.weight.map(|value| weight("weight_device", text(value))));
        writes.extend(device.leaf_weight.map(|value| Write::new("blkio.leaf_weight_device", text(value))));
    }
    let throttles: [(&str, &[Throttle]); 4] = [
        ("read_bps", &block_io.read_bps),
        ("write_bps", &block_io.write_bps),
        ("read_iops", &block_io.read_iops),
        ("write_iops", &block_io.write_iops),
    ];
    for (name, throttles) in throttles {
        for Throttle { major, minor, rate } in throttles {
            writes.push(Write::new(format!("blkio.throttle.{name}_device"), format!("{major}:{minor} {rate}")));
        }
    }
}

fn network(network: &Network, writes: &mut Vec<Write>) {
    writes.extend(network.class_id.map(|class| Write::new("net_cls.classid", class)));
    let priority = |(name, priority): &(String, u32)| Write::new("net_prio.ifpriomap", format!("{name} {priority}"));
    writes.extend(network.priorities.iter().map(priority));
}

/// Gives a cpuset without CPUs or memory nodes those of its parent, and the parent before, up to the hierarchy's `root`: no
/// task may join while they are empty, and a new cpuset starts so.
pub(super) fn inherit_cpuset(directory: &Path, root: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherited(directory, root, file)?;
    }
    Ok(())
}

fn inherited(directory: &Path, root: &Path, file: &str) -> Result<String> {
    let path = directory.join(file);
    let value =
        std::fs::read_to_string(&path).map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    let parent = directory.parent().filter(|parent| parent.starts_with(root));
    match parent {
        Some(parent) if value.trim().is_empty() => {
            let value = inherited(parent, root, file)?;
            let failed = |errno: Errno| Error::sys(format_args!("write {} to {}", value.trim(), path.display()), errno);
            put(&path, value.trim()).map_err(failed)?;
            Ok(value)
        }
        _ => Ok(value),
    }
}
