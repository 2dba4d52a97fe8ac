//! The features document against what a real client's config.json may hold: all that is claimed is accepted, and all that is
//! accepted is claimed. The names come from the runtime spec, by hand: the document's own come from `oci-spec`.

use config::container::MountKind;
use config::features;
use serde_json::{Value, json};

use crate::common::{resolve, sample, set};

/// Whether `ctr run`'s config.json is accepted with `changes`.
fn accepted(changes: &[(&str, Value)]) -> bool {
    let mut spec = sample("ctr-run");
    for (pointer, value) in changes {
        set(&mut spec, pointer, value.clone());
    }
    resolve(&spec).is_ok()
}

/// The list at `pointer` of the document.
fn claimed(pointer: &str) -> Vec<String> {
    let document = features::document();
    let list = document.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer}: {document:#}"));
    list.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Compares the list at `pointer` with what is `accepted` of all `names` and of what it claims beside them.
fn compare(pointer: &str, names: &[&str], accepted: impl Fn(&str) -> bool) {
    let claimed = claimed(pointer);
    assert!(claimed.is_sorted_by(|a, b| a < b), "{claimed:?}");
    for name in names.iter().copied().chain(claimed.iter().map(String::as_str)) {
        assert_eq!(claimed.iter().any(|other| other == name), accepted(name), "{pointer}: {name}");
    }
}

#[test]
fn hooks() {
    let all = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    compare("/hooks", &all, |name| accepted(&[(&format!("/hooks/{name}"), json!([{ "path": "/bin/sh" }]))]));
}

#[test]
fn namespaces() {
    let all = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];
    let mappings = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    compare("/linux/namespaces", &all, |name| {
        let mut changes =
            vec![("/linux/namespaces", json!([{ "type": "mount" }, { "type": "uts" }, { "type": "network" }]))];
        if !["mount", "uts", "network"].contains(&name) {
            changes.push(("/linux/namespaces/-", json!({ "type": name })));
        }
        if name == "user" {
            changes.extend(["/linux/uidMappings", "/linux/gidMappings"].map(|pointer| (pointer, mappings.clone())));
        }
        accepted(&changes)
    });
}

#[test]
fn capabilities() {
    let all = ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE", "CAP_FOO"];
    // One that nobody knows is left out.
    compare("/linux/capabilities", &all, |name| {
        let mut spec = sample("ctr-run");
        set(&mut spec, "/process/capabilities", json!({ "bounding": [name] }));
        resolve(&spec).expect("a valid container").process.capabilities.bounding != 0
    });
    assert_eq!(claimed("/linux/capabilities").len(), 41);
}

/// The options of config.md, "Linux mount options", of mount(8) beside them, and of the other runtimes.
const MOUNT_OPTIONS: &str = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
    nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev \
    rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro \
    rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime \
    suid symfollow sync tmpcopyup unbindable idmap ridmap copy-symlink src-nofollow dest-nofollow nostrictatime \
    rsync size=1m nofail user";

#[test]
fn mount_options() {
    let mappings = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let superblock = ["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"];
    compare("/mountOptions", &MOUNT_OPTIONS.split_whitespace().collect::<Vec<_>>(), |name| {
        let mut spec = sample("ctr-run");
        let mut mount = match name {
            "idmap" | "ridmap" => {
                json!({ "source": "/", "options": ["rbind", name], "uidMappings": mappings, "gidMappings": mappings })
            }
            "copy-symlink" | "src-nofollow" | "dest-nofollow" => json!({ "source": "/", "options": ["bind", name] }),
            "iversion" => json!({ "type": "ext4", "options": [name] }),
            _ => json!({ "type": "tmpfs", "options": [name] }),
        };
        mount["destination"] = json!("/d");
        if name == "bind" || name == "rbind" {
            mount["source"] = json!("/");
        }
        set(&mut spec, "/mounts/-", mount);
        let Ok(mut container) = resolve(&spec) else { return false };
        // What is handed through to a file system is that file system's, but for what each of them knows.
        match container.mounts.pop().expect("it is the last").kind {
            MountKind::Filesystem { options, .. } if name != "iversion" => {
                options.is_empty() || superblock.contains(&name)
            }
            _ => true,
        }
    });
}

#[test]
fn seccomp() {
    let all = "/linux/seccomp";
    let rule = |rule: Value| {
        let listener = rule["action"] == "SCMP_ACT_NOTIFY";
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        if listener {
            profile["listenerPath"] = json!("/run/listener");
        }
        profile
    };
    let actions = [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
    ];
    compare("/linux/seccomp/actions", &actions, |name| {
        accepted(&[(all, rule(json!({ "names": ["getcwd"], "action": name })))])
    });
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map(|name| format!("SCMP_CMP_{name}"));
    compare("/linux/seccomp/operators", &operators.each_ref().map(String::as_str), |name| {
        let arg = json!({ "index": 1, "value": 1, "valueTwo": 1, "op": name });
        accepted(&[(all, rule(json!({ "names": ["getcwd"], "action": "SCMP_ACT_LOG", "args": [arg] })))])
    });
    compare("/linux/seccomp/archs", &["SCMP_ARCH_X86", "SCMP_ARCH_RISCV64", "SCMP_ARCH_VAX"], |name| {
        accepted(&[(all, json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [name] }))])
    });
    let flags = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV", "NEW_LISTENER"]
        .map(|f| format!("SECCOMP_FILTER_FLAG_{f}"));
    compare("/linux/seccomp/knownFlags", &flags.each_ref().map(String::as_str), |name| {
        let mut profile = rule(json!({ "names": ["getcwd"], "action": "SCMP_ACT_LOG" }));
        if name.ends_with("RECV") {
            profile = rule(json!({ "names": ["getcwd"], "action": "SCMP_ACT_NOTIFY" }));
        }
        profile["flags"] = json!([name]);
        accepted(&[(all, profile)])
    });
}

#[test]
fn memory_policy() {
    let modes = ["DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL"];
    compare(
        "/linux/memoryPolicy/modes",
        &modes.map(|mode| format!("MPOL_{mode}")).each_ref().map(String::as_str),
        |name| {
            let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&name) { "" } else { "0" };
            accepted(&[("/linux/memoryPolicy", json!({ "mode": name, "nodes": nodes }))])
        },
    );
    let flags = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"].map(|flag| format!("MPOL_F_{flag}"));
    compare("/linux/memoryPolicy/flags", &flags.each_ref().map(String::as_str), |name| {
        accepted(&[("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [name] }))])
    });
}

#[test]
fn the_rest() {
    let document = features::document();
    let mappings = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let idmapped = json!({
        "destination": "/d", "source": "/", "options": ["rbind", "ridmap"], "uidMappings": mappings, "gidMappings": mappings,
    });
    for (claim, pointer, value) in [
        ("/linux/apparmor/enabled", "/process/apparmorProfile", json!("profile")),
        ("/linux/selinux/enabled", "/process/selinuxLabel", json!("system_u:system_r:container_t:s0")),
        ("/linux/intelRdt/enabled", "/linux/intelRdt", json!({ "closID": "c" })),
        ("/linux/intelRdt/schemata", "/linux/intelRdt", json!({ "schemata": ["MB:0=10"] })),
        ("/linux/intelRdt/monitoring", "/linux/intelRdt", json!({ "enableMonitoring": true })),
        ("/linux/mountExtensions/idmap/enabled", "/mounts/-", idmapped),
        ("/linux/netDevices/enabled", "/linux/netDevices", json!({ "eth7": {} })),
        ("/linux/cgroup/systemd", "/linux/cgroupsPath", json!("a.slice:b:c")),
        ("/linux/cgroup/rdma", "/linux/resources/rdma", json!({ "mlx4_0": { "hcaObjects": 1 } })),
    ] {
        assert_eq!(document.pointer(claim), Some(&json!(accepted(&[(pointer, value)]))), "{claim}");
    }
}

#[test]
fn it_is_what_the_spec_understands() {
    let document = features::document();
    serde_json::from_value::<oci_spec::runtime::Features>(document).unwrap();
}
