//! A unit's properties, from the same values that go to the files, so that systemd, which may write them again whenever it is
//! reloaded, writes what holds; systemd.resource-control(5). Pure.
//!
//! What has no property here (throttles of devices, huge pages, rdma, bursts, idle groups before systemd 252) is left to the files: with `Delegate` systemd does
//! not touch those.

use config::resources::{DeviceRule, DeviceSet, Resources};
use zbus::Variant;

use super::is_slice;
use crate::cgroup::write::{Missing, Write};
use crate::cgroup::{devices, late_pids_max};
use crate::error::{Error, Kind, Result};

/// Name and value, as StartTransientUnit takes them.
pub(in crate::cgroup) type Property = (String, Variant<'static>);

/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;
/// `cpu.max`'s own default, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// What every unit of ours has.
pub(super) fn of_unit(slice: &str, name: &str) -> Vec<Property> {
    let mut properties = vec![property("Description", format!("container {name}"))];
    if is_slice(name) {
        properties.push(property("Wants", vec![slice.to_owned()]));
    } else {
        properties.push(property("Slice", slice.to_owned()));
        properties.push(property("Delegate", true));
    }
    let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
    properties.extend(accounting.map(|name| property(name, true)));
    properties.push(property("DefaultDependencies", false));
    // A failed unit (its processes were killed for lack of memory) is not kept for somebody to look at.
    properties.push(property("CollectMode", "inactive-or-failed"));
    properties
}

/// What limits `resources`, whose `writes` these are.
pub(super) fn of_resources(resources: &Resources, writes: &[Write]) -> Result<Vec<Property>> {
    let mut properties = device_properties(resources.devices.as_deref().unwrap_or_default());
    set(&mut properties, of_limits(resources, writes)?);
    Ok(properties)
}

/// What changes with `resources` of an update, whose `writes` these are.
pub(in crate::cgroup) fn of_update(resources: &Resources, writes: &[Write]) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    if let Some(rules) = &resources.devices {
        // A list is added to the one that is there, an empty one takes its place.
        properties.push(property("DeviceAllow", Vec::<(String, String)>::new()));
        properties.extend(device_properties(rules));
    }
    properties.extend(of_limits(resources, writes)?);
    Ok(properties)
}

fn of_limits(resources: &Resources, writes: &[Write]) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    for write in writes {
        set(&mut properties, of_write(write)?);
    }
    // The file leaves room for init's stages at first.
    if let Some(limit) = late_pids_max(resources).and_then(|limit| limit.parse::<u64>().ok()) {
        set(&mut properties, vec![property("TasksMax", limit)]);
    }
    set(&mut properties, v1_quota(writes)?);
    Ok(properties)
}

/// Adds `more`, which wins over what is there.
pub(super) fn set(properties: &mut Vec<Property>, more: Vec<Property>) {
    for (name, value) in more {
        match properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => properties.push((name, value)),
        }
    }
}

fn property(name: &str, value: impl Into<Variant<'static>>) -> Property {
    (name.to_owned(), value.into())
}

/// The properties that stand for one file.
fn of_write(write: &Write) -> Result<Vec<Property>> {
    let limit = |name: &str| Ok(vec![property(name, limit(write)?)]);
    match write.file.as_str() {
        "memory.max" => limit("MemoryMax"),
        "memory.high" => limit("MemoryHigh"),
        "memory.low" => limit("MemoryLow"),
        "memory.min" => limit("MemoryMin"),
        "memory.swap.max" => limit("MemorySwapMax"),
        "memory.limit_in_bytes" => limit("MemoryLimit"),
        "pids.max" => limit("TasksMax"),
        "cpu.weight" => limit("CPUWeight"),
        "cpu.shares" => limit("CPUShares"),
        "cpuset.cpus" => set_of_numbers("AllowedCPUs", write),
        "cpuset.mems" => set_of_numbers("AllowedMemoryNodes", write),
        "cpu.max" => {
            let mut fields = write.value.split_whitespace();
            let quota = number(write, fields.next().unwrap_or_default())?;
            quota_properties(write, quota, fields.next().map_or(Ok(DEFAULT_PERIOD), |period| number(write, period))?)
        }
        "blkio.weight" => limit("BlockIOWeight"),
        "io.weight" | "io.bfq.weight" => io_weight(write),
        _ => Ok(Vec::new()),
    }
}

fn limit(write: &Write) -> Result<u64> {
    number(write, write.value.trim())
}

fn number(write: &Write, text: &str) -> Result<u64> {
    match text {
        "max" | "-1" => Ok(INFINITY),
        text => text.parse().map_err(|_| invalid(write)),
    }
}

fn invalid(write: &Write) -> Error {
    Error::new(Kind::Invalid, format!("{} as the value of {}: not to be told to systemd", write.value, write.file))
}

/// v1 has two files for what v2 and systemd have together.
fn v1_quota(writes: &[Write]) -> Result<Vec<Property>> {
    let find = |file: &str| writes.iter().rfind(|write| write.file == file);
    let value = |write: Option<&Write>, absent| write.map_or(Ok(absent), limit);
    let (quota, period) = (find("cpu.cfs_quota_us"), find("cpu.cfs_period_us"));
    match quota.or(period) {
        Some(write) => quota_properties(write, value(quota, INFINITY)?, value(period, DEFAULT_PERIOD)?),
        None => Ok(Vec::new()),
    }
}

/// systemd keeps whole percents of a CPU across a reload. Rounded up, as runc does it, so that a process never gets less than it
/// was promised; the file has the exact value.
fn quota_properties(write: &Write, quota: u64, period: u64) -> Result<Vec<Property>> {
    const PERCENT: u128 = 10_000;
    let per_second = match quota {
        INFINITY => INFINITY,
        quota => {
            let per_second =
                (u128::from(quota) * 1_000_000).checked_div(period.into()).ok_or_else(|| invalid(write))?;
            u64::try_from(per_second.div_ceil(PERCENT) * PERCENT).map_err(|_| invalid(write))?
        }
    };
    Ok(vec![property("CPUQuotaPeriodUSec", period), property("CPUQuotaPerSecUSec", per_second)])
}

/// The weight for all devices; those for single ones are left to the file.
fn io_weight(write: &Write) -> Result<Vec<Property>> {
    if let ("io.bfq.weight", Missing::Instead(other)) = (write.file.as_str(), &write.missing) {
        return of_write(other);
    }
    let weight = write.value.trim();
    let weight = weight.strip_prefix("default ").unwrap_or(weight);
    match weight.parse::<u64>() {
        Ok(weight) if write.file == "io.weight" => Ok(vec![property("IOWeight", weight)]),
        _ => Ok(Vec::new()),
    }
}

/// `0-3,7` as systemd takes it: a bit for each number, the lowest in the first byte.
fn set_of_numbers(name: &str, write: &Write) -> Result<Vec<Property>> {
    // More than any kernel has of either; a number is not to make us allocate at will.
    const MOST: usize = 1 << 16;
    let mut bits: Vec<u8> = Vec::new();
    for range in write.value.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST);
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(invalid(write)) };
        if first > last {
            return Err(invalid(write));
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|number| bits[number / 8] |= 1 << (number % 8));
    }
    Ok(if bits.is_empty() { Vec::new() } else { vec![property(name, bits)] })
}

/// `DevicePolicy` and `DeviceAllow`. systemd's list can only allow, by a device's numbers or all minors of a major: rules that
/// say anything else are left to the container's own program or files whole, for what systemd denies nobody can allow.
fn device_properties(rules: &[DeviceRule]) -> Vec<Property> {
    let rules = devices::effective(rules);
    let allowed: Option<Vec<(String, String)>> = match rules.split_first() {
        Some((first, rest)) if !first.allow => rest.iter().map(allowance).collect(),
        _ => None,
    };
    let policy = if allowed.is_some() { "strict" } else { "auto" };
    vec![property("DevicePolicy", policy), property("DeviceAllow", allowed.unwrap_or_default())]
}

/// `/dev/char/1:3 rwm`, `char-136 rwm`, `char-* m`.
fn allowance(rule: &DeviceRule) -> Option<(String, String)> {
    let device = rule.device.filter(|_| rule.allow)?;
    let kind = if device.block { "block" } else { "char" };
    let path = match (device.major, device.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, None) => format!("{kind}-*"),
        (None, Some(_)) => return None,
    };
    let letters = [(DeviceSet::READ, 'r'), (DeviceSet::WRITE, 'w'), (DeviceSet::MKNOD, 'm')];
    let access = letters.iter().filter(|(bit, _)| device.access & bit != 0).map(|(_, letter)| letter).collect();
    Some((path, access))
}
