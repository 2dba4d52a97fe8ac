//! Every refusal, with its pointer: a change to a config.json that is good, and what is said to it.

use config::{Bundle, ContainerId};
use serde_json::{Value, json};

use crate::common::{OwnNamespaces, bundle, read, remove, resolve, sample, set};

/// What is said to `ctr run`'s config.json with `value` at `pointer`; nothing if it is taken.
fn said(pointer: &str, value: Value) -> String {
    let mut spec = sample("ctr-run");
    set(&mut spec, pointer, value);
    resolve(&spec).err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

/// Checks a table of (pointer, value to put there, what is said).
fn check(table: impl IntoIterator<Item = (&'static str, Value, &'static str)>) {
    for (pointer, value, expected) in table {
        let shown = value.to_string();
        assert_eq!(said(pointer, value), expected, "{pointer} = {shown}");
    }
}

/// The same for a mount with `fields`, which is the eighth: what is said is told without `/mounts/7`.
fn check_mounts(table: impl IntoIterator<Item = (Value, &'static str)>) {
    for (fields, expected) in table {
        let shown = fields.to_string();
        assert_eq!(said("/mounts/-", fields).replace("/mounts/7", ""), expected, "{shown}");
    }
}

#[test]
fn root_of_the_document() {
    check([
        ("/ociVersion", json!("2.0.0"), "/ociVersion: version 2.0.0 of the runtime specification is not 1.x"),
        ("/ociVersion", json!("1"), "/ociVersion: version 1 of the runtime specification is not 1.x"),
        ("/ociVersion", json!(""), "/ociVersion: missing"),
        ("/ociVersion", json!("1.3.0"), ""),
        ("/root", Value::Null, "/root: missing: a container needs a root file system"),
        ("/root/path", json!(""), "/root/path: missing"),
        ("/process", Value::Null, "/process: missing: a container runs one"),
        ("/linux", Value::Null, "/mounts/0: /proc would be mounted on the host: the container has no mount namespace"),
        ("/hostname", json!("a".repeat(65)), "/hostname: longer than 64 bytes"),
        ("/annotations", json!({"": "x"}), "/annotations/: an annotation's key must not be empty"),
        ("/vm", json!({"kernel": {"path": "/k"}}), "/vm: virtual machines are not supported yet"),
        ("/hooks", json!({"poststop": [], "prestart": []}), ""),
        ("/somethingNew", json!({"of": "a later version"}), ""),
        ("/windows", json!({"layerFolders": ["C:\\"]}), ""),
    ]);
}

#[test]
fn hooks() {
    let with = |kind: &str, field: &str, value: Value| {
        let mut hook = json!({"path": "/h"});
        hook[field] = value;
        json!({ kind: [{"path": "/good"}, hook] })
    };
    check([
        ("/hooks", with("prestart", "path", json!("h")), "/hooks/prestart/1/path: path h is not absolute"),
        ("/hooks", with("createRuntime", "path", json!("")), "/hooks/createRuntime/1/path: missing"),
        (
            "/hooks",
            with("createContainer", "env", json!(["A"])),
            "/hooks/createContainer/1/env/0: \"A\" is not NAME=value",
        ),
        ("/hooks", with("startContainer", "timeout", json!(0)), "/hooks/startContainer/1/timeout: 0 is not above zero"),
        ("/hooks", with("poststart", "timeout", json!(-1)), "/hooks/poststart/1/timeout: -1 is not above zero"),
        ("/hooks", with("poststop", "path", json!("./h")), "/hooks/poststop/1/path: path ./h is not absolute"),
        ("/hooks", with("poststop", "timeout", json!(1)), ""),
    ]);
}

#[test]
fn net_devices() {
    let named = |host: &str, name: &str| json!({ host: { "name": name } });
    check([
        ("/linux/netDevices", named("a/b", ""), "/linux/netDevices/a~1b: \"a/b\" is not the name of a network device"),
        ("/linux/netDevices", named("..", ""), "/linux/netDevices/..: \"..\" is not the name of a network device"),
        (
            "/linux/netDevices",
            named("e", "a:b"),
            "/linux/netDevices/e/name: \"a:b\" is not the name of a network device",
        ),
        (
            "/linux/netDevices",
            named("e", "a b"),
            "/linux/netDevices/e/name: \"a b\" is not the name of a network device",
        ),
        (
            "/linux/netDevices",
            named("e", "sixteen-letters-"),
            "/linux/netDevices/e/name: \"sixteen-letters-\" is not the name of a network device",
        ),
        (
            "/linux/netDevices",
            named("e", "a%d%d"),
            "/linux/netDevices/e/name: \"a%d%d\": a template has one %d and no other %",
        ),
        (
            "/linux/netDevices",
            named("e", "a%s"),
            "/linux/netDevices/e/name: \"a%s\": a template has one %d and no other %",
        ),
        ("/linux/netDevices", named("e", "a%d"), ""),
        ("/linux/netDevices", json!({ "fifteen-letters": {} }), ""),
    ]);
    let mut spec = sample("ctr-run");
    set(&mut spec, "/linux/netDevices", json!({ "e": {} }));
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    let refusal = resolve(&spec).unwrap_err().to_string();
    assert_eq!(refusal, "/linux/netDevices: needs a network namespace other than the runtime's");
}

#[test]
fn process() {
    check([
        ("/process/cwd", json!("tmp"), "/process/cwd: path tmp is not absolute"),
        ("/process/cwd", json!(""), "/process/cwd: missing"),
        ("/process/args", json!([]), "/process/args: missing: the first one is the program to execute"),
        ("/process/args", Value::Null, "/process/args: missing: the first one is the program to execute"),
        ("/process/env/-", json!("PATH"), "/process/env/1: \"PATH\" is not NAME=value"),
        ("/process/env/-", json!("=x"), "/process/env/1: \"=x\" is not NAME=value"),
        ("/process/env/-", json!("A="), ""),
        ("/process/user/umask", json!(512), "/process/user/umask: 512 has more than permission bits"),
        ("/process/oomScoreAdj", json!(1001), "/process/oomScoreAdj: 1001 is not -1000 to 1000"),
        ("/process/oomScoreAdj", json!(-1000), ""),
        ("/process/commandLine", json!("cmd.exe"), ""),
    ]);
    let mut spec = sample("ctr-run");
    set(&mut spec, "/process/consoleSize", json!({"height": 24, "width": 65536}));
    assert_eq!(resolve(&spec).unwrap().process.console_size, None, "without a terminal it is to be ignored");
    set(&mut spec, "/process/terminal", json!(true));
    assert_eq!(resolve(&spec).unwrap_err().to_string(), "/process/consoleSize/width: 65536 is more than 65535");
}

#[test]
fn scheduling() {
    let scheduler = |fields: Value| {
        let mut scheduler = json!({"policy": "SCHED_OTHER"});
        scheduler.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        scheduler
    };
    let (of, io) = ("/process/scheduler", "/process/ioPriority");
    check([
        (of, scheduler(json!({"nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]})), ""),
        (of, scheduler(json!({"nice": 20})), "/process/scheduler/nice: 20 is not -20 to 19"),
        (of, scheduler(json!({"nice": -21})), "/process/scheduler/nice: -21 is not -20 to 19"),
        (of, scheduler(json!({"priority": 1})), "/process/scheduler/priority: has no meaning for SCHED_OTHER"),
        (
            of,
            scheduler(json!({"policy": "SCHED_FIFO", "priority": -1})),
            "/process/scheduler/priority: -1 is less than nothing",
        ),
        (
            of,
            scheduler(json!({"policy": "SCHED_FIFO", "priority": 1, "period": 1})),
            "/process/scheduler/period: has no meaning for SCHED_FIFO",
        ),
        (of, json!({"policy": "SCHED_ISO"}), "/process/scheduler/policy: SCHED_ISO is reserved, and no kernel has it"),
        (of, json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}), ""),
        (io, json!({"class": "IOPRIO_CLASS_IDLE"}), ""),
        (io, json!({"class": "IOPRIO_CLASS_RT", "priority": 8}), "/process/ioPriority/priority: 8 is not 0 to 7"),
        (io, json!({"class": "IOPRIO_CLASS_RT", "priority": -1}), "/process/ioPriority/priority: -1 is not 0 to 7"),
        (
            "/process/execCPUAffinity",
            json!({"initial": "3-1"}),
            "/process/execCPUAffinity/initial: \"3-1\" ends before it begins",
        ),
        (
            "/process/execCPUAffinity",
            json!({"final": "0,65536"}),
            "/process/execCPUAffinity/final: \"65536\" is no number below 65536 and no range of them",
        ),
    ]);
    for (pointer, value, expected) in [
        (of, json!({"policy": "SCHED_X"}), "/process/scheduler/policy: unknown scheduling policy SCHED_X at line 1"),
        (of, scheduler(json!({"flags": ["F"]})), "/process/scheduler/flags/0: unknown scheduler flag F at line 1"),
        (io, json!({"class": "X"}), "/process/ioPriority/class: unknown I/O priority class X at line 1"),
        (
            "/process/execCPUAffinity",
            json!({"initial": "all"}),
            "/process/execCPUAffinity: Invalid execCPUAffinity format: all at line 1",
        ),
    ] {
        let said = said(pointer, value);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn personality_and_memory_policy() {
    let (personality, policy) = ("/linux/personality", "/linux/memoryPolicy");
    check([
        (personality, json!({"domain": "LINUX"}), ""),
        (personality, json!({"domain": "LINUX32", "flags": []}), ""),
        (
            personality,
            json!({"domain": "LINUX", "flags": ["X"]}),
            "/linux/personality/flags/0: the specification knows no flag X",
        ),
        (policy, json!({"mode": "MPOL_DEFAULT", "nodes": ""}), ""),
        (policy, json!({"mode": "MPOL_PREFERRED"}), ""),
        (policy, json!({"mode": "MPOL_BIND"}), "/linux/memoryPolicy/nodes: missing: MPOL_BIND is about some"),
        (
            policy,
            json!({"mode": "MPOL_BIND", "nodes": ""}),
            "/linux/memoryPolicy/nodes: missing: MPOL_BIND is about some",
        ),
        (policy, json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "/linux/memoryPolicy/nodes: MPOL_LOCAL takes none"),
        (
            policy,
            json!({"mode": "MPOL_BIND", "nodes": "x"}),
            "/linux/memoryPolicy/nodes: \"x\" is no number below 65536 and no range of them",
        ),
    ]);
    for (pointer, value, expected) in [
        (personality, json!({"domain": "BSD"}), "/linux/personality/domain: unknown personality BSD at line 1"),
        (policy, json!({"mode": "MPOL_X"}), "/linux/memoryPolicy/mode: unknown memory policy MPOL_X at line 1"),
        (
            policy,
            json!({"mode": "MPOL_LOCAL", "flags": ["F"]}),
            "/linux/memoryPolicy/flags/0: unknown memory policy flag F at line 1",
        ),
    ] {
        let said = said(pointer, value);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn rlimits() {
    let limit = |name: &str, soft: u64, hard: u64| json!({"type": name, "soft": soft, "hard": hard});
    let list = "/process/rlimits";
    check([
        (list, json!([limit("RLIMIT_CPU", 2, 1)]), "/process/rlimits/0/soft: 2 is more than the hard limit 1"),
        (
            list,
            json!([limit("RLIMIT_AS", 1, 1), limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_AS", 2, 1)]),
            "/process/rlimits/2/soft: 2 is more than the hard limit 1",
        ),
        (list, json!([limit("RLIMIT_NICE", 0, u64::MAX)]), ""),
    ]);
    let unknown = said(list, json!([limit("RLIMIT_FOO", 1, 1)]));
    assert!(unknown.starts_with("/process/rlimits/0/type: unknown rlimit RLIMIT_FOO at line 1 column "), "{unknown}");
}

#[test]
fn capabilities() {
    let sets = "/process/capabilities";
    check([
        (sets, json!({}), ""),
        (sets, Value::Null, ""),
        (
            sets,
            json!({"effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"]}),
            "/process/capabilities/effective: CAP_CHOWN is not in the permitted set",
        ),
        (
            sets,
            json!({"inheritable": ["CAP_KILL"], "permitted": ["CAP_KILL"]}),
            "/process/capabilities/inheritable: CAP_KILL is not in the bounding set",
        ),
    ]);
    // The specification wants no failure for what cannot be granted; a name that is no text is another matter.
    assert_eq!(said(sets, json!({"bounding": ["CAP_KILL", "CAP_FOO"]})), "");
    let number = said(sets, json!({"bounding": ["CAP_FOO", 7]}));
    assert!(number.starts_with("/process/capabilities/bounding/0: invalid type: integer `7`"), "{number}");

    let mut spec = sample("ctr-run");
    let ambient = json!({
        "bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "ambient": ["CAP_KILL", "CAP_CHOWN"],
    });
    set(&mut spec, sets, ambient);
    let resolved = resolve(&spec).unwrap().process.capabilities;
    assert_eq!((resolved.ambient, resolved.permitted), (1 << 5, 1 << 5 | 1), "only what the kernel would raise");
}

#[test]
fn namespaces() {
    let all = "/linux/namespaces";
    let one = "/linux/namespaces/-";
    let network = "/linux/namespaces/4/path";
    check([
        (all, json!([]), "/mounts/0: /proc would be mounted on the host: the container has no mount namespace"),
        (all, Value::Null, "/mounts/0: /proc would be mounted on the host: the container has no mount namespace"),
        (
            all,
            json!([{"type": "mount", "path": "/proc/self/ns/mnt"}]),
            "/linux/namespaces/0/path: the host's own mount namespace: /proc/self/ns/mnt",
        ),
        (one, json!({"type": "uts"}), "/linux/namespaces/5: a second uts namespace"),
        (one, json!({"type": "time"}), ""),
        (one, json!({"type": "time", "path": "/proc/self/ns/time"}), ""),
        (one, json!({"type": "user", "path": "/proc/self/ns/user"}), ""),
        (network, json!("ns/net"), "/linux/namespaces/4/path: path ns/net is not absolute"),
        (network, json!("/proc/self/ns/net"), ""),
        (network, json!(""), ""),
        (network, json!("/dev/null"), "/linux/namespaces/4/path: not a namespace file: /dev/null"),
        (
            network,
            json!("/proc/self/ns/ipc"),
            "/linux/namespaces/4/path: a namespace of kind ipc, not network: /proc/self/ns/ipc",
        ),
        (
            network,
            json!("/run/netns/none such"),
            "/linux/namespaces/4/path: open /run/netns/none such: ENOENT: No such file or directory",
        ),
    ]);
    let unknown = said(one, json!({"type": "net"}));
    assert!(unknown.starts_with("/linux/namespaces/5/type: unknown namespace type net at line 1 column "), "{unknown}");
}

/// One line of an id map.
fn ids(container: u32, host: u32, size: u32) -> Value {
    json!({"containerID": container, "hostID": host, "size": size})
}

/// What is said to a container in a user namespace of its own with `value` at `pointer`.
fn said_in_user_namespace(pointer: &str, value: Value) -> String {
    let mut spec = sample("ctr-run");
    set(&mut spec, "/linux/namespaces/-", json!({"type": "user"}));
    set(&mut spec, "/linux/uidMappings", json!([ids(0, 100_000, 65_536)]));
    set(&mut spec, "/linux/gidMappings", json!([ids(0, 100_000, 65_536)]));
    set(&mut spec, pointer, value);
    resolve(&spec).err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

/// `without_mount_namespace` of the test-bundles has the rest.
#[test]
fn a_config_that_says_the_least() {
    let mut spec = json!({ "ociVersion": "1.0.0", "root": { "path": "rootfs" } });
    spec["process"] = json!({ "cwd": "/", "args": ["/bin/true"], "user": { "uid": 0, "gid": 0 } });
    for linux in [Value::Null, json!({}), json!({ "namespaces": [] })] {
        spec["linux"] = linux;
        let container = resolve(&spec).unwrap();
        assert_eq!((container.namespaces, container.masked_paths), (Vec::new(), Vec::<std::path::PathBuf>::new()));
    }
}

#[test]
fn user_namespaces() {
    let many: Vec<Value> = (0..341).map(|n| ids(n, n, 1)).collect();
    let uids = "/linux/uidMappings";
    for (pointer, value, expected) in [
        (uids, json!([ids(0, 100_000, 65_536)]), ""),
        (uids, json!([ids(0, 0, u32::MAX)]), ""),
        (uids, json!([]), "/linux/uidMappings: missing: there are gidMappings"),
        (uids, json!([ids(1, 1, 1)]), "/linux/uidMappings: root, id 0, is not mapped"),
        (uids, json!([ids(0, 1, 0)]), "/linux/uidMappings/0/size: a map of no ids"),
        (
            uids,
            json!([ids(0, 1, u32::MAX)]),
            "/linux/uidMappings/0/size: 4294967295 ids from 1 on are more than there are",
        ),
        (uids, json!([ids(0, 1, 5), ids(4, 9, 1)]), "/linux/uidMappings/1/containerID: ids that the entry 0 maps too"),
        (uids, json!([ids(0, 1, 5), ids(5, 5, 1)]), "/linux/uidMappings/1/hostID: ids that the entry 0 maps to, too"),
        (uids, json!([ids(0, 1, 5), ids(0, 1, 5)]), "/linux/uidMappings/1/containerID: ids that the entry 0 maps too"),
        (uids, json!(many), "/linux/uidMappings/340: the kernel takes at most 340 lines of a map"),
        ("/linux/gidMappings", json!([ids(7, 7, 1)]), "/linux/gidMappings: root, id 0, is not mapped"),
        ("/process/user/uid", json!(65_536), "/process/user/uid: 65536 is not mapped in the user namespace"),
        ("/process/user/gid", json!(70_000), "/process/user/gid: 70000 is not mapped in the user namespace"),
        (
            "/process/user/additionalGids",
            json!([5, 99_999]),
            "/process/user/additionalGids/1: 99999 is not mapped in the user namespace",
        ),
        ("/linux/sysctl", json!({"user.max_user_namespaces": "1"}), ""),
        ("/mounts/0/options", json!(["idmap"]), ""),
        ("/linux/namespaces/-", json!({"type": "user"}), "/linux/namespaces/6: a second user namespace"),
    ] {
        let shown = value.to_string();
        assert_eq!(said_in_user_namespace(pointer, value), expected, "{pointer} = {shown}");
    }
    let mut spec = sample("ctr-run");
    set(&mut spec, "/linux/namespaces/-", json!({"type": "user"}));
    assert_eq!(resolve(&spec).unwrap_err().to_string(), "/linux/uidMappings: missing: a new user namespace needs them");
    let mut spec = sample("ctr-run");
    set(&mut spec, uids, json!([ids(0, 0, 1)]));
    set(&mut spec, "/linux/gidMappings", json!([ids(0, 0, 1)]));
    let needs = "/linux/uidMappings: needs a user namespace, new or joined";
    assert_eq!(resolve(&spec).unwrap_err().to_string(), needs);
    set(&mut spec, "/linux/namespaces/-", json!({"type": "user", "path": "/proc/self/ns/user"}));
    assert_eq!(resolve(&spec).unwrap_err().to_string(), needs, "the runtime's own is none of the container's");
}

#[test]
fn a_mount_namespace_of_another_user_namespace_is_of_no_use() {
    let mut spec = sample("ctr-run");
    let holder = std::process::Command::new("unshare")
        .args(["--mount", "--fork", "--kill-child", "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut holder = holder.unwrap();
    // What it echoes shows that it has come into its namespace.
    std::io::Write::write_all(holder.stdin.as_mut().unwrap(), b"x").unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let path = format!("/proc/{}/ns/mnt", holder.id());
    let mount = spec["linux"]["namespaces"].as_array().unwrap().iter().position(|n| n["type"] == "mount").unwrap();
    set(&mut spec, &format!("/linux/namespaces/{mount}/path"), json!(path));
    assert!(resolve(&spec).is_ok());
    set(&mut spec, "/linux/namespaces/-", json!({"type": "user"}));
    let refusal = resolve(&spec).unwrap_err().to_string();
    holder.kill().and_then(|()| holder.wait()).unwrap();
    let reason = "not of the container's user namespace, whose root may mount nothing in it";
    assert_eq!(refusal, format!("/linux/namespaces/{mount}/path: {reason}: {path}"));
}

#[test]
fn time_offsets() {
    let said = |offsets: Value| {
        let mut spec = sample("ctr-run");
        set(&mut spec, "/linux/namespaces/-", json!({"type": "time"}));
        set(&mut spec, "/linux/timeOffsets", offsets);
        resolve(&spec).err().map(|refusal| refusal.to_string()).unwrap_or_default()
    };
    for (offsets, expected) in [
        (json!({"monotonic": {"secs": -1, "nanosecs": 999_999_999}, "boottime": {}}), ""),
        (
            json!({"realtime": {"secs": 1}}),
            "/linux/timeOffsets/realtime: no clock of a time namespace: those are monotonic and boottime",
        ),
        (
            json!({"boottime": {"nanosecs": 1_000_000_000}}),
            "/linux/timeOffsets/boottime/nanosecs: 1000000000 is not 0 to 999999999",
        ),
        (
            json!({"boottime": {"secs": 4_611_686_019_i64}}),
            "/linux/timeOffsets/boottime/secs: 4611686019 is not -4611686018 to 4611686018",
        ),
    ] {
        let shown = offsets.to_string();
        assert_eq!(said(offsets), expected, "{shown}");
    }
    let mut spec = sample("ctr-run");
    set(&mut spec, "/linux/namespaces/-", json!({"type": "time", "path": "/proc/self/ns/time"}));
    set(&mut spec, "/linux/timeOffsets", json!({"monotonic": {"secs": 1}}));
    let refusal = resolve(&spec).unwrap_err().to_string();
    assert_eq!(refusal, "/linux/timeOffsets: the time namespace is joined: its offsets are fixed");
}

#[test]
fn a_fifo_in_place_of_a_namespace_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let refusal = said("/linux/namespaces/4/path", json!(fifo));
    assert_eq!(refusal, format!("/linux/namespaces/4/path: not a namespace file: {}", fifo.display()));
}

#[test]
fn names_need_a_uts_namespace_of_their_own() {
    let needs = "needs a uts namespace other than the runtime's";
    for field in ["hostname", "domainname"] {
        let mut spec = sample("ctr-run");
        set(&mut spec, &format!("/{field}"), json!("web"));
        assert!(resolve(&spec).is_ok());
        set(&mut spec, "/linux/namespaces/2/path", json!("/proc/self/ns/uts"));
        assert_eq!(resolve(&spec).unwrap_err().to_string(), format!("/{field}: {needs}"));
        set(&mut spec, "/linux/namespaces/2/path", json!(OwnNamespaces::new().path("uts")));
        assert!(resolve(&spec).is_err(), "that one has gone");
        let own = OwnNamespaces::new();
        set(&mut spec, "/linux/namespaces/2/path", json!(own.path("uts")));
        assert!(resolve(&spec).is_ok());
        remove(&mut spec, "/linux/namespaces/2");
        assert_eq!(resolve(&spec).unwrap_err().to_string(), format!("/{field}: {needs}"));
    }
}

#[test]
fn sysctl() {
    let all = "/linux/sysctl";
    check([
        (all, json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "1", "fs.mqueue.msg_max": "1"}), ""),
        (all, json!({"kernel.domainname": "x"}), ""),
        (all, json!({"kernel.hostname": "x"}), "/linux/sysctl/kernel.hostname: is what the field hostname is for"),
        (
            all,
            json!({"vm/swappiness": "1"}),
            "/linux/sysctl/vm~1swappiness: not in any namespace: it would change the whole machine",
        ),
        (
            all,
            json!({"user.max_user_namespaces": "1"}),
            "/linux/sysctl/user.max_user_namespaces: needs a user namespace",
        ),
        (all, json!({"net/../kernel/panic": "1"}), "/linux/sysctl/net~1..~1kernel~1panic: not the name of a sysctl"),
        (all, json!({"net.//.kernel.panic": "1"}), "/linux/sysctl/net.~1~1.kernel.panic: not the name of a sysctl"),
        (all, json!({"/net/x": "1"}), "/linux/sysctl/~1net~1x: not the name of a sysctl"),
        (all, json!({"": "1"}), "/linux/sysctl/: not the name of a sysctl"),
        (
            all,
            json!({"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"}),
            "/linux/sysctl/net~1ipv4~1ip_forward: the same sysctl as another name given",
        ),
    ]);
    for (index, file, name, kind) in [
        (4, "net", "net.ipv4.ip_forward", "network"),
        (1, "ipc", "kernel.shmmax", "ipc"),
        (1, "ipc", "fs.mqueue.msg_max", "ipc"),
        (2, "uts", "kernel.domainname", "uts"),
    ] {
        let expected = format!("/linux/sysctl/{name}: needs a {kind} namespace other than the runtime's");
        let expected = expected.replace("a ipc", "an ipc");
        let mut spec = sample("ctr-run");
        set(&mut spec, &format!("/linux/sysctl/{name}"), json!("1"));
        set(&mut spec, &format!("/linux/namespaces/{index}/path"), json!(format!("/proc/self/ns/{file}")));
        assert_eq!(resolve(&spec).unwrap_err().to_string(), expected);
        let own = OwnNamespaces::new();
        set(&mut spec, &format!("/linux/namespaces/{index}/path"), json!(own.path(file)));
        assert!(resolve(&spec).is_ok());
        remove(&mut spec, &format!("/linux/namespaces/{index}"));
        assert_eq!(resolve(&spec).unwrap_err().to_string(), expected);
    }
}

#[test]
fn mounts() {
    let bind = |options: &[&str]| json!({"destination": "/d", "source": "/s", "options": options});
    check_mounts([
        (json!({"destination": "", "type": "tmpfs"}), "/destination: missing"),
        (json!({"destination": "/d"}), "/type: missing: the mount is neither a bind nor a remount"),
        (json!({"destination": "/d", "type": "none"}), "/type: missing: the mount is neither a bind nor a remount"),
        (json!({"destination": "/d", "type": "bind"}), "/source: missing: a bind mount needs one"),
        (bind(&["rbind", "mode=755"]), "/options/1: mode: a bind mount takes over the file system as it is"),
        (bind(&["sync", "bind"]), "/options/0: sync: a bind mount takes over the file system as it is"),
        (bind(&["bind", "async", "nolazytime", "nomand", "silent", "defaults", "rw"]), ""),
        (bind(&["remount", "size=1"]), "/options/1: size: a remount changes only the mount, not its file system"),
        (bind(&["bind", "remount", "ro"]), ""),
        (bind(&["bind", "idmap"]), "/options: idmap: neither the mount nor the container has mappings"),
        (bind(&["rbind", "ridmap"]), "/options: idmap: neither the mount nor the container has mappings"),
        (bind(&["bind", "tmpcopyup"]), "/options/1: tmpcopyup: only a tmpfs can begin as a copy"),
        (bind(&["bind", "iversion"]), "/options/1: iversion: the kernel has no way to turn it on here"),
        (
            json!({"destination": "/d", "type": "tmpfs", "options": ["iversion"]}),
            "/options/0: iversion: the kernel has no way to turn it on here",
        ),
        (
            json!({"destination": "/d", "type": "tmpfs", "options": ["ro", "src-nofollow"]}),
            "/options/1: an option about links: only a bind mount has any to follow",
        ),
        (
            json!({"destination": "/d", "type": "ramfs", "options": ["tmpcopyup"]}),
            "/options/0: tmpcopyup: only a tmpfs can begin as a copy",
        ),
        (
            json!({"destination": "/d", "type": "cgroup", "options": ["nsdelegate"]}),
            "/options/0: nsdelegate: is of the host's whole hierarchy, of which the container is shown a part",
        ),
        (
            json!({"destination": "/d", "type": "tmpfs", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            "/gidMappings: missing: there are uidMappings",
        ),
        (
            json!({"destination": "/d", "type": "tmpfs", "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            "/uidMappings: missing: there are gidMappings",
        ),
        (
            json!({"destination": "/d", "type": "cgroup", "uidMappings": [ids(0, 1, 1)], "gidMappings": [ids(0, 1, 1)]}),
            "/uidMappings: only a bind or a new file system can be id-mapped",
        ),
        (
            json!({"destination": "/d", "type": "tmpfs", "uidMappings": [ids(0, 1, 1)], "gidMappings": [ids(0, 1, 0)]}),
            "/gidMappings/0/size: a map of no ids",
        ),
        (
            json!({"destination": "/d", "type": "tmpfs", "uidMappings": [ids(0, 1, 1)], "gidMappings": [ids(0, 1, 1)]}),
            "",
        ),
    ]);
}

#[test]
fn mounts_over_proc() {
    let to =
        |destination: &str, source: &str| json!({"destination": destination, "source": source, "options": ["rbind"]});
    check_mounts([
        (to("/proc", "/proc"), ""),
        (to("/x/../proc/", "/proc"), ""),
        (to("proc", "/tmp"), "/destination: only a proc may be mounted at /proc"),
        (to("/proc", "/none such"), "/destination: only a proc may be mounted at /proc"),
        (json!({"destination": "/proc", "type": "tmpfs"}), "/destination: only a proc may be mounted at /proc"),
        (json!({"destination": "/proc", "type": "cgroup"}), "/destination: only a proc may be mounted at /proc"),
        (to("/proc/meminfo", "/tmp"), ""),
        (to("//proc/./x/../uptime", "/tmp"), ""),
        (to("/proc/self/attr", "/tmp"), "/destination: /proc/self/attr is inside /proc"),
        (to("/proc/net/dev", "/tmp"), "/destination: /proc/net/dev is inside /proc"),
        (to("/a/../proc/sys", "/tmp"), "/destination: /proc/sys is inside /proc"),
        (to("/process", "/tmp"), ""),
    ]);
}

#[test]
fn linux() {
    check([
        ("/linux/cgroupsPath", json!("/a/../b"), "/linux/cgroupsPath: path /a/../b has a .. in it"),
        ("/linux/cgroupsPath", json!("/"), "/linux/cgroupsPath: path / names no cgroup of the container's own"),
        ("/linux/cgroupsPath", json!("a:b:c"), "/linux/cgroupsPath: slice a does not end in .slice"),
        (
            "/linux/cgroupsPath",
            json!("a.slice:b:"),
            "/linux/cgroupsPath: the part after the last colon is missing: it names the unit",
        ),
        ("/linux/maskedPaths/-", json!("proc/x"), "/linux/maskedPaths/10: path proc/x is not absolute"),
        ("/linux/maskedPaths/-", json!("/x/.."), "/linux/maskedPaths/10: names the root directory: see root.readonly"),
        ("/linux/readonlyPaths/-", json!("/"), "/linux/readonlyPaths/5: names the root directory: see root.readonly"),
        ("/linux/readonlyPaths/-", json!(""), "/linux/readonlyPaths/5: missing"),
        ("/linux/rootfsPropagation", json!("loose"), "/linux/rootfsPropagation: unknown propagation loose"),
        ("/linux/rootfsPropagation", json!("rslave"), ""),
        ("/linux/rootfsPropagation", json!(""), ""),
        ("/linux/uidMappings", json!([ids(0, 0, 1)]), "/linux/gidMappings: missing: there are uidMappings"),
        ("/linux/gidMappings", json!([ids(0, 0, 1)]), "/linux/uidMappings: missing: there are gidMappings"),
        ("/linux/uidMappings", json!([]), ""),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}), "/linux/timeOffsets: needs a time namespace"),
        ("/linux/timeOffsets", json!({}), ""),
        ("/linux/intelRdt", json!({"closID": "x"}), "/linux/intelRdt: Intel RDT is not supported yet"),
    ]);
}

#[test]
fn devices() {
    let device = |kind: &str, path: &str, major: i64, minor: i64| json!([{"type": kind, "path": path, "major": major, "minor": minor}]);
    let all = "/linux/devices";
    check([
        (all, device("c", "/dev/x", 1, 3), ""),
        (all, device("u", "/dev/x", 1, 3), ""),
        (all, device("p", "/dev/x", -1, -1), ""),
        (all, device("a", "/dev/x", 1, 3), "/linux/devices/0/type: no one device is of type a"),
        (all, device("c", "dev/x", 1, 3), "/linux/devices/0/path: path dev/x is not absolute"),
        (all, device("c", "/dev/..", 1, 3), "/linux/devices/0/path: names the root directory"),
        (all, device("b", "/dev/x", -1, 3), "/linux/devices/0/major: -1 is not 0 to 4095"),
        (all, device("b", "/dev/x", 1, 1 << 20), "/linux/devices/0/minor: 1048576 is not 0 to 1048575"),
        (
            all,
            json!([{"type": "c", "path": "/d", "major": 1, "minor": 3, "fileMode": 1 << 20}]),
            "/linux/devices/0/fileMode: 1048576 has more than permission bits",
        ),
    ]);
    let unknown = said(all, device("x", "/dev/x", 1, 3));
    assert!(unknown.starts_with("/linux/devices/0/type: unknown device type x at line 1 column "), "{unknown}");
}

#[test]
fn seccomp() {
    let all = "/linux/seccomp";
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let arg = |index: u32, op: &str| {
        json!({
            "names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": index, "value": 1, "op": op}],
        })
    };
    let listening = |fields: Value| {
        let mut profile = rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}));
        profile.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        profile
    };
    check([
        (all, rule(arg(5, "SCMP_CMP_EQ")), ""),
        (all, rule(arg(6, "SCMP_CMP_EQ")), "/linux/seccomp/syscalls/0/args/0/index: 6 is not 0 to 5"),
        (
            all,
            rule(json!({"names": [], "action": "SCMP_ACT_LOG"})),
            "/linux/seccomp/syscalls/0/names: missing: a rule is for at least one system call",
        ),
        (
            all,
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "/linux/seccomp/syscalls/0/errnoRet: 4096 is more than 4095",
        ),
        (
            all,
            rule(json!({"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536})),
            "/linux/seccomp/syscalls/0/errnoRet: 65536 is more than 65535",
        ),
        (
            all,
            rule(json!({"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1})),
            "/linux/seccomp/syscalls/0/errnoRet: SCMP_ACT_KILL returns no errno",
        ),
        (
            all,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "/linux/seccomp/defaultErrnoRet: SCMP_ACT_ALLOW returns no errno",
        ),
        (
            all,
            rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"})),
            "/linux/seccomp/listenerPath: missing: SCMP_ACT_NOTIFY needs somebody to notify",
        ),
        (
            all,
            rule(json!({"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"})),
            "/linux/seccomp/syscalls/0/names/1: SCMP_ACT_NOTIFY would hold up the runtime itself",
        ),
        (
            all,
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/l"}),
            "/linux/seccomp/defaultAction: SCMP_ACT_NOTIFY would hold up the runtime itself",
        ),
        (all, listening(json!({"listenerPath": "agent"})), "/linux/seccomp/listenerPath: path agent is not absolute"),
        (
            all,
            listening(json!({
                "listenerPath": "/a", "listenerMetadata": "m", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            })),
            "",
        ),
        (all, json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "l", "listenerMetadata": "m"}), ""),
        (
            all,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}),
            "/linux/seccomp/listenerMetadata: there is no listenerPath to send it to",
        ),
        (
            all,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
            "/linux/seccomp/flags/0: is for filters with SCMP_ACT_NOTIFY only",
        ),
    ]);
    for (value, expected) in [
        (json!({"defaultAction": "X"}), "/defaultAction: unknown seccomp action X"),
        (rule(json!({"names": ["read"], "action": "Y"})), "/syscalls/0/action: unknown seccomp action Y"),
        (rule(arg(0, "EQ")), "/syscalls/0/args/0/op: unknown seccomp operator EQ"),
        (
            json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["x86"]}),
            "/architectures/0: unknown seccomp architecture x86",
        ),
        (json!({"defaultAction": "SCMP_ACT_LOG", "flags": ["F"]}), "/flags/0: unknown seccomp flag F"),
        (json!({}), ": missing field `defaultAction`"),
    ] {
        let said = said(all, value);
        assert!(said.starts_with(&format!("/linux/seccomp{expected} at line 1 column ")), "{said}");
    }
}

#[test]
fn what_is_not_json_or_not_of_the_type() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("config.json");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        read(place.path()).unwrap_err().to_string()
    };
    assert_eq!(said(""), "config.json: not JSON: EOF while parsing a value at line 1 column 0");
    assert_eq!(said("{\n \"a\" 1}"), "config.json: not JSON: expected `:` at line 2 column 6");
    assert_eq!(
        said("{\"mounts\": [{\"destination\": 7}]}"),
        "/mounts/0/destination: invalid type: integer `7`, expected path string at line 1 column 29"
    );
    assert_eq!(said("{\"process\": {\"user\": {}}}"), "/process: missing field `cwd` at line 1 column 24");
    assert_eq!(
        said("{\"linux\": {\"sysctl\": {\"a/b\": 1}}}"),
        "/linux/sysctl/a~1b: invalid type: integer `1`, expected a string at line 1 column 30"
    );
}

#[test]
fn nul_bytes() {
    check([
        ("/process/args/-", json!("a\0b"), "/process/args/2: holds a NUL byte"),
        ("/linux/sysctl", json!({"net.\0": "1"}), "/linux/sysctl/net.\0: holds a NUL byte"),
        ("/root/path", json!("\0"), "/root/path: holds a NUL byte"),
        ("/process/args/-", json!("\\u0000"), ""),
    ]);
}

#[test]
fn a_bundle_that_is_not_there() {
    let id = ContainerId::new("demo").unwrap();
    let said = |path: &str| Bundle::read(path.as_ref(), &id).unwrap_err().to_string();
    assert_eq!(said("bundle"), "bundle path bundle is not absolute");
    assert_eq!(said("/none such"), "read /none such/config.json: No such file or directory (os error 2)");
}

/// Pointers of an exec request are its own.
#[test]
fn an_exec_request() {
    let good = sample("ctr-run")["process"].take();
    let process = Bundle::process(good.to_string().as_bytes()).unwrap();
    assert_eq!(process, read(bundle(&sample("ctr-run")).path()).unwrap().process);
    for (pointer, value, expected) in [
        ("/cwd", json!("x"), "/cwd: path x is not absolute"),
        ("/env", json!(["\0=x"]), "/env/0: holds a NUL byte"),
        ("/args", json!("sh"), "/args: invalid type: string \"sh\", expected a sequence at line 1 column "),
    ] {
        let mut process = good.clone();
        set(&mut process, pointer, value);
        let said = Bundle::process(process.to_string().as_bytes()).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}");
    }
}
