//! Members that the specification requires and `oci_spec` reads as 0, or as the first of a set, where they are absent: a misspelt
//! `hard` would become a limit of nothing. Go's types write all of them always.
//!
//! Absence cannot be seen once a document is read, only a default can. So whoever has one of these is looked at again.
//!
//! Not among them, for an absent one is what it should be: `user.uid` and `gid` (root; the schema lets them be absent),
//! `resources.devices[].allow` (denied) and what `consoleSize` has (a terminal whose size nobody has set).

use oci_spec::runtime as oci;
use serde_json::Value;

use crate::refuse::Refusal;

const MAPPING: &[&str] = &["containerID", "hostID", "size"];
const DEVICE: &[&str] = &["major", "minor"];
const THROTTLE: &[&str] = &["major", "minor", "rate"];

/// Objects by their pointers into config.json, `*` being each element, and what they must have.
const REQUIRED: [(&str, &[&str]); 14] = [
    ("/mounts/*/uidMappings/*", MAPPING),
    ("/mounts/*/gidMappings/*", MAPPING),
    ("/process/rlimits/*", &["soft", "hard"]),
    ("/process/ioPriority", &["class"]),
    ("/linux/uidMappings/*", MAPPING),
    ("/linux/gidMappings/*", MAPPING),
    ("/linux/devices/*", DEVICE),
    ("/linux/resources/hugepageLimits/*", &["limit"]),
    ("/linux/resources/network/priorities/*", &["priority"]),
    ("/linux/resources/blockIO/weightDevice/*", DEVICE),
    ("/linux/resources/blockIO/throttleReadBpsDevice/*", THROTTLE),
    ("/linux/resources/blockIO/throttleWriteBpsDevice/*", THROTTLE),
    ("/linux/resources/blockIO/throttleReadIOPSDevice/*", THROTTLE),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice/*", THROTTLE),
];

/// Refuses `document`, which stands at `place` of config.json, where something is missing.
pub(super) fn check(document: &Value, place: &str) -> Result<(), Refusal> {
    for (pattern, names) in REQUIRED {
        if let Some(pattern) = pattern.strip_prefix(place) {
            check_each(document, pattern, names, "")?;
        }
    }
    Ok(())
}

/// `pointer` is where `value` stands, `pattern` the way on from there.
fn check_each(value: &Value, pattern: &str, names: &[&str], pointer: &str) -> Result<(), Refusal> {
    let Some(rest) = pattern.strip_prefix('/') else {
        // A fifo has no number.
        let needs_none = names == DEVICE && value.get("type").is_some_and(|kind| kind == "p");
        let missing = |name: &&&str| value.is_object() && value.get(name).is_none();
        return match names.iter().find(missing).filter(|_| !needs_none) {
            Some(name) => Err(Refusal::new(format!("{pointer}/{name}"), "missing")),
            None => Ok(()),
        };
    };
    let (step, on) = rest.find('/').map_or((rest, ""), |end| rest.split_at(end));
    if step == "*" {
        let mut items = value.as_array().into_iter().flatten().enumerate();
        return items.try_for_each(|(index, item)| check_each(item, on, names, &format!("{pointer}/{index}")));
    }
    value.get(step).map_or(Ok(()), |member| check_each(member, on, names, &format!("{pointer}/{step}")))
}

/// Whether something in `spec` may be absent.
pub(super) fn in_spec(spec: &oci::Spec) -> bool {
    let mounts = spec.mounts().iter().flatten();
    let mut mounts = mounts.flat_map(|mount| [mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref()]);
    mounts.any(in_mappings)
        || spec.process().as_ref().is_some_and(in_process)
        || spec.linux().as_ref().is_some_and(|linux| {
            let device = |device: &oci::LinuxDevice| device.major() == 0 || device.minor() == 0;
            in_mappings(linux.uid_mappings().as_ref())
                || in_mappings(linux.gid_mappings().as_ref())
                || linux.devices().iter().flatten().any(device)
                || linux.resources().as_ref().is_some_and(in_resources)
        })
}

pub(super) fn in_process(process: &oci::Process) -> bool {
    process.io_priority().as_ref().is_some_and(|priority| priority.class() == oci::IOPriorityClass::default())
        || process.rlimits().iter().flatten().any(|limit| limit.soft() == 0 || limit.hard() == 0)
}

pub(super) fn in_resources(resources: &oci::LinuxResources) -> bool {
    let network = resources.network().as_ref().and_then(|network| network.priorities().as_ref());
    resources.pids().is_some_and(|pids| pids.limit() == 0)
        || resources.hugepage_limits().iter().flatten().any(|limit| limit.limit() == 0)
        || network.into_iter().flatten().any(|priority| priority.priority() == 0)
        || resources.block_io().as_ref().is_some_and(|block_io| {
            let throttles = [
                block_io.throttle_read_bps_device(),
                block_io.throttle_write_bps_device(),
                block_io.throttle_read_iops_device(),
                block_io.throttle_write_iops_device(),
            ];
            let mut throttles = throttles.into_iter().flatten().flatten();
            let mut weights = block_io.weight_device().iter().flatten();
            throttles.any(|device| device.major() == 0 || device.minor() == 0 || device.rate() == 0)
                || weights.any(|device| device.major() == 0 || device.minor() == 0)
        })
}

fn in_mappings(mappings: Option<&Vec<oci::LinuxIdMapping>>) -> bool {
    let zero = |map: &oci::LinuxIdMapping| map.container_id() == 0 || map.host_id() == 0 || map.size() == 0;
    mappings.into_iter().flatten().any(zero)
}
