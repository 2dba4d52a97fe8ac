//! What `config` accepts, as the runtime spec's features.md wants it told.
//!
//! The document is made by asking. The types of `oci-spec` tell every name that config.json may hold (see `names`), and
//! of each the code that reads config.json is asked whether it takes a container with it. So a feature is claimed from the
//! change on that makes it work, and what is refused is never claimed. What reading cannot know, `runtime-core` fills in.

mod names;

use oci_spec::runtime as oci;
use serde_json::{Value, json};

use crate::id::ContainerId;
use crate::spec;

/// The versions of the runtime spec whose config.json is understood.
const OLDEST: &str = "1.0.0";
const NEWEST: &str = "1.3.0";

/// A socket and a rule for it, without which there is no `SCMP_ACT_NOTIFY` and nothing that belongs to it.
const LISTENER: &str = "/run/features.sock";

/// The features object, but for what only `runtime-core` knows.
pub fn document() -> Value {
    json!({
        "ociVersionMin": OLDEST,
        "ociVersionMax": NEWEST,
        "hooks": sorted(names::fields::<oci::Hooks>().iter().filter(|name| hook(name))),
        "mountOptions": sorted(spec::mount_options::names()),
        "linux": {
            "namespaces": sorted(names::variants::<oci::LinuxNamespaceType>().iter().filter(|name| namespace(name))),
            "capabilities": sorted(caps::all().iter().map(ToString::to_string).filter(|name| capability(name))),
            "cgroup": {
                "systemd": accepts(&[("/linux/cgroupsPath", json!("system.slice:features:c"))]),
                "rdma": accepts(&[("/linux/resources/rdma", json!({ "mlx5_1": { "hcaHandles": 3 } }))]),
            },
            "seccomp": seccomp(),
            "apparmor": { "enabled": accepts(&[("/process/apparmorProfile", json!("features"))]) },
            "selinux": { "enabled": accepts(&[("/process/selinuxLabel", json!("u:r:t:s0"))]) },
            "intelRdt": {
                "enabled": accepts(&[("/linux/intelRdt", json!({ "closID": "features" }))]),
                "schemata": accepts(&[("/linux/intelRdt", json!({ "schemata": ["L3:0=f"] }))]),
                "monitoring": accepts(&[("/linux/intelRdt", json!({ "enableMonitoring": true }))]),
            },
            "memoryPolicy": {
                "modes": sorted(names::variants::<oci::MemoryPolicyModeType>().iter().filter(|name| memory_mode(name))),
                "flags": sorted(names::variants::<oci::MemoryPolicyFlagType>().iter().filter(|name| memory_flag(name))),
            },
            "mountExtensions": { "idmap": { "enabled": idmap() } },
            "netDevices": { "enabled": accepts(&[("/linux/netDevices", json!({ "eth0": { "name": "eth1" } }))]) },
        },
    })
}

fn seccomp() -> Value {
    let profile = |changes: &[(&str, Value)]| {
        let plain = [("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }))];
        accepts(&[&plain, changes].concat())
    };
    let notify = json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" });
    let action = |name: &&&str| {
        let mut changes = vec![("/linux/seccomp/syscalls", json!([{ "names": ["read"], "action": name }]))];
        if **name == "SCMP_ACT_NOTIFY" {
            changes.push(("/linux/seccomp/listenerPath", json!(LISTENER)));
        }
        profile(&changes)
    };
    let operator = |name: &&&str| {
        let arg = json!({ "index": 0, "value": 1, "op": name });
        let rule = json!({ "names": ["read"], "action": "SCMP_ACT_LOG", "args": [arg] });
        profile(&[("/linux/seccomp/syscalls", json!([rule]))])
    };
    let flag = |name: &&&str| {
        let mut changes = vec![("/linux/seccomp/flags", json!([name]))];
        if **name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
            changes.push(("/linux/seccomp/listenerPath", json!(LISTENER)));
            changes.push(("/linux/seccomp/syscalls", json!([notify])));
        }
        profile(&changes)
    };
    let architecture = |name: &&&str| profile(&[("/linux/seccomp/architectures", json!([name]))]);
    json!({
        "enabled": profile(&[]),
        "actions": sorted(names::variants::<oci::LinuxSeccompAction>().iter().filter(action)),
        "operators": sorted(names::variants::<oci::LinuxSeccompOperator>().iter().filter(operator)),
        "archs": sorted(names::variants::<oci::Arch>().iter().filter(architecture)),
        "knownFlags": sorted(names::variants::<oci::LinuxSeccompFilterFlag>().iter().filter(flag)),
    })
}

fn hook(name: &str) -> bool {
    accepts(&[(&format!("/hooks/{name}"), json!([{ "path": "/bin/true" }]))])
}

fn namespace(name: &str) -> bool {
    let mut list = vec![json!({ "type": "mount" })];
    list.extend((name != "mount").then(|| json!({ "type": name })));
    let namespaces = ("/linux/namespaces", json!(list));
    if name == "user" {
        return accepts(&[namespaces, ("/linux/uidMappings", mappings()), ("/linux/gidMappings", mappings())]);
    }
    accepts(&[namespaces])
}

fn capability(name: &str) -> bool {
    accepts(&[("/process/capabilities", json!({ "bounding": [name], "permitted": [name] }))])
}

/// Some modes want nodes, some want none.
fn memory_mode(name: &str) -> bool {
    ["0", ""].iter().any(|nodes| accepts(&[("/linux/memoryPolicy", json!({ "mode": name, "nodes": nodes }))]))
}

/// Each flag goes with some mode or other.
fn memory_flag(name: &str) -> bool {
    names::variants::<oci::MemoryPolicyModeType>()
        .iter()
        .any(|mode| accepts(&[("/linux/memoryPolicy", json!({ "mode": mode, "nodes": "0", "flags": [name] }))]))
}

fn idmap() -> bool {
    let mount = json!({
        "destination": "/d", "source": "/", "options": ["bind", "idmap"],
        "uidMappings": mappings(), "gidMappings": mappings(),
    });
    accepts(&[("/mounts", json!([mount]))])
}

fn mappings() -> Value {
    json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }])
}

/// Whether a plain container is accepted with `changes`: values for JSON pointers, whose parents are made where missing.
fn accepts(changes: &[(&str, Value)]) -> bool {
    let mut spec = json!({
        "ociVersion": NEWEST,
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["/bin/true"], "user": { "uid": 0, "gid": 0 } },
        "linux": { "namespaces": [{ "type": "mount" }, { "type": "network" }] },
    });
    for (pointer, value) in changes {
        let place = pointer.split('/').skip(1).fold(&mut spec, |place, key| &mut place[key]);
        *place = value.clone();
    }
    let id = ContainerId::new("features").expect("letters are an id");
    serde_json::from_value(spec).is_ok_and(|spec| spec::container(&spec, "/features".as_ref(), &id, None).is_ok())
}

fn sorted<T: ToString>(names: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut list: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    list.sort_unstable();
    list
}
