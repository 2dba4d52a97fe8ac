//! Defaults and conversions that the samples of real clients do not show.

use config::container::{CpuAffinity, DeviceKind, Links, MemoryPolicy, MountKind, PropagationKind, Scheduler};
use serde_json::{Value, json};

use crate::common::{resolve, sample, set};

/// `ctr run`'s container with `value` at `pointer`.
fn with(pointer: &str, value: Value) -> config::Container {
    let mut spec = sample("ctr-run");
    set(&mut spec, pointer, value);
    resolve(&spec).expect("it is good")
}

/// What a mount with `fields` becomes, and where.
fn mount(fields: Value) -> (String, MountKind) {
    let mount = with("/mounts/-", fields).mounts.pop().expect("it is the last");
    (mount.destination.display().to_string(), mount.kind)
}

#[test]
fn a_bind_by_any_spelling() {
    for (fields, recursive) in [
        (json!({"type": "bind", "options": []}), false),
        (json!({"type": "bind", "options": null}), false),
        (json!({"options": ["bind"]}), false),
        (json!({"type": "tmpfs", "options": ["bind"]}), false),
        (json!({"type": "bind", "options": ["rbind"]}), true),
        (json!({"type": "cgroup", "options": ["bind", "rbind"]}), true),
        (json!({"type": "none", "options": ["rbind", "bind"]}), true),
    ] {
        let mut fields = fields;
        fields["destination"] = json!("../d/./e/");
        fields["source"] = json!("/s/../t");
        let shown = fields.to_string();
        let bind = MountKind::Bind { source: "/s/../t".into(), recursive, links: Links::default() };
        assert_eq!(mount(fields), ("/d/e".to_owned(), bind), "{shown}");
    }
}

#[test]
fn a_relative_source_starts_at_the_bundle() {
    let (_, kind) = mount(json!({"destination": "/d", "source": "data", "options": ["bind"]}));
    let MountKind::Bind { source, .. } = kind else { panic!("{kind:?}") };
    let directory = source.parent().and_then(|parent| parent.file_name()?.to_str()).unwrap_or_default();
    assert!(source.is_absolute() && source.ends_with("data") && directory.starts_with("bundle-"), "{source:?}");
}

#[test]
fn a_superblock_is_read_only_where_there_is_something_behind_it() {
    for (fs_type, options, expected) in [
        ("ext4", &["ro"][..], &[("ro", None)][..]),
        ("overlay", &["ro", "lowerdir=/a:/b"], &[("lowerdir", Some("/a:/b")), ("ro", None)]),
        ("ext4", &["ro", "rw"], &[]),
        ("ext4", &["rro"], &[]),
        ("tmpfs", &["ro", "size=1m"], &[("size", Some("1m"))]),
        ("sysfs", &["ro"], &[]),
        ("xfs", &["sync", "lazytime"], &[("sync", None), ("lazytime", None)]),
        ("xfs", &["iversion"], &[]),
        ("ext4", &["iversion"], &[("i_version", None)]),
        ("ext4", &["iversion", "noiversion"], &[]),
    ] {
        let (_, kind) = mount(json!({"destination": "/d", "type": fs_type, "source": "/dev/x", "options": options}));
        let MountKind::Filesystem { options: resolved, source, .. } = kind else { panic!("{kind:?}") };
        let resolved: Vec<_> = resolved.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!((resolved.as_slice(), source.as_str()), (expected, "/dev/x"), "{fs_type} {options:?}");
    }
}

#[test]
fn options_about_links_and_copies() {
    let (_, kind) =
        mount(json!({"destination": "/d", "source": "/s", "options": ["bind", "src-nofollow,dest-nofollow"]}));
    let links = Links { source_nofollow: true, destination_nofollow: true, copy: false };
    assert_eq!(kind, MountKind::Bind { source: "/s".into(), recursive: false, links });
    let (_, kind) = mount(json!({"destination": "/d", "source": "/s", "options": ["rbind", "copy-symlink"]}));
    let links = Links { copy: true, ..Links::default() };
    assert_eq!(kind, MountKind::Bind { source: "/s".into(), recursive: true, links });
    for (option, expected) in [("tmpcopyup", true), ("nosuid", false)] {
        let (_, kind) = mount(json!({"destination": "/d", "type": "tmpfs", "options": [option]}));
        assert!(matches!(kind, MountKind::Filesystem { copy_up, .. } if copy_up == expected), "{option}: {kind:?}");
    }
}

#[test]
fn a_remount_needs_neither_type_nor_source() {
    assert_eq!(mount(json!({"destination": "/proc", "options": ["remount", "ro"]})).1, MountKind::Remount);
    assert_eq!(mount(json!({"destination": "/d", "options": ["bind", "remount"]})).1, MountKind::Remount);
}

#[test]
fn devices() {
    let device = |device: Value| with("/linux/devices", json!([device])).devices.remove(0);
    let fifo = device(json!({"path": "/dev/../dev/f", "type": "p", "major": 7, "minor": 7}));
    assert_eq!((fifo.kind, fifo.major, fifo.minor, fifo.mode), (DeviceKind::Fifo, 0, 0, 0o666));
    assert_eq!(fifo.path.to_str(), Some("/dev/f"));
    let block =
        device(json!({"path": "/d", "type": "b", "major": 4095, "minor": 1_048_575, "fileMode": 0o60_640, "gid": 6}));
    assert_eq!((block.kind, block.major, block.minor), (DeviceKind::Block, 4095, 1_048_575));
    assert_eq!((block.mode, block.uid, block.gid), (0o640, 0, 6));
    assert_eq!(device(json!({"path": "/d", "type": "u", "major": 1, "minor": 3})).kind, DeviceKind::Character);
}

#[test]
fn seccomp() {
    let all = "/linux/seccomp";
    let arg = json!({"index": 5, "value": u64::MAX, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"});
    let rules = json!([{"names": ["read"], "action": "SCMP_ACT_TRACE", "args": [arg]}]);
    let seccomp =
        with(all, json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [], "syscalls": rules})).seccomp.unwrap();
    let condition = seccomp.rules[0].conditions[0];
    assert_eq!((condition.index, condition.value, condition.value_two), (5, u64::MAX, 3));
    assert_eq!((seccomp.flags, format!("{:?}", seccomp.rules[0].action).as_str()), (0, "Trace(1)"));

    let flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
    let architectures = ["SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390X"];
    let profile = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "flags": flags, "architectures": architectures});
    let seccomp = with(all, profile).seccomp.unwrap();
    assert_eq!((seccomp.flags, seccomp.architectures.as_slice()), (7, &architectures.map(str::to_owned)[..]));
    assert_eq!(with(all, json!({"defaultAction": "SCMP_ACT_LOG"})).seccomp.unwrap().flags, 4, "absent is not empty");
}

#[test]
fn rootfs_propagation() {
    let of = |name: &str| with("/linux/rootfsPropagation", json!(name)).rootfs_propagation;
    assert_eq!(of(""), None);
    let propagation = of("runbindable").unwrap();
    assert_eq!((propagation.kind, propagation.recursive), (PropagationKind::Unbindable, true));
}

#[test]
fn scheduling() {
    let process = with(
        "/process/scheduler",
        json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3, "flags": [
            "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
            "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
        ]}),
    );
    let scheduler = Scheduler { policy: 6, nice: 0, priority: 0, flags: 0x7f, runtime: 1, deadline: 2, period: 3 };
    assert_eq!(process.process.scheduler, Some(scheduler));
    for (policy, number) in [("OTHER", 0), ("FIFO", 1), ("RR", 2), ("BATCH", 3), ("IDLE", 5)] {
        let scheduler = with("/process/scheduler", json!({"policy": format!("SCHED_{policy}")})).process.scheduler;
        assert_eq!(scheduler.unwrap().policy, number, "{policy}");
    }
    let io = with("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 5})).process.io_priority;
    assert_eq!(io, Some(2 << 13 | 5));
    let affinity = with("/process/execCPUAffinity", json!({"final": "0-1,70"})).process.exec_cpu_affinity;
    assert_eq!(affinity, Some(CpuAffinity { initial: None, last: Some(vec![3, 64]) }));
    let policy = json!({"mode": "MPOL_INTERLEAVE", "nodes": "1,3", "flags": ["MPOL_F_STATIC_NODES"]});
    let policy = with("/linux/memoryPolicy", policy).process.memory_policy;
    assert_eq!(policy, Some(MemoryPolicy { mode: 0x8003, nodes: vec![0b1010] }));
    assert_eq!(with("/linux/personality", json!({"domain": "LINUX32"})).process.personality, Some(8));
}

/// What a newer kernel has is left out, and what is known stays; so that clients may send the same to every node.
#[test]
fn capabilities_that_nobody_knows_are_left_out() {
    let sets = json!({"bounding": ["CAP_CHOWN", "CAP_OF_LINUX_9"], "permitted": ["CAP_OF_LINUX_9"]});
    let capabilities = with("/process/capabilities", sets).process.capabilities;
    assert_eq!((capabilities.bounding, capabilities.permitted), (1, 0));
}

#[test]
fn an_exec_takes_what_it_lacks_from_init() {
    let mut init = with("/process/apparmorProfile", json!("of-init")).process;
    init.personality = Some(8);
    init.oom_score_adj = Some(7);
    let mut process = with("/process/selinuxLabel", json!("of-exec")).process;
    process.oom_score_adj = Some(3);
    process.inherit(&init);
    assert_eq!((process.apparmor_profile.as_deref(), process.personality), (Some("of-init"), Some(8)));
    assert_eq!((process.selinux_label.as_deref(), process.oom_score_adj), (Some("of-exec"), Some(3)));
}
