//! Where `oci_spec` 0.10 reads less than the specification (config.md, config-linux.md, its schema and Go types, version 1.3)
//! allows: the document is changed into one that it reads as the specification means it.
//!
//! | member | the specification | `oci_spec` | here |
//! |---|---|---|---|
//! | any that is `null` | Go reads it as absent | refuses it where it has a default | taken out |
//! | `process.user` | may be absent | refuses that | an empty one: root |
//! | `process.capabilities` | unknown ones are for a newer kernel | refuses them | left out, with a warning |
//! | `process.scheduler.flags` | two names | two others | its own |
//! | `process.execCPUAffinity.*` | may be empty, may have blanks | refuses both | without blanks; an empty one is taken out |
//! | `linux.resources.devices[].type` | may be empty: all devices, as absent | refuses it | taken out |
//! | `linux.resources.pids.limit` | absent: no limit; Go may write that | 0, which is one process | `pids` is taken out |
//! | `linux.resources.hugepageLimits[].limit` | uint64 | int64 | the greatest int64, which the kernel takes for the same |
//!
//! What it reads as 0 and the specification requires is [`super::required`]'s. Elsewhere the ranges are the same.

use oci_spec::runtime as oci;
use serde_json::Value;

use crate::refuse::token;

/// Objects whose members are named by the client: an empty value is not an absent one.
const MAPS: [&str; 5] =
    ["/annotations", "/linux/netDevices", "/linux/resources/rdma", "/linux/resources/unified", "/linux/sysctl"];

/// Changes `document`, which stands at `place` of config.json; whether there was something to change.
pub(super) fn amend(document: &mut Value, place: &str) -> bool {
    let mut changed = drop_nulls(document, place);
    if let Some(process) = member(document, place, "/process").and_then(Value::as_object_mut)
        && !process.contains_key("user")
    {
        process.insert("user".to_owned(), Value::Object(serde_json::Map::new()));
        changed = true;
    }
    if let Some(capabilities) = member(document, place, "/process/capabilities") {
        changed |= drop_unknown_capabilities(capabilities);
    }
    if let Some(flags) = member(document, place, "/process/scheduler/flags") {
        changed |= rename_flags(flags);
    }
    if let Some(affinity) = member(document, place, "/process/execCPUAffinity") {
        changed |= drop_blanks(affinity);
    }
    if let Some(resources) = member(document, place, "/linux/resources").and_then(Value::as_object_mut) {
        let unlimited =
            resources.get("pids").and_then(Value::as_object).is_some_and(|pids| !pids.contains_key("limit"));
        changed |= unlimited && resources.remove("pids").is_some();
        changed |= resources.get_mut("devices").is_some_and(drop_empty_types);
        changed |= resources.get_mut("hugepageLimits").is_some_and(lower_limits);
    }
    changed
}

/// What is at `pointer` of config.json, where `document` has it.
fn member<'a>(document: &'a mut Value, place: &str, pointer: &str) -> Option<&'a mut Value> {
    document.pointer_mut(pointer.strip_prefix(place)?)
}

fn drop_nulls(value: &mut Value, pointer: &str) -> bool {
    match value {
        Value::Object(members) if !MAPS.contains(&pointer) => {
            let before = members.len();
            members.retain(|_, member| !member.is_null());
            let dropped = members.len() != before;
            let below =
                |(name, member): (&String, &mut Value)| drop_nulls(member, &(pointer.to_owned() + &token(name)));
            // All of them, whatever the first says.
            members.iter_mut().map(below).fold(dropped, |changed, more| changed | more)
        }
        Value::Array(items) => {
            let below = |item: &mut Value| drop_nulls(item, &format!("{pointer}/-"));
            items.iter_mut().map(below).fold(false, |changed, more| changed | more)
        }
        _ => false,
    }
}

fn drop_unknown_capabilities(capabilities: &mut Value) -> bool {
    let mut changed = false;
    for (kind, set) in capabilities.as_object_mut().into_iter().flatten() {
        if let Some(set) = set.as_array_mut() {
            let before = set.len();
            set.retain(|name| name.as_str().is_none_or(|name| is_known(name, kind)));
            changed |= set.len() != before;
        }
    }
    changed
}

/// Whether `name` is a capability; warns where it is not.
fn is_known(name: &str, set: &str) -> bool {
    let known = serde_json::from_value::<oci::Capability>(Value::from(name)).is_ok();
    if !known {
        log::warn!("/process/capabilities/{set}: {name} is not known here, left out");
    }
    known
}

fn rename_flags(flags: &mut Value) -> bool {
    let mut changed = false;
    for flag in flags.as_array_mut().into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        (*flag, changed) = (Value::from(name), true);
    }
    changed
}

fn drop_blanks(affinity: &mut Value) -> bool {
    let mut changed = false;
    for list in affinity.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        match list.as_str().map(|text| text.replace(' ', "")) {
            Some(text) if text.is_empty() => (*list, changed) = (Value::Null, true),
            Some(text) if list != &text => (*list, changed) = (Value::from(text), true),
            _ => {}
        }
    }
    changed
}

fn drop_empty_types(devices: &mut Value) -> bool {
    let mut changed = false;
    for device in devices.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        changed |= device.get("type").is_some_and(|kind| kind == "") && device.remove("type").is_some();
    }
    changed
}

/// The kernel counts pages in an int64, and whatever is more than that is no limit: mm/page_counter.c, `page_counter_memparse`.
fn lower_limits(limits: &mut Value) -> bool {
    let mut changed = false;
    for limit in limits.as_array_mut().into_iter().flatten().filter_map(|entry| entry.get_mut("limit")) {
        if limit.as_u64().is_some_and(|bytes| i64::try_from(bytes).is_err()) {
            (*limit, changed) = (Value::from(i64::MAX), true);
        }
    }
    changed
}
