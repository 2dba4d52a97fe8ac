//! Plans as text, and the order that no plan may break.

use std::path::PathBuf;
use std::sync::atomic::AtomicI32;

use config::ContainerId;
use config::container::{
    Capabilities, CgroupPath, Container, Device, DeviceKind, Mount, MountAttributes, MountKind, Namespace,
    NamespaceKind, Process, Propagation, PropagationKind, Rlimit, Root, User,
};
use init::sync::Point;
use init::{Instruction, Step};
use proptest::prelude::*;

use super::seccomp::Filter;
use super::{Facts, Plan, Stay};
use crate::cgroup::Hierarchy;

fn process() -> Process {
    let mask = 0xa804_25fb;
    Process {
        terminal: false,
        console_size: None,
        cwd: "/work".into(),
        args: vec!["sh".to_owned(), "-c".to_owned(), "exit 7".to_owned()],
        env: vec!["PATH=/usr/bin:/bin".to_owned(), "TERM=xterm".to_owned()],
        user: User { uid: 33, gid: 34, umask: 0o027, additional_gids: vec![5, 6] },
        capabilities: Capabilities { bounding: mask, effective: mask, inheritable: 0, permitted: mask, ambient: 0 },
        rlimits: vec![Rlimit { resource: 7, soft: 1024, hard: u64::MAX }],
        no_new_privileges: true,
        oom_score_adj: Some(100),
    }
}

fn filesystem(fs_type: &str, destination: &str, set: u64, options: &[(&str, Option<&str>)]) -> Mount {
    let own = |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(str::to_owned));
    Mount {
        destination: destination.into(),
        kind: MountKind::Filesystem {
            fs_type: fs_type.to_owned(),
            source: fs_type.to_owned(),
            options: options.iter().map(own).collect(),
        },
        attributes: MountAttributes { set, clear: 0 },
        recursive_attributes: MountAttributes::default(),
        propagation: Vec::new(),
    }
}

fn mounts() -> Vec<Mount> {
    let bind = Mount {
        destination: "/etc/hosts".into(),
        kind: MountKind::Bind { source: "/var/lib/x/hosts".into(), recursive: true },
        attributes: MountAttributes { set: 1, clear: 2 },
        recursive_attributes: MountAttributes { set: 8, clear: 0 },
        propagation: vec![Propagation { kind: PropagationKind::Private, recursive: true }],
    };
    let cgroup = Mount {
        destination: "/sys/fs/cgroup".into(),
        kind: MountKind::Cgroup,
        attributes: MountAttributes { set: 0xf, clear: 0 },
        recursive_attributes: MountAttributes::default(),
        propagation: Vec::new(),
    };
    vec![
        filesystem("proc", "/proc", 0xe, &[]),
        filesystem("tmpfs", "/dev", 0x22, &[("mode", Some("755")), ("size", Some("65536k"))]),
        filesystem("devpts", "/dev/pts", 0xa, &[("newinstance", None), ("ptmxmode", Some("0666"))]),
        filesystem("tmpfs", "/run", 1, &[]),
        cgroup,
        bind,
    ]
}

fn container() -> Container {
    let namespace = |kind| Namespace { kind, path: None };
    Container {
        id: ContainerId::new("c1").unwrap(),
        bundle: "/b".into(),
        root: Root { path: "/b/rootfs".into(), readonly: true },
        process: process(),
        hostname: Some("box".to_owned()),
        domainname: None,
        mounts: mounts(),
        namespaces: vec![
            namespace(NamespaceKind::Ipc),
            Namespace { kind: NamespaceKind::Network, path: Some("/run/netns/a".into()) },
            namespace(NamespaceKind::Pid),
            namespace(NamespaceKind::Mount),
        ],
        cgroup: CgroupPath::Absolute("a/c1".into()),
        resources: config::resources::Resources::default(),
        devices: vec![Device {
            path: "/dev/fuse".into(),
            kind: DeviceKind::Character,
            major: 10,
            minor: 229,
            mode: 0o600,
            uid: 1,
            gid: 2,
        }],
        sysctl: vec![("net/ipv4/ip_forward".to_owned(), "1".to_owned())],
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        rootfs_propagation: None,
        seccomp: None,
        annotations: Vec::new(),
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    let hierarchy = |name: &str, links: &[&str]| Hierarchy {
        name: name.to_owned(),
        host: PathBuf::from(format!("/sys/fs/cgroup/{name}/a/c1")),
        links: links.iter().map(|link| (*link).to_owned()).collect(),
    };
    vec![hierarchy("memory", &[]), hierarchy("cpu,cpuacct", &["cpu", "cpuacct"])]
}

fn filter() -> Filter {
    Filter { program: vec![Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }], flags: 2 }
}

fn facts<'a>(hierarchies: &'a [Hierarchy], filter: Option<&'a Filter>) -> Facts<'a> {
    Facts { hierarchies, joins: &[], filter, last_capability: 40, home: "/var/www" }
}

fn text(plan: &Plan) -> String {
    plan.lines().collect::<Vec<_>>().join("\n")
}

#[test]
fn the_plan_of_a_container() {
    let (hierarchies, filter) = (hierarchies(), filter());
    let joins = ["/sys/fs/cgroup/memory/a/c1".into(), "/sys/fs/cgroup/cpu,cpuacct/a/c1".into()];
    let facts = Facts { joins: &joins, ..facts(&hierarchies, Some(&filter)) };
    insta::assert_snapshot!(text(&Plan::init(&container(), &facts).unwrap()));
}

#[test]
fn the_cgroup_mount_on_v2() {
    let only = [Hierarchy { name: String::new(), host: "/sys/fs/cgroup/a/c1".into(), links: Vec::new() }];
    let mounted = |container: &Container| {
        let plan = text(&Plan::init(container, &facts(&only, None)).unwrap());
        let lines = plan.lines().filter(|line| line.contains("/sys/fs/cgroup"));
        lines
            .map(|line| line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).to_owned())
            .collect::<Vec<_>>()
    };
    let mut container = container();
    let whole = "mount /sys/fs/cgroup at /sys/fs/cgroup (bind,ro,nosuid,nodev,noexec)";
    assert_eq!(mounted(&container), [whole, "remount /sys/fs/cgroup (ro)"]);
    container.namespaces.push(Namespace { kind: NamespaceKind::Cgroup, path: None });
    let own = "mount /sys/fs/cgroup/a/c1 at /sys/fs/cgroup (bind,ro,nosuid,nodev,noexec)";
    assert_eq!(mounted(&container), [own, "remount /sys/fs/cgroup (ro)"]);
}

#[test]
fn the_plan_of_a_terminal_without_no_new_privileges() {
    let (hierarchies, filter) = (hierarchies(), filter());
    let mut container = container();
    container.process.terminal = true;
    container.process.console_size = Some((24, 80));
    container.process.no_new_privileges = false;
    container.rootfs_propagation = Some(Propagation { kind: PropagationKind::Shared, recursive: true });
    insta::assert_snapshot!(text(&Plan::init(&container, &facts(&hierarchies, Some(&filter))).unwrap()));
}

#[test]
fn the_plan_of_an_exec() {
    let filter = filter();
    let plan = Plan::exec(&process(), &container().namespaces, &facts(&[], Some(&filter))).unwrap();
    insta::assert_snapshot!(text(&plan));
}

/// A pod whose containers share a pid namespace, on a network that was made for it.
fn sandbox() -> config::Sandbox {
    let new = |kind| Namespace { kind, path: None };
    config::Sandbox {
        id: ContainerId::new("pod").unwrap(),
        bundle: "/run/pod".into(),
        namespaces: vec![
            new(NamespaceKind::Ipc),
            new(NamespaceKind::Uts),
            Namespace { kind: NamespaceKind::Network, path: Some("/run/netns/pod".into()) },
            new(NamespaceKind::Pid),
        ],
        host_pid: false,
        hostname: Some("web".into()),
        sysctl: vec![("net/ipv4/ip_forward".into(), "1".into())],
        resolv_conf: None,
        cgroup: CgroupPath::Absolute("pod".into()),
        parent: None,
    }
}

#[test]
fn the_plan_of_a_sandbox_whose_process_stays() {
    let joins = [PathBuf::from("/sys/fs/cgroup/pids/pod")];
    let stay = Stay { root: "/run/pod/rootfs".as_ref(), joins: &joins, oom_score_adj: Some(-998) };
    insta::assert_snapshot!(text(&Plan::sandbox(&sandbox(), Some(&stay)).unwrap()));
}

#[test]
fn the_plan_of_a_sandbox_without_a_process() {
    let sandbox = config::Sandbox { namespaces: sandbox().namespaces[..3].to_vec(), ..sandbox() };
    insta::assert_snapshot!(text(&Plan::sandbox(&sandbox, None).unwrap()));
}

#[test]
fn the_children_find_what_the_plan_laid_out() {
    let plan = Plan::exec(&process(), &[], &facts(&[], None)).unwrap();
    plan.with_program(&[7, 8, 9], 12, &AtomicI32::new(0), |program| {
        assert_eq!(program.argv.len(), 4);
        assert_eq!(program.envp.len(), 4, "PATH, TERM, HOME and the end");
        assert!(program.argv[3].is_null() && program.envp[3].is_null());
        let tried: Vec<_> = program.candidates.iter().map(|text| program.str(*text).unwrap()).collect();
        assert_eq!(tried, [c"/usr/bin/sh", c"/bin/sh"]);
        assert_eq!(program.fd(init::Descriptor(2)), Ok(9));
        assert!(program.fd(init::Descriptor(3)).is_err());
    });
}

#[test]
fn a_device_of_the_users_takes_the_place_of_a_default_one() {
    let mut container = container();
    container.devices[0].path = "/dev/null".into();
    let plan = Plan::init(&container, &facts(&[], None)).unwrap();
    assert_eq!(plan.lines().filter(|line| line.contains("make /dev/null")).count(), 1);
}

#[test]
fn a_bind_over_dev_keeps_its_own_devices() {
    let mut container = container();
    container.mounts.push(Mount {
        kind: MountKind::Bind { source: "/dev".into(), recursive: true },
        ..filesystem("", "/dev", 0, &[])
    });
    let plan = Plan::init(&container, &facts(&[], None)).unwrap();
    assert!(!text(&plan).contains("make /dev/"));
}

/// Where the only step of its kind stands.
fn at(plan: &Plan, kind: impl Fn(&Step) -> bool) -> Option<usize> {
    let steps = plan.stage_one.iter().chain(&plan.stage_two);
    steps.enumerate().filter(|(_, step)| kind(step)).map(|(place, _)| place).last()
}

fn variants() -> impl Strategy<Value = (Container, bool)> {
    let flags = prop::collection::vec(any::<bool>(), 5);
    (flags, any::<bool>(), prop::collection::vec("/[a-z]{1,4}", 0..4)).prop_map(|(flags, filtered, paths)| {
        let mut container = container();
        container.process.terminal = flags[0];
        container.process.no_new_privileges = flags[1];
        container.root.readonly = flags[2];
        container.masked_paths = paths.iter().map(PathBuf::from).collect();
        if flags[3] {
            container.mounts.clear();
        }
        if flags[4] {
            container.namespaces.retain(|namespace| namespace.kind == NamespaceKind::Mount);
        }
        (container, filtered)
    })
}

proptest! {
    #[test]
    fn the_order_that_safety_rests_on((container, filtered) in variants()) {
        let (hierarchies, filter) = (hierarchies(), filter());
        let plan = Plan::init(&container, &facts(&hierarchies, filtered.then_some(&filter))).unwrap();
        let place = |kind: fn(&Step) -> bool| at(&plan, kind);
        let pivot = place(|s| matches!(s, Step::PivotRoot)).unwrap();
        let identity = place(|s| matches!(s, Step::Identity { .. })).unwrap();
        let close = place(|s| matches!(s, Step::CloseOnExec)).unwrap();
        let go = place(|s| matches!(s, Step::Sync { point: Point::Ready })).unwrap();
        let execute = place(|s| matches!(s, Step::Execute)).unwrap();
        let mounted = place(|s| matches!(s, Step::MountFilesystem { .. } | Step::MountBind { .. } | Step::MakeNode { .. }));
        let masked = place(|s| matches!(s, Step::MaskPath { .. } | Step::ReadonlyPath { .. }));
        let cwd = place(|s| matches!(s, Step::WorkingDirectory { .. })).unwrap();
        let capabilities = place(|s| matches!(s, Step::Capabilities { .. })).unwrap();
        let bounding = place(|s| matches!(s, Step::BoundingSet { .. })).unwrap();
        let seccomp = place(|s| matches!(s, Step::Seccomp { .. }));
        prop_assert!(mounted.is_none_or(|place| place < pivot));
        prop_assert!(masked.is_none_or(|place| pivot < place && place < cwd));
        prop_assert!(pivot < cwd && cwd < identity && bounding < identity && identity < capabilities);
        prop_assert!(capabilities < go && close < go && go + 1 == execute);
        prop_assert_eq!(execute + 1, plan.lines().count());
        prop_assert_eq!(seccomp.is_some(), filtered);
        prop_assert!(seccomp.is_none_or(|place| identity < place && close < place && place < go));
        // A process may be allowed fewer files than are open by then.
        let limit = place(|s| matches!(s, Step::Rlimit { .. })).unwrap();
        let opened = place(|s| matches!(s, Step::SetAttributes { .. } | Step::SetPropagation { .. })).unwrap_or(cwd);
        prop_assert!(cwd < limit && opened < limit && limit < bounding);
        let descriptors: Vec<i32> = (100..).take(plan.sources().len()).collect();
        let valid = plan.with_program(&descriptors, 99, &AtomicI32::new(0), |program| {
            program.stage_one.iter().chain(program.stage_two).all(|step| match *step {
                Step::JoinCgroup { tasks: file, directory } => program.fd(file).is_ok() && program.str(directory).is_ok(),
                Step::JoinNamespaces { target, .. } => program.fd(target).is_ok(),
                Step::SetStdio { files, .. } => files.iter().all(|file| program.fd(*file).is_ok()),
                _ => true,
            })
        });
        prop_assert!(valid);
    }
}

#[test]
fn namespaces_are_named_as_in_the_spec() {
    // The bits and the names must agree, or an error would name the wrong namespace.
    for (kind, name) in [(NamespaceKind::Pid, "pid"), (NamespaceKind::Mount, "mount")] {
        let mut container = container();
        container.namespaces = vec![Namespace { kind, path: None }];
        let plan = Plan::init(&container, &facts(&[], None)).unwrap();
        assert!(text(&plan).contains(&format!("make new {name} namespace")));
    }
}
