//! `oci_spec`'s resources to ours, field by field.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxNetwork,
    LinuxRdma, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::{
    BlockIo, Cpu, DeviceRule, DeviceSet, HugepageLimit, Limit, Memory, Network, Rdma, Resources, Throttle, WeightDevice,
};
use crate::refuse::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

pub(super) fn resources(from: &LinuxResources, pointer: &str) -> Result<Resources> {
    let at = |field: &str| format!("{pointer}/{field}");
    let memory = from.memory().as_ref().map(|memory| self::memory(memory, &at("memory"))).transpose()?;
    let cpu = from.cpu().as_ref().map(|cpu| self::cpu(cpu, &at("cpu"))).transpose()?;
    let block_io = from.block_io().as_ref().map(|block_io| self::block_io(block_io, &at("blockIO"))).transpose()?;
    let network = from.network().as_ref().map(|network| self::network(network, &at("network"))).transpose()?;
    let pids = from.pids().map(|pids| count_limit(pids.limit(), &at("pids/limit"))).transpose()?;
    Ok(Resources {
        devices: from.devices().as_ref().map(|rules| each(rules, &at("devices"), device_rule)).transpose()?,
        memory: memory.unwrap_or_default(),
        cpu: cpu.unwrap_or_default(),
        pids,
        block_io: block_io.unwrap_or_default(),
        hugepages: each_of(from.hugepage_limits().as_ref(), &at("hugepageLimits"), hugepage_limit)?,
        network: network.unwrap_or_default(),
        rdma: rdma(from.rdma().as_ref(), &at("rdma"))?,
        unified: unified(from.unified().as_ref(), &at("unified"))?,
    })
}

fn each<A, B>(items: &[A], pointer: &str, resolve: fn(&A, &str) -> Result<B>) -> Result<Vec<B>> {
    items.iter().enumerate().map(|(index, item)| resolve(item, &format!("{pointer}/{index}"))).collect()
}

fn each_of<A, B>(items: Option<&Vec<A>>, pointer: &str, resolve: fn(&A, &str) -> Result<B>) -> Result<Vec<B>> {
    each(items.map_or(&[], Vec::as_slice), pointer, resolve)
}

/// Absent and 0 are unset, -1 is unlimited.
fn size_limit(value: Option<i64>, pointer: &str) -> Result<Option<Limit>> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => count_limit(value, pointer).map(Some),
    }
}

/// -1 is unlimited, 0 is 0.
fn count_limit(value: i64, pointer: &str) -> Result<Limit> {
    match u64::try_from(value) {
        Ok(value) => Ok(Limit::At(value)),
        Err(_) if value == -1 => Ok(Limit::Unlimited),
        Err(_) => Err(Refusal::new(pointer, format!("{value} is neither -1 nor positive"))),
    }
}

fn unless_zero<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn memory(from: &LinuxMemory, pointer: &str) -> Result<Memory> {
    let at = |field: &str| format!("{pointer}/{field}");
    let limit = size_limit(from.limit(), &at("limit"))?;
    let swap = size_limit(from.swap(), &at("swap"))?;
    if let (Some(Limit::At(limit)), Some(Limit::At(swap))) = (limit, swap)
        && swap < limit
    {
        return Err(Refusal::new(
            at("swap"),
            format!("{swap} for memory and swap together is below the memory limit {limit}"),
        ));
    }
    // Docker's -1 for "not set" arrives as the largest number.
    let swappiness = from.swappiness().filter(|&value| value != u64::MAX);
    let swappiness = swappiness
        .map(|value| u8::try_from(value).ok().filter(|&value| value <= 100).ok_or(value))
        .transpose()
        .map_err(|value| Refusal::new(at("swappiness"), format!("{value} is not within 0 to 100")))?;
    Ok(Memory {
        limit,
        reservation: size_limit(from.reservation(), &at("reservation"))?,
        swap,
        swappiness,
        disable_oom_killer: from.disable_oom_killer().unwrap_or(false),
        check_before_update: from.check_before_update().unwrap_or(false),
    })
}

fn cpu(from: &LinuxCpu, pointer: &str) -> Result<Cpu> {
    let at = |field: &str| format!("{pointer}/{field}");
    // Every negative quota is none, to the kernel of v1 too.
    let quota = unless_zero(from.quota()).map(|quota| u64::try_from(quota).map_or(Limit::Unlimited, Limit::At));
    if let (Some(Limit::At(quota)), Some(burst)) = (quota, from.burst())
        && burst > quota
    {
        return Err(Refusal::new(at("burst"), format!("{burst} is above the quota {quota}")));
    }
    let idle = match from.idle() {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(idle) => return Err(Refusal::new(at("idle"), format!("{idle} is neither 0 nor 1"))),
    };
    Ok(Cpu {
        shares: unless_zero(from.shares()),
        quota,
        burst: from.burst(),
        period: unless_zero(from.period()),
        realtime_runtime: unless_zero(from.realtime_runtime()),
        realtime_period: unless_zero(from.realtime_period()),
        cpus: list(from.cpus().as_ref(), &at("cpus"))?,
        mems: list(from.mems().as_ref(), &at("mems"))?,
        idle,
    })
}

/// A list of numbers and ranges as the kernel reads it; the empty one is unset.
fn list(value: Option<&String>, pointer: &str) -> Result<Option<String>> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_item = |item: &str| item.split_once('-').map_or(is_number(item), |(a, b)| is_number(a) && is_number(b));
    match value.map(String::as_str) {
        None | Some("") => Ok(None),
        Some(value) if value.split(',').all(is_item) => Ok(Some(value.to_owned())),
        Some(value) => Err(Refusal::new(pointer, format!("{value:?} is not a list such as 0-3,7"))),
    }
}

fn device_rule(from: &LinuxDeviceCgroup, pointer: &str) -> Result<DeviceRule> {
    let mut access = 0;
    let letters = from.access().as_deref().filter(|letters| !letters.is_empty());
    for letter in letters.unwrap_or("rwm").chars() {
        access |= match letter {
            'm' => DeviceSet::MKNOD,
            'r' => DeviceSet::READ,
            'w' => DeviceSet::WRITE,
            _ => return Err(Refusal::new(format!("{pointer}/access"), format!("{letter:?} is none of r, w and m"))),
        };
    }
    let (major, minor) =
        (number(from.major(), &format!("{pointer}/major"))?, number(from.minor(), &format!("{pointer}/minor"))?);
    let block = match from.typ().unwrap_or_default() {
        LinuxDeviceType::B => true,
        LinuxDeviceType::C | LinuxDeviceType::U => false,
        LinuxDeviceType::P => return Err(Refusal::new(format!("{pointer}/type"), "a fifo is no device")),
        // The kernel takes such a rule for all devices and every access, whatever else it says.
        LinuxDeviceType::A if major.is_none() && minor.is_none() && access == 7 => {
            return Ok(DeviceRule { allow: from.allow(), device: None });
        }
        LinuxDeviceType::A => {
            return Err(Refusal::new(pointer, "a rule for all types is for all numbers and rwm; name the type c or b"));
        }
    };
    Ok(DeviceRule { allow: from.allow(), device: Some(DeviceSet { block, major, minor, access }) })
}

/// A major or minor number; absent and -1 are every one.
fn number(value: Option<i64>, pointer: &str) -> Result<Option<u32>> {
    value.filter(|&value| value != -1).map(|value| device_number(value, pointer)).transpose()
}

fn device_number(value: i64, pointer: &str) -> Result<u32> {
    u32::try_from(value).map_err(|_| Refusal::new(pointer, format!("{value} is no device number")))
}

fn block_io(from: &LinuxBlockIo, pointer: &str) -> Result<BlockIo> {
    let at = |field: &str| format!("{pointer}/{field}");
    Ok(BlockIo {
        weight: weight(from.weight(), &at("weight"))?,
        leaf_weight: weight(from.leaf_weight(), &at("leafWeight"))?,
        weight_devices: each_of(from.weight_device().as_ref(), &at("weightDevice"), weight_device)?,
        read_bps: each_of(from.throttle_read_bps_device().as_ref(), &at("throttleReadBpsDevice"), throttle)?,
        write_bps: each_of(from.throttle_write_bps_device().as_ref(), &at("throttleWriteBpsDevice"), throttle)?,
        read_iops: each_of(from.throttle_read_iops_device().as_ref(), &at("throttleReadIOPSDevice"), throttle)?,
        write_iops: each_of(from.throttle_write_iops_device().as_ref(), &at("throttleWriteIOPSDevice"), throttle)?,
    })
}

/// The range of v1, which the conversion to v2 starts from.
fn weight(value: Option<u16>, pointer: &str) -> Result<Option<u16>> {
    match unless_zero(value) {
        Some(weight) if !(10..=1000).contains(&weight) => {
            Err(Refusal::new(pointer, format!("{weight} is not within 10 to 1000")))
        }
        weight => Ok(weight),
    }
}

fn weight_device(from: &LinuxWeightDevice, pointer: &str) -> Result<WeightDevice> {
    Ok(WeightDevice {
        major: device_number(from.major(), &format!("{pointer}/major"))?,
        minor: device_number(from.minor(), &format!("{pointer}/minor"))?,
        weight: weight(from.weight(), &format!("{pointer}/weight"))?,
        leaf_weight: weight(from.leaf_weight(), &format!("{pointer}/leafWeight"))?,
    })
}

fn throttle(from: &LinuxThrottleDevice, pointer: &str) -> Result<Throttle> {
    Ok(Throttle {
        major: device_number(from.major(), &format!("{pointer}/major"))?,
        minor: device_number(from.minor(), &format!("{pointer}/minor"))?,
        rate: from.rate(),
    })
}

fn hugepage_limit(from: &LinuxHugepageLimit, pointer: &str) -> Result<HugepageLimit> {
    let page_size = from.page_size();
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| page_size.strip_suffix(unit)).unwrap_or_default();
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::new(format!("{pointer}/pageSize"), format!("{page_size:?} is not a size such as 2MB")));
    }
    let limit = u64::try_from(from.limit())
        .map_err(|_| Refusal::new(format!("{pointer}/limit"), format!("{} is negative", from.limit())))?;
    Ok(HugepageLimit { page_size: page_size.clone(), limit })
}

fn network(from: &LinuxNetwork, pointer: &str) -> Result<Network> {
    let mut priorities = Vec::new();
    for (index, priority) in from.priorities().iter().flatten().enumerate() {
        let name = word(priority.name(), &format!("{pointer}/priorities/{index}/name"))?;
        priorities.push((name, priority.priority()));
    }
    Ok(Network { class_id: unless_zero(from.class_id()), priorities })
}

fn rdma(from: Option<&HashMap<String, LinuxRdma>>, pointer: &str) -> Result<Vec<Rdma>> {
    let mut entries = Vec::new();
    for (device, limits) in from.into_iter().flatten() {
        let pointer = format!("{pointer}/{}", token(device));
        let device = word(device, &pointer)?;
        let (handles, objects) = (limits.hca_handles(), limits.hca_objects());
        if handles.is_none() && objects.is_none() {
            return Err(Refusal::new(pointer, "has neither hcaHandles nor hcaObjects"));
        }
        entries.push(Rdma { device, handles, objects });
    }
    entries.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(entries)
}

fn unified(from: Option<&HashMap<String, String>>, pointer: &str) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for (name, value) in from.into_iter().flatten() {
        let pointer = format!("{pointer}/{}", token(name));
        let is_file_name =
            name.split_once('.').is_some_and(|(controller, file)| !controller.is_empty() && !file.is_empty());
        if !is_file_name || name.contains(['/', '\0']) || name.contains("..") {
            return Err(Refusal::new(pointer, "is no file name of the form CONTROLLER.PARAMETER"));
        }
        files.push((name.clone(), value.clone()));
    }
    files.sort();
    Ok(files)
}

/// Text that stands between blanks in a kernel file.
fn word(text: &str, pointer: &str) -> Result<String> {
    if text.is_empty() || text.contains(char::is_whitespace) || text.contains('\0') {
        return Err(Refusal::new(pointer, format!("{text:?} is not a name")));
    }
    Ok(text.to_owned())
}

/// A key as a part of a JSON pointer, RFC 6901.
fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<Resources> {
        resources(&serde_json::from_str(json).unwrap(), "/r")
    }

    fn refused_at(json: &str, pointer: &str) {
        assert_eq!(resolve(json).unwrap_err().pointer, pointer, "{json}");
    }

    #[test]
    fn zeroes_that_clients_send_for_absent_are_absent() {
        let json = r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": false},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}, "blockIO": {"weight": 0},
            "network": {"classID": 0}}"#;
        assert_eq!(resolve(json).unwrap(), Resources::default());
    }

    #[test]
    fn limits() {
        let memory = resolve(r#"{"memory": {"limit": 5, "swap": -1, "swappiness": 0}}"#).unwrap().memory;
        assert_eq!(
            (memory.limit, memory.swap, memory.swappiness),
            (Some(Limit::At(5)), Some(Limit::Unlimited), Some(0))
        );
        for (json, limit) in [("0", Limit::At(0)), ("-1", Limit::Unlimited), ("7", Limit::At(7))] {
            assert_eq!(resolve(&format!(r#"{{"pids": {{"limit": {json}}}}}"#)).unwrap().pids, Some(limit));
        }
        let cpu = resolve(r#"{"cpu": {"quota": -5, "burst": 9, "idle": 1, "cpus": "0-3,7"}}"#).unwrap().cpu;
        assert_eq!((cpu.quota, cpu.burst, cpu.idle), (Some(Limit::Unlimited), Some(9), Some(true)));
        assert_eq!(cpu.cpus.as_deref(), Some("0-3,7"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        refused_at(r#"{"memory": {"limit": -2}}"#, "/r/memory/limit");
        refused_at(r#"{"memory": {"limit": 10, "swap": 9}}"#, "/r/memory/swap");
        refused_at(r#"{"memory": {"swappiness": 101}}"#, "/r/memory/swappiness");
        refused_at(r#"{"pids": {"limit": -2}}"#, "/r/pids/limit");
        refused_at(r#"{"cpu": {"quota": 10, "burst": 11}}"#, "/r/cpu/burst");
        refused_at(r#"{"cpu": {"idle": 2}}"#, "/r/cpu/idle");
        refused_at(r#"{"cpu": {"cpus": "0-3\n1"}}"#, "/r/cpu/cpus");
        refused_at(r#"{"cpu": {"mems": "0,"}}"#, "/r/cpu/mems");
        refused_at(r#"{"blockIO": {"weight": 9}}"#, "/r/blockIO/weight");
        refused_at(
            r#"{"blockIO": {"throttleReadIOPSDevice": [{"major": -1, "minor": 0, "rate": 1}]}}"#,
            "/r/blockIO/throttleReadIOPSDevice/0/major",
        );
        refused_at(r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#, "/r/hugepageLimits/0/pageSize");
        refused_at(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}"#, "/r/hugepageLimits/0/limit");
        refused_at(r#"{"network": {"priorities": [{"name": "a b", "priority": 1}]}}"#, "/r/network/priorities/0/name");
        refused_at(r#"{"rdma": {"mlx/5": {}}}"#, "/r/rdma/mlx~15");
        for name in ["memory/max", "..", "a..b", "max", ".max", "memory."] {
            refused_at(&format!(r#"{{"unified": {{"{name}": "1"}}}}"#), &format!("/r/unified/{}", token(name)));
        }
        refused_at(
            r#"{"devices": [{"allow": true}, {"allow": true, "type": "c", "access": "rx"}]}"#,
            "/r/devices/1/access",
        );
        refused_at(r#"{"devices": [{"allow": true, "major": 8, "access": "rwm"}]}"#, "/r/devices/0");
        refused_at(r#"{"devices": [{"allow": true, "type": "p", "access": "r"}]}"#, "/r/devices/0/type");
    }

    #[test]
    fn device_rules() {
        let json = r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "access": "rw"},
            {"allow": true, "type": "b", "major": 8, "minor": -1}]}"#;
        let character =
            DeviceSet { block: false, major: Some(10), minor: None, access: DeviceSet::READ | DeviceSet::WRITE };
        let block = DeviceSet { block: true, major: Some(8), minor: None, access: 7 };
        assert_eq!(
            resolve(json).unwrap().devices.unwrap(),
            [
                DeviceRule { allow: false, device: None },
                DeviceRule { allow: true, device: Some(character) },
                DeviceRule { allow: true, device: Some(block) },
            ]
        );
        assert_eq!(resolve("{}").unwrap().devices, None);
    }

    #[test]
    fn maps_come_out_sorted() {
        let resources = resolve(
            r#"{"unified": {"pids.max": "9", "memory.high": "1"},
            "rdma": {"b": {"hcaObjects": 1}, "a": {"hcaHandles": 2, "hcaObjects": 3}}}"#,
        );
        let Resources { unified, rdma, .. } = resources.unwrap();
        assert_eq!(unified, [("memory.high".into(), "1".into()), ("pids.max".into(), "9".into())]);
        assert_eq!(rdma.iter().map(|entry| entry.device.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
