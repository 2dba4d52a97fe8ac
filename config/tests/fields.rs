//! Every numeric and every optional member of config.json in the schema of the specification's version 1.3 (config-schema.json,
//! config-linux.json, defs.json, defs-linux.json), as it may be written: absent, `null`, the smallest and the largest number
//! that the schema allows, an empty object. What the schema allows is taken, or refused for a reason of the kernel's; never
//! for the type that it is read into.

use config::Bundle;
use config::resources::{Limit, Resources};
use serde_json::{Value, json};

use crate::common::{remove, resolve, sample, set};

/// A config.json with all of them.
fn full() -> Value {
    let mut spec = sample("ctr-run");
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 65536}]);
    let throttle = json!([{"major": 8, "minor": 16, "rate": 1}]);
    let members = [
        ("/annotations", json!({"a": "b"})),
        ("/hostname", json!("box")),
        ("/domainname", json!("example.org")),
        ("/root/readonly", json!(true)),
        ("/process/apparmorProfile", json!("profile")),
        ("/process/selinuxLabel", json!("label")),
        ("/process/terminal", json!(true)),
        ("/process/consoleSize", json!({"height": 24, "width": 80})),
        ("/process/user", json!({"uid": 1, "gid": 1, "umask": 18, "additionalGids": [1]})),
        ("/process/oomScoreAdj", json!(1)),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": u64::MAX}])),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 1})),
        (
            "/process/scheduler",
            json!({
                "policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "flags": [], "runtime": 2048, "deadline": 4096, "period": 8192,
            }),
        ),
        ("/process/execCPUAffinity", json!({"initial": "0", "final": "0"})),
        ("/hooks", json!({"poststop": [{"path": "/h", "args": ["h"], "env": [], "timeout": 1}]})),
        (
            "/mounts/-",
            json!({
                "destination": "/m", "type": "bind", "source": "/", "options": ["bind"],
                "uidMappings": mapping, "gidMappings": mapping,
            }),
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "user"}, {"type": "time"}, {"type": "network"}, {"type": "uts"}]),
        ),
        ("/linux/mountLabel", json!("label")),
        ("/linux/rootfsPropagation", json!("private")),
        ("/linux/sysctl", json!({"net.a": "1"})),
        ("/linux/uidMappings", mapping.clone()),
        ("/linux/gidMappings", mapping.clone()),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1, "nanosecs": 1}})),
        ("/linux/personality", json!({"domain": "LINUX", "flags": []})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": []})),
        (
            "/linux/devices",
            json!([{
                "type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 438, "uid": 1, "gid": 1,
            }]),
        ),
        ("/linux/netDevices", json!({"eth0": {"name": "eth1"}})),
        (
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": [], "flags": [],
            "listenerMetadata": "",
                "syscalls": [{
                    "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2,
                    "args": [{"index": 1, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_EQ"}],
                }],
            }),
        ),
        (
            "/linux/resources",
            json!({
                "devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
                "pids": {"limit": 7},
                "memory": {
                    "limit": 1, "reservation": 1, "swap": i64::MAX, "kernel": 1, "kernelTCP": 1, "swappiness": 1,
                    "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true,
                },
                "cpu": {
                    "shares": 2, "quota": i64::MAX, "burst": 1, "period": 1, "realtimeRuntime": 1, "realtimePeriod": 1, "idle": 1,
                    "cpus": "0", "mems": "0",
                },
                "blockIO": {
                    "weight": 10, "leafWeight": 10,
                    "weightDevice": [{"major": 8, "minor": 16, "weight": 10, "leafWeight": 10}],
                    "throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
                    "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle,
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]},
                "rdma": {"mlx5_1": {"hcaHandles": 1, "hcaObjects": 1}},
                "unified": {"memory.high": "1"},
            }),
        ),
    ];
    for (pointer, value) in members {
        set(&mut spec, pointer, value);
    }
    spec
}

/// The numbers of a type of the schema, from the smallest to the largest.
type Range = (i64, u64);

const I32: Range = (i32::MIN as i64, i32::MAX as u64);
const I64: Range = (i64::MIN, i64::MAX as u64);
const U16: Range = (0, u16::MAX as u64);
const U32: Range = (0, u32::MAX as u64);
const U64: Range = (0, u64::MAX);
/// `FileMode`
const MODE: Range = (0, 0o777);
/// Of a hook; the schema knows no largest.
const TIMEOUT: Range = (1, i64::MAX as u64);

/// A pointer, in which `*` stands for any text within a token; the range; and what is said of it where it is absent, the smallest
/// and the largest. Nothing is said of what is taken. `…` is the value, and `>` stands in front of what is said of another place.
const NUMBERS: &[(&str, Range, &str, &str, &str)] = &[
    ("/hooks/poststop/0/timeout", TIMEOUT, "", "", ""),
    ("/linux/devices/0/*id", U32, "", "", "… is no id"),
    ("/linux/devices/0/fileMode", MODE, "", "", ""),
    ("/linux/devices/0/major", I64, "missing", "… is not 0 to 4095", "… is not 0 to 4095"),
    ("/linux/devices/0/minor", I64, "missing", "… is not 0 to 1048575", "… is not 0 to 1048575"),
    ("/linux/*Mappings/0/containerID", U32, "missing", "", TOO_MANY),
    ("/linux/*Mappings/0/hostID", U32, "missing", "", TOO_MANY),
    ("/linux/*Mappings/0/size", U32, "missing", "a map of no ids", "… ids from 1000 on are more than there are"),
    ("/linux/resources/blockIO/*/0/m*or", I64, "missing", "… is no device number", "… is no device number"),
    ("/linux/resources/blockIO/throttle*/0/rate", U64, "missing", "", ""),
    ("/linux/resources/blockIO/weightDevice/0/*eight", U16, "", "", "… is not within 10 to 1000"),
    ("/linux/resources/blockIO/*eight", U16, "", "", "… is not within 10 to 1000"),
    ("/linux/resources/cpu/burst", U64, "", "", "… is above the quota 9223372036854775807"),
    ("/linux/resources/cpu/idle", I64, "", "… is neither 0 nor 1", "… is neither 0 nor 1"),
    ("/linux/resources/cpu/*eriod", U64, "", "", ""),
    ("/linux/resources/cpu/quota", I64, "", "", ""),
    ("/linux/resources/cpu/realtimeRuntime", I64, "", "", ""),
    ("/linux/resources/cpu/shares", U64, "", "", ""),
    ("/linux/resources/devices/0/m*or", I64, "", "… is no device number", "… is no device number"),
    ("/linux/resources/hugepageLimits/0/limit", U64, "missing", "", ""),
    ("/linux/resources/memory/kernel*", I64, "", "", ""),
    ("/linux/resources/memory/limit", I64, "", "… is neither -1 nor positive", ""),
    ("/linux/resources/memory/reservation", I64, "", "… is neither -1 nor positive", ""),
    ("/linux/resources/memory/swap", I64, "", "… is neither -1 nor positive", ""),
    ("/linux/resources/memory/swappiness", U64, "", "", ""),
    ("/linux/resources/network/classID", U32, "", "", ""),
    ("/linux/resources/network/priorities/0/priority", U32, "missing", "", ""),
    ("/linux/resources/pids/limit", I64, "", "… is neither -1 nor positive", ""),
    ("/linux/resources/rdma/mlx5_1/hca*", U32, "", "", ""),
    ("/linux/seccomp/defaultErrnoRet", U32, "", "", "… is more than 4095"),
    ("/linux/seccomp/syscalls/0/args/0/index", U32, ">/0: missing field `index`", "", "… is not 0 to 5"),
    ("/linux/seccomp/syscalls/0/args/0/value", U64, ">/0: missing field `value`", "", ""),
    ("/linux/seccomp/syscalls/0/args/0/valueTwo", U64, "", "", ""),
    ("/linux/seccomp/syscalls/0/errnoRet", U32, "", "", "… is more than 4095"),
    ("/linux/timeOffsets/boottime/nanosecs", U32, "", "", "… is not 0 to 999999999"),
    (
        "/linux/timeOffsets/boottime/secs",
        I64,
        "",
        "… is not -4611686018 to 4611686018",
        "… is not -4611686018 to 4611686018",
    ),
    ("/mounts/7/*Mappings/0/containerID", U32, "missing", "", TOO_MANY),
    ("/mounts/7/*Mappings/0/hostID", U32, "missing", "", TOO_MANY),
    ("/mounts/7/*Mappings/0/size", U32, "missing", "a map of no ids", "… ids from 1000 on are more than there are"),
    ("/process/consoleSize/*", U64, "", "", "… is more than 65535"),
    ("/process/ioPriority/priority", I32, "", "… is not 0 to 7", "… is not 0 to 7"),
    ("/process/oomScoreAdj", I32, "", "… is not -1000 to 1000", "… is not -1000 to 1000"),
    ("/process/rlimits/0/hard", U64, "missing", ">/soft: 1 is more than the hard limit …", ""),
    ("/process/rlimits/0/soft", U64, "missing", "", ""),
    ("/process/scheduler/deadline", U64, "", "", ""),
    ("/process/scheduler/nice", I32, "", "… is not -20 to 19", "… is not -20 to 19"),
    ("/process/scheduler/period", U64, "", "", ""),
    ("/process/scheduler/priority", I32, "", "has no meaning for SCHED_DEADLINE", "has no meaning for SCHED_DEADLINE"),
    ("/process/scheduler/runtime", U64, "", "", ""),
    ("/process/user/additionalGids/0", U32, "", "", "… is no id"),
    ("/process/user/umask", U32, "", "", "… has more than permission bits"),
    ("/process/user/*id", U32, "", "", "… is no id"),
];

const TOO_MANY: &str = ">/size: 65536 ids from … on are more than there are";

/// The optional ones that are no numbers, likewise: what is said where it is absent or null, and where it is empty.
const OTHERS: &[(&str, &str, &str)] = &[
    ("/annotations", "", ""),
    ("/domainname", "", ""),
    ("/hooks", "", ""),
    ("/hooks/poststop", "", ""),
    ("/hooks/poststop/0/args", "", ""),
    ("/hooks/poststop/0/env", "", ""),
    ("/hostname", "", ""),
    ("/linux/cgroupsPath", "", ""),
    ("/linux/devices", "", ""),
    ("/linux/gidMappings", "missing: there are uidMappings", "missing: there are uidMappings"),
    ("/linux/maskedPaths", "", ""),
    ("/linux/memoryPolicy", "", "missing field `mode`"),
    ("/linux/memoryPolicy/flags", "", ""),
    ("/linux/mountLabel", "", ""),
    ("/linux/netDevices", "", ""),
    ("/linux/netDevices/eth0/name", "", ""),
    ("/linux/personality", "", "missing field `domain`"),
    ("/linux/personality/flags", "", ""),
    ("/linux/readonlyPaths", "", ""),
    ("/linux/resources", "", ""),
    ("/linux/resources/blockIO", "", ""),
    ("/linux/resources/blockIO/throttleReadBpsDevice", "", ""),
    ("/linux/resources/blockIO/throttleReadIOPSDevice", "", ""),
    ("/linux/resources/blockIO/throttleWriteBpsDevice", "", ""),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice", "", ""),
    ("/linux/resources/blockIO/weightDevice", "", ""),
    ("/linux/resources/cpu", "", ""),
    ("/linux/resources/cpu/cpus", "", ""),
    ("/linux/resources/cpu/mems", "", ""),
    ("/linux/resources/devices", "", ""),
    ("/linux/resources/devices/0/access", "", ""),
    ("/linux/resources/devices/0/allow", "", ""),
    ("/linux/resources/devices/0/type", ALL_TYPES, ALL_TYPES),
    ("/linux/resources/hugepageLimits", "", ""),
    ("/linux/resources/memory", "", ""),
    ("/linux/resources/memory/checkBeforeUpdate", "", ""),
    ("/linux/resources/memory/disableOOMKiller", "", ""),
    ("/linux/resources/memory/useHierarchy", "", ""),
    ("/linux/resources/network", "", ""),
    ("/linux/resources/network/priorities", "", ""),
    ("/linux/resources/pids", "", ""),
    ("/linux/resources/rdma", "", ""),
    ("/linux/resources/unified", "", ""),
    ("/linux/rootfsPropagation", "", ""),
    ("/linux/seccomp", "", "missing field `defaultAction`"),
    ("/linux/seccomp/architectures", "", ""),
    ("/linux/seccomp/flags", "", ""),
    ("/linux/seccomp/listenerMetadata", "", ""),
    ("/linux/seccomp/syscalls", "", ""),
    ("/linux/seccomp/syscalls/0/args", "", ""),
    ("/linux/sysctl", "", ""),
    ("/linux/timeOffsets", "", ""),
    ("/linux/timeOffsets/boottime", "", ""),
    ("/linux/uidMappings", "missing: there are gidMappings", "missing: there are gidMappings"),
    ("/mounts", "", ""),
    ("/mounts/7/gidMappings", "missing: there are uidMappings", "missing: there are uidMappings"),
    ("/mounts/7/options", "", ""),
    ("/mounts/7/type", "", ""),
    ("/mounts/7/uidMappings", "missing: there are gidMappings", "missing: there are gidMappings"),
    ("/process/apparmorProfile", "", ""),
    ("/process/capabilities", "", ""),
    ("/process/capabilities/bounding", "", ""),
    ("/process/consoleSize", "", ""),
    ("/process/env", "", ""),
    ("/process/execCPUAffinity", "", ""),
    ("/process/execCPUAffinity/final", "", ""),
    ("/process/execCPUAffinity/initial", "", ""),
    ("/process/ioPriority", "", "/class: missing"),
    ("/process/noNewPrivileges", "", ""),
    ("/process/rlimits", "", ""),
    ("/process/scheduler", "", "missing field `policy`"),
    ("/process/scheduler/flags", "", ""),
    ("/process/selinuxLabel", "", ""),
    ("/process/terminal", "", ""),
    ("/process/user", "", ""),
    ("/process/user/additionalGids", "", ""),
    ("/root/readonly", "", ""),
];

/// An absent type is every one, whose numbers a rule may not name: the one rule of the full document does.
const ALL_TYPES: &str = ">: a rule for all types is for all numbers and rwm; name the type c or b";

#[test]
fn numbers_absent_null_smallest_and_largest() {
    let mut all = Vec::new();
    numbers(&full(), "", &mut all);
    for pointer in &all {
        let row = NUMBERS.iter().find(|(pattern, ..)| matches(pattern, pointer));
        let (_, (smallest, largest), absent, of_smallest, of_largest) = row.unwrap_or_else(|| panic!("{pointer}"));
        assert_eq!(said(|spec| remove(spec, pointer)), expected(pointer, absent, &Value::Null), "{pointer} absent");
        // Go takes it for a 0 in a list; it is no value of the schema's.
        if !pointer.ends_with("/0") {
            let null = said(|spec| set(spec, pointer, Value::Null));
            assert_eq!(null, expected(pointer, absent, &Value::Null), "{pointer} null");
        }
        for (value, of_it) in [(json!(smallest), of_smallest), (json!(largest), of_largest)] {
            let said = said(|spec| set(spec, pointer, value.clone()));
            assert_eq!(said, expected(pointer, of_it, &value), "{pointer} = {value}");
        }
    }
    for (pattern, ..) in NUMBERS {
        assert!(all.iter().any(|pointer| matches(pattern, pointer)), "{pattern} is in no full document");
    }
}

#[test]
fn others_absent_null_and_empty() {
    assert_eq!(said(|_| {}), "");
    for (pointer, absent, empty) in OTHERS {
        let expected = |text| expected(pointer, text, &Value::Null);
        let mut spec = full();
        let place = spec.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is in no full document"));
        let nothing = match place {
            Value::Object(_) => json!({}),
            Value::Array(_) => json!([]),
            Value::String(_) => json!(""),
            _ => json!(false),
        };
        assert_eq!(said(|spec| remove(spec, pointer)), expected(absent), "{pointer} absent");
        assert_eq!(said(|spec| set(spec, pointer, Value::Null)), expected(absent), "{pointer} null");
        assert_eq!(said(|spec| set(spec, pointer, nothing)), expected(empty), "{pointer} empty");
    }
}

/// What an absent or a large one becomes, where it could be taken for something else.
#[test]
fn an_absent_number_is_no_zero_and_a_large_one_no_other() {
    let resources = |resources: Value| Bundle::resources(resources.to_string().as_bytes()).unwrap();
    for none in [json!({}), json!({"pids": {}}), json!({"pids": null}), json!({"pids": {"limit": null}})] {
        assert_eq!(resources(none.clone()), Resources::default(), "{none}");
    }
    assert_eq!(resources(json!({"pids": {"limit": 0}})).pids, Some(Limit::At(0)));
    let limit =
        |limit: u64| resources(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": limit}]})).hugepages[0].limit;
    // The kernel takes the one for the other.
    assert_eq!((limit(u64::MAX), limit(1 << 40)), (i64::MAX.unsigned_abs(), 1 << 40));
    let mut spec = full();
    remove(&mut spec, "/process/user");
    remove(&mut spec, "/linux/resources/pids/limit");
    let container = resolve(&spec).unwrap();
    assert_eq!((container.process.user.uid, container.process.user.gid, container.resources.pids), (0, 0, None));
}

/// What is said of the full document after `change`, without where in the text it was read.
fn said(change: impl FnOnce(&mut Value)) -> String {
    let mut spec = full();
    change(&mut spec);
    let said = resolve(&spec).err().map(|refusal| refusal.to_string()).unwrap_or_default();
    said.split(" at line ").next().unwrap_or_default().to_owned()
}

/// A text of the tables, as it is said of `value` at `pointer`.
fn expected(pointer: &str, text: &str, value: &Value) -> String {
    let text = text.replace('…', &value.to_string());
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    match (text.strip_prefix('>'), text.starts_with('/')) {
        _ if text.is_empty() => text,
        // Of an element of a list the list is named once.
        (Some(text), _) => {
            format!("{}{text}", parent.strip_suffix("/0").filter(|_| text.starts_with("/0")).unwrap_or(parent))
        }
        (None, true) => format!("{pointer}{text}"),
        (None, false) => format!("{pointer}: {text}"),
    }
}

fn matches(pattern: &str, pointer: &str) -> bool {
    let mut tokens = pointer.split('/');
    let alike = |(pattern, token): (&str, &str)| match pattern.split_once('*') {
        Some((start, end)) => {
            token.len() >= start.len() + end.len() && token.starts_with(start) && token.ends_with(end)
        }
        None => pattern == token,
    };
    pattern.split('/').all(|pattern| tokens.next().is_some_and(|token| alike((pattern, token))))
        && tokens.next().is_none()
}

fn numbers(value: &Value, at: &str, list: &mut Vec<String>) {
    match value {
        Value::Array(items) => (0..).zip(items).for_each(|(index, item)| numbers(item, &format!("{at}/{index}"), list)),
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| numbers(member, &format!("{at}/{key}"), list));
        }
        Value::Number(_) => list.push(at.to_owned()),
        _ => {}
    }
}
