//! Plans as text, and the order that no plan may break.

use std::path::PathBuf;

use config::ContainerId;
use config::container::{
    Capabilities, CgroupPath, Clock, Container, Device, DeviceKind, Hook, Idmap, Ids, Links, Mount, MountAttributes,
    MountKind, Namespace, NamespaceKind, Process, Propagation, PropagationKind, Rlimit, Root, TimeOffset, User,
};
use config::ids::{IdMap, IdMaps};
use init::step::Origin;
use init::sync::Point;
use init::{Instruction, Step};
use proptest::prelude::*;

use super::lsm::Lsm;
use super::seccomp::Filter;
use super::{Facts, Plan, Source, Stay, layers};
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
        apparmor_profile: None,
        selinux_label: None,
        scheduler: None,
        io_priority: None,
        exec_cpu_affinity: None,
        personality: None,
        memory_policy: None,
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
            copy_up: false,
        },
        attributes: MountAttributes { set, clear: 0 },
        recursive_attributes: MountAttributes::default(),
        propagation: Vec::new(),
        idmap: None,
    }
}

fn mounts() -> Vec<Mount> {
    let bind = Mount {
        destination: "/etc/hosts".into(),
        kind: MountKind::Bind { source: "/var/lib/x/hosts".into(), recursive: true, links: Links::default() },
        attributes: MountAttributes { set: 1, clear: 2 },
        recursive_attributes: MountAttributes { set: 8, clear: 0 },
        propagation: vec![Propagation { kind: PropagationKind::Private, recursive: true }],
        idmap: None,
    };
    let cgroup = Mount {
        destination: "/sys/fs/cgroup".into(),
        kind: MountKind::Cgroup,
        attributes: MountAttributes { set: 0xf, clear: 0 },
        recursive_attributes: MountAttributes::default(),
        propagation: Vec::new(),
        idmap: None,
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
        hooks: config::container::Hooks::default(),
        hostname: Some("box".to_owned()),
        domainname: None,
        mounts: mounts(),
        namespaces: vec![
            namespace(NamespaceKind::Ipc),
            Namespace { kind: NamespaceKind::Network, path: Some("/run/netns/a".into()) },
            namespace(NamespaceKind::Pid),
            namespace(NamespaceKind::Mount),
        ],
        mappings: IdMaps::default(),
        time_offsets: Vec::new(),
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
        net_devices: Vec::new(),
        sysctl: vec![("net/ipv4/ip_forward".to_owned(), "1".to_owned())],
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        rootfs_propagation: None,
        seccomp: None,
        mount_label: None,
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
    let (lsm, keyring) = (Lsm::default(), Some("_ses.c1"));
    Facts {
        hierarchies,
        joins: &[],
        filter,
        lsm,
        grantable: u64::MAX >> 23,
        proc_for_others: true,
        makes_devices: true,
        no_pivot_root: false,
        root: None,
        keyring,
        preserved: 0,
    }
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

/// Everything that only some processes have.
fn particular() -> Process {
    use config::container::{CpuAffinity, MemoryPolicy, Scheduler};
    Process {
        apparmor_profile: Some("web".to_owned()),
        selinux_label: Some("system_u:system_r:container_t:s0".to_owned()),
        scheduler: Some(Scheduler { policy: 6, nice: 0, priority: 0, flags: 1, runtime: 10, deadline: 20, period: 30 }),
        io_priority: Some(2 << 13 | 5),
        exec_cpu_affinity: Some(CpuAffinity { initial: Some(vec![1]), last: Some(vec![0b1110_1101, 1 << 63]) }),
        personality: Some(8),
        memory_policy: Some(MemoryPolicy { mode: 0x8002, nodes: vec![0b11] }),
        ..process()
    }
}

const BOTH: Lsm = Lsm { apparmor: true, selinux: true };

#[test]
fn the_plan_of_an_exec_with_everything_of_its_own() {
    let joins = ["/sys/fs/cgroup/cpuset/a/c1".into()];
    let facts = Facts { joins: &joins, lsm: BOTH, ..facts(&[], None) };
    insta::assert_snapshot!(text(&Plan::exec(&particular(), &container().namespaces, &facts).unwrap()));
}

#[test]
fn where_an_exec_may_run() {
    use config::container::CpuAffinity;
    let joins: [PathBuf; 1] = ["/sys/fs/cgroup/cpuset/a/c1".into()];
    let steps = |joins: &[PathBuf], affinity: Option<(Option<u64>, Option<u64>)>| {
        let set = |word: Option<u64>| word.map(|word| vec![word]);
        let affinity = affinity.map(|(initial, last)| CpuAffinity { initial: set(initial), last: set(last) });
        let process = Process { exec_cpu_affinity: affinity, oom_score_adj: None, ..process() };
        let plan = Plan::exec(&process, &[], &Facts { joins, ..facts(&[], None) }).unwrap();
        let settles = |step: &&Step| !matches!(step, Step::SessionKeyring { .. });
        let steps: Vec<_> = plan.stage_one.iter().take_while(settles).map(|step| plan.describe(step)).collect();
        steps.join("; ")
    };
    let join = "join cgroup /sys/fs/cgroup/cpuset/a/c1";
    assert_eq!(steps(&joins, None), format!("{join}; run on any CPU"));
    assert_eq!(steps(&joins, Some((None, Some(2)))), format!("{join}; run on CPUs 1"));
    assert_eq!(steps(&joins, Some((Some(1), Some(2)))), format!("run on CPUs 0; {join}; run on CPUs 1"));
    assert_eq!(steps(&joins, Some((Some(1), None))), format!("run on CPUs 0; {join}"), "the rest is the kernel's");
    // On v2 it is born in its cgroup.
    assert_eq!(steps(&[], Some((Some(1), Some(2)))), "run on CPUs 1");
    assert_eq!(steps(&[], Some((Some(1), None))), "run on any CPU");
}

#[test]
fn a_label_that_the_host_cannot_apply_is_refused_by_its_pointer() {
    let said = |process: &Process, lsm: Lsm| {
        let init =
            Plan::init(&Container { process: process.clone(), ..container() }, &Facts { lsm, ..facts(&[], None) });
        let exec = Plan::exec(process, &[], &Facts { lsm, ..facts(&[], None) });
        [init, exec].map(|plan| plan.err().map(|error| error.to_string()).unwrap_or_default())
    };
    let none = Lsm::default();
    let apparmor = Process { apparmor_profile: Some("p".to_owned()), ..process() };
    let here = |pointer: &str, module: &str| {
        ["/process", ""].map(|place| format!("{place}/{pointer}: {module} is not enabled on this host"))
    };
    assert_eq!(said(&apparmor, none), here("apparmorProfile", "AppArmor"));
    assert_eq!(said(&apparmor, BOTH), ["", ""]);
    let unconfined = Process { apparmor_profile: Some("unconfined".to_owned()), ..process() };
    assert_eq!(said(&unconfined, none), ["", ""], "everything is");
    let selinux = Process { selinux_label: Some("l".to_owned()), ..process() };
    assert_eq!(said(&selinux, none), here("selinuxLabel", "SELinux"));
    assert_eq!(said(&selinux, Lsm { selinux: true, apparmor: false }), ["", ""]);
    let mount = Container { mount_label: Some("l".to_owned()), ..container() };
    let error = Plan::init(&mount, &facts(&[], None)).unwrap_err().to_string();
    assert_eq!(error, "/linux/mountLabel: SELinux is not enabled on this host");
}

#[test]
fn labels_are_set_before_the_hosts_tree_is_left() {
    let container = Container { process: particular(), ..container() };
    let plan = Plan::init(&container, &Facts { lsm: BOTH, ..facts(&hierarchies(), None) }).unwrap();
    let first: Vec<_> = plan.stage_one.iter().take(2).map(|step| plan.describe(step)).collect();
    assert_eq!(
        first,
        [
            "write \"exec web\" to /proc/thread-self/attr/apparmor/exec",
            "write \"system_u:system_r:container_t:s0\" to /proc/thread-self/attr/exec"
        ]
    );
    assert_eq!(plan.hint(0, nix::errno::Errno::ENOENT, &[]), "no such AppArmor profile is loaded");
    assert_eq!(plan.hint(1, nix::errno::Errno::ENOENT, &[]), "");
}

#[test]
fn a_mount_label_goes_to_file_systems_that_take_one() {
    let mut container = Container { mount_label: Some("u:r:t:s0:c1,c2".to_owned()), ..container() };
    container.mounts.push(filesystem("tmpfs", "/own", 0, &[("context", Some("mine"))]));
    container.mounts.push(filesystem("mqueue", "/dev/mqueue", 0, &[]));
    let hierarchies = hierarchies();
    let plan = Plan::init(&container, &Facts { lsm: BOTH, ..facts(&hierarchies, None) }).unwrap();
    let lines: Vec<_> = plan.lines().filter(|line| line.contains("context=")).collect();
    let places: Vec<_> = lines.iter().filter_map(|line| line.split(" at ").nth(1)?.split(' ').next()).collect();
    assert_eq!(places, ["/dev", "/dev/pts", "/run", "/own"]);
    assert!(lines[3].contains("context=mine") && lines[0].contains("context=u:r:t:s0:c1,c2"), "{lines:?}");
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
        mappings: IdMaps::default(),
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
fn the_plan_of_a_sandbox_in_a_user_namespace() {
    let map = vec![IdMap { container: 0, host: 1000, size: 65536 }];
    let mappings = IdMaps { uids: map.clone(), gids: map };
    let mut sandbox = config::Sandbox { mappings, ..sandbox() };
    sandbox.namespaces.push(Namespace { kind: NamespaceKind::User, path: Some("/proc/self/fd/9".into()) });
    let stay = Stay { root: "/run/pod/rootfs".as_ref(), joins: &[], oom_score_adj: None };
    insta::assert_snapshot!(text(&Plan::sandbox(&sandbox, Some(&stay)).unwrap()));
    sandbox.mappings.gids[0].size = 65535;
    let refused = Plan::sandbox(&sandbox, Some(&stay)).unwrap_err().to_string();
    assert_eq!(refused, "id 65535, of the process that stays, is not mapped in the user namespace");
}

#[test]
fn the_children_find_what_the_plan_laid_out() {
    let plan = Plan::exec(&process(), &[], &facts(&[], None)).unwrap();
    plan.with_program(&[7, 8, 9], 12, &plan.memory().unwrap(), |program| {
        assert_eq!(program.argv.len(), 4);
        assert_eq!(program.envp.len(), 4, "PATH, TERM, HOME and the end");
        assert_eq!(program.home.as_ptr().addr(), program.envp[2].addr() + "HOME=".len());
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
        kind: MountKind::Bind { source: "/dev".into(), recursive: true, links: Links::default() },
        ..filesystem("", "/dev", 0, &[])
    });
    let plan = Plan::init(&container, &facts(&[], None)).unwrap();
    assert!(!text(&plan).contains("make /dev/"));
}

/// What takes no right and opens nothing.
fn is_harmless(step: &Step) -> bool {
    match step {
        Step::Rlimit { resource, .. } => *resource == nix::sys::resource::Resource::RLIMIT_NPROC as u32,
        step => matches!(step, Step::NewSession { .. } | Step::Seccomp { .. } | Step::Sync { .. } | Step::Execute),
    }
}

/// With a filter that forbids clone(2).
fn no_clone() -> Filter {
    let load = |k| Instruction { code: 0x20, jt: 0, jf: 0, k };
    let number = u32::try_from(syscalls::Sysno::clone.id()).unwrap();
    let program = [
        load(0),
        Instruction { code: 0x15, jt: 0, jf: 1, k: number },
        Instruction { code: 6, jt: 0, jf: 0, k: 0x0005_0001 },
        Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 },
    ];
    Filter { program: program.into(), flags: 0 }
}

#[test]
fn what_others_can_see_of_a_process_has_no_more_than_its_own_rights() {
    let (hierarchies, allows, forbids) = (hierarchies(), filter(), no_clone());
    let mut joined = container();
    joined.namespaces.retain(|namespace| namespace.kind != NamespaceKind::Pid);
    joined.namespaces.push(Namespace { kind: NamespaceKind::Pid, path: Some("/p".into()) });
    for (filter, no_new_privileges, keeps_a_right) in [
        (None, false, false),
        (Some(&allows), true, false),
        (Some(&allows), false, false),
        (Some(&forbids), true, false),
        // There is no other way: whoever loads a filter must be forked before.
        (Some(&forbids), false, true),
    ] {
        let facts = facts(&hierarchies, filter);
        let container = Container { process: Process { no_new_privileges, ..process() }, ..joined.clone() };
        let hook = Hook { path: "/h".into(), args: Vec::new(), env: None, timeout: None };
        let plans = [
            Plan::init(&container, &facts),
            Plan::exec(&container.process, &container.namespaces, &facts),
            Plan::hook_inside(&hook, &container.process, &container.namespaces, &facts),
        ];
        for plan in plans.map(Result::unwrap) {
            let seen: Vec<_> = plan.stage_two.iter().filter(|step| !is_harmless(step)).collect();
            let right = |step: &&Step| matches!(step, Step::Capabilities { .. });
            assert_eq!(seen.iter().filter(|step| right(step)).count(), usize::from(keeps_a_right), "{}", text(&plan));
            assert!(seen.iter().all(right), "{}", text(&plan));
        }
    }
}

/// Before Linux 6.18.
#[test]
fn without_a_proc_for_others_a_joined_pid_namespace_is_entered_after_the_pivot() {
    let hierarchies = hierarchies();
    let facts = Facts { proc_for_others: false, ..facts(&hierarchies, None) };
    let mut container = container();
    container.namespaces.retain(|namespace| namespace.kind != NamespaceKind::Pid);
    container.namespaces.push(Namespace { kind: NamespaceKind::Pid, path: Some("/p".into()) });
    container.mounts.push(bind("/host/uptime", "/proc/uptime", false, 0));
    let plan = Plan::init(&container, &facts).unwrap();
    assert!(matches!(plan.stage_one.last(), Some(Step::EnterRoot { .. })), "{}", text(&plan));
    let inner = |step: &&Step| matches!(step, Step::MountFilesystem { .. } | Step::MountBind { .. });
    let inner: Vec<_> = plan.stage_two.iter().filter(inner).collect();
    let [Step::MountFilesystem { fs_type, pid_namespace: None, .. }, Step::MountBind { origin: Origin::Parent(_), .. }] =
        inner[..]
    else {
        panic!("{}", text(&plan));
    };
    assert_eq!(plan.show(*fs_type), "proc");
}

/// A child has no deadline, and what is to be reset at a fork would be.
#[test]
fn a_scheduler_that_is_not_inherited_is_set_after_the_fork() {
    let facts = Facts { lsm: BOTH, ..facts(&[], None) };
    let plan = Plan::exec(&particular(), &container().namespaces, &facts).unwrap();
    assert!(plan.stage_two.iter().any(|step| matches!(step, Step::Set(init::setting::Setting::Scheduler(_)))));
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
        let pivot = place(|s| matches!(s, Step::EnterRoot { .. })).unwrap();
        let identity = place(|s| matches!(s, Step::Identity { .. })).unwrap();
        let close = place(|s| matches!(s, Step::CloseOthers { .. })).unwrap();
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
        let limit = place(|s| matches!(s, Step::Rlimit { resource, .. } if *resource != nix::sys::resource::Resource::RLIMIT_NPROC as u32)).unwrap();
        let home = place(|s| matches!(s, Step::Home { .. })).unwrap();
        prop_assert!(pivot < home && home < limit);
        let opened = place(|s| matches!(s, Step::SetAttributes { .. } | Step::SetPropagation { .. })).unwrap_or(cwd);
        prop_assert!(cwd < limit && opened < limit && limit < bounding);
        let descriptors: Vec<i32> = (100..).take(plan.sources().len()).collect();
        let valid = plan.with_program(&descriptors, 99, &plan.memory().unwrap(), |program| {
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
fn a_sysfs_that_a_user_namespace_may_not_make_is_the_hosts() {
    let mut container = container();
    container.mounts = vec![filesystem("sysfs", "/sys", 0xf, &[])];
    let of = |container: &Container| {
        let plan = Plan::init(container, &facts(&[], None)).unwrap();
        let host = |source: &Source| matches!(source, Source::Tree { path, recursive: true, .. } if path == "/sys");
        (plan.lines().find(|line| line.contains(" at /sys ")).unwrap(), plan.sources().iter().any(host))
    };
    let (line, handed) = of(&container);
    assert!(line.ends_with("mount sysfs at /sys (ro,nosuid,nodev,noexec)") && !handed, "{line}");
    container.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    let (line, handed) = of(&container);
    assert!(line.ends_with("mount sysfs at /sys (ro,nosuid,nodev,noexec), or the host's") && handed, "{line}");
}

#[test]
fn preserved_descriptors_come_first_and_all_behind_them_are_closed() {
    for preserved in [0, 2] {
        let facts = Facts { preserved, ..facts(&[], None) };
        let (container, process) = (container(), process());
        let hook = Hook { path: "/hook".into(), args: Vec::new(), env: None, timeout: None };
        let plans = [
            (Plan::init(&container, &facts), preserved),
            (Plan::exec(&process, &container.namespaces, &facts), preserved),
            // A hook is not the program.
            (Plan::hook_before_pivot(&hook, &container, &[], &facts), 0),
            (Plan::hook_inside(&hook, &process, &container.namespaces, &facts), 0),
        ];
        for (plan, count) in plans {
            let plan = plan.unwrap();
            let first = plan.lines().next().unwrap();
            assert_eq!(first.ends_with("set descriptors 3 to 4"), count == 2, "{first}");
            assert_eq!(plan.first_number(), 3 + count);
            let closes = at(&plan, |step| *step == Step::CloseOthers { from: 3 + count });
            assert!(closes.is_some(), "{}", text(&plan));
        }
    }
}

#[test]
fn without_a_pivot_the_hosts_tree_is_always_a_slave() {
    let facts = Facts { no_pivot_root: true, ..facts(&[], None) };
    let mut container = container();
    for propagation in [None, Some(PropagationKind::Private), Some(PropagationKind::Unbindable)] {
        container.rootfs_propagation = propagation.map(|kind| Propagation { kind, recursive: false });
        let plan = text(&Plan::init(&container, &facts).unwrap());
        assert!(plan.contains("make / rslave") && plan.contains("move the root over /"), "{plan}");
        assert!(!plan.contains("pivot"), "{plan}");
    }
    container.rootfs_propagation = Some(Propagation { kind: PropagationKind::Shared, recursive: true });
    assert!(Plan::init(&container, &facts).unwrap_err().to_string().starts_with("/linux/rootfsPropagation: shared"));
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

fn id_maps() -> IdMaps {
    let map = vec![IdMap { container: 0, host: 100_000, size: 65_536 }];
    IdMaps { uids: map.clone(), gids: map }
}

/// The container in a user namespace and a time namespace of its own.
fn user_namespaced() -> Container {
    let mut container = container();
    let new = |kind| Namespace { kind, path: None };
    container.namespaces.insert(3, new(NamespaceKind::Time));
    container.namespaces.push(new(NamespaceKind::User));
    container.mappings = id_maps();
    container.time_offsets = vec![TimeOffset { clock: Clock::Boottime, seconds: 86_400, nanoseconds: 0 }];
    container
}

#[test]
fn the_plan_of_a_user_namespace() {
    let (hierarchies, filter) = (hierarchies(), filter());
    let joins = ["/sys/fs/cgroup/memory/a/c1".into()];
    let facts = Facts { joins: &joins, ..facts(&hierarchies, Some(&filter)) };
    insta::assert_snapshot!(text(&Plan::init(&user_namespaced(), &facts).unwrap()));
}

#[test]
fn the_plan_of_an_exec_into_a_user_namespace() {
    let plan = Plan::exec(&process(), &user_namespaced().namespaces, &facts(&[], None)).unwrap();
    let stage_one: Vec<_> = plan.lines().take(plan.stage_one.len()).collect();
    insta::assert_snapshot!(stage_one.join("\n"));
}

#[test]
fn id_mapped_mounts_are_the_parents_to_make() {
    let mut container = container();
    for mount in container
        .mounts
        .iter_mut()
        .filter(|mount| ["/run", "/etc/hosts"].contains(&mount.destination.to_str().unwrap()))
    {
        mount.idmap = Some(Idmap { ids: Ids::Maps(id_maps()), recursive: true });
    }
    let plan = Plan::init(&container, &facts(&[], None)).unwrap();
    let lines: Vec<_> = plan.lines().filter(|line| line.contains("idmap")).map(|line| line[6..].to_owned()).collect();
    assert_eq!(
        lines,
        ["mount tmpfs at /run (bind,ridmap)", "mount /var/lib/x/hosts at /etc/hosts (rbind,ro,suid,rnoexec,ridmap)",]
    );
    let handed =
        plan.sources().iter().filter(|source| matches!(source, Source::Tree { .. } | Source::Filesystem { .. }));
    assert_eq!(handed.count(), 2, "and nothing else is");
}

#[test]
fn outside_the_first_user_namespace_devices_are_the_hosts() {
    let facts = Facts { makes_devices: false, ..facts(&[], None) };
    let plan = text(&Plan::init(&container(), &facts).unwrap());
    assert!(
        plan.contains("mount /dev/null at /dev/null (bind)") && plan.contains("mount /dev/fuse at /dev/fuse (bind)"),
        "{plan}"
    );
    assert!(!plan.contains("make /dev/"), "{plan}");
}

fn bind(source: &str, destination: &str, recursive: bool, clear: u64) -> Mount {
    Mount {
        destination: destination.into(),
        kind: MountKind::Bind { source: source.into(), recursive, links: Links::default() },
        attributes: MountAttributes { set: 0, clear },
        recursive_attributes: MountAttributes::default(),
        propagation: Vec::new(),
        idmap: None,
    }
}

#[test]
fn what_an_earlier_mount_has_a_part_in_is_opened_in_the_container() {
    let mut container = container();
    for (earlier, source, recursive, expected) in [
        ("/mnt", "/b/rootfs/mnt", false, Some("/mnt")),
        ("/mnt", "/b/rootfs/mnt/x", false, Some("/mnt/x")),
        ("/mnt", "/b/rootfs/./mnt//x/", false, Some("/mnt/x")),
        ("/mnt/x", "/b/rootfs/mnt", true, Some("/mnt")),
        ("/mnt/x", "/b/rootfs", true, Some("/")),
        ("/mnt/x", "/b/rootfs/mnt", false, None),
        ("/mnt", "/b/rootfs/mntx", true, None),
        ("/mnt", "/mnt", false, None),
        ("/mnt", "/b/rootfsx/mnt", false, None),
    ] {
        container.mounts = vec![bind("/src", earlier, true, 0), bind(source, "/final", recursive, 0)];
        let found = layers::source_in_container(&container, 1);
        assert_eq!(found.as_deref(), expected.map(std::path::Path::new), "{earlier} {source}");
        container.mounts.swap(0, 1);
        assert_eq!(layers::source_in_container(&container, 0), None, "nothing is mounted before the first");
    }
}

#[test]
fn whoever_changes_the_flags_of_a_mount_of_the_hosts_is_found() {
    let mut container = container();
    let remount = |destination: &str| Mount { kind: MountKind::Remount, ..bind("", destination, false, 2) };
    container.mounts = vec![
        bind("/src", "/a", true, 1),
        bind("/other", "/a/over", false, 0),
        remount("/a"),
        remount("/a/below"),
        remount("/a/over"),
        bind("/b/rootfs/a/x", "/c", false, 4),
        bind("/b/rootfs/a", "/d", false, 0),
        bind("/src", "/a", false, 0),
        remount("/a"),
    ];
    let changes = |number| -> Vec<_> {
        let changes = layers::changes(&container, number).into_iter();
        changes.map(|change| (change.mount, change.attributes.clear, change.below)).collect()
    };
    assert_eq!(changes(0), [(0, 1, false), (2, 2, false), (3, 2, true), (5, 4, true)]);
    assert_eq!(changes(1), [(4, 2, false)]);
    assert_eq!(changes(7), [(8, 2, false)]);
}

#[test]
fn the_plan_of_a_container_without_a_mount_namespace() {
    let namespaces = vec![Namespace { kind: NamespaceKind::Pid, path: None }];
    let mut container = Container { namespaces, mounts: Vec::new(), ..container() };
    (container.root.readonly, container.hostname) = (false, None);
    (container.masked_paths, container.readonly_paths) = (Vec::new(), Vec::new());
    insta::assert_snapshot!(text(&Plan::init(&container, &facts(&[], None)).unwrap()));
    // What is executed into it has nothing to join.
    let facts = Facts { root: Some("/b/rootfs".as_ref()), ..facts(&[], None) };
    let plan = Plan::exec(&process(), &container.namespaces, &facts).unwrap();
    let places = ["pid namespace", "open root /b/rootfs", "change to the root"];
    let places = places.map(|step| plan.lines().position(|line| line.contains(step)).unwrap());
    assert!(places.is_sorted() && places[2] < plan.stage_one.len(), "{}", text(&plan));
    let refused = Plan::init(&container, &Facts { makes_devices: false, ..facts }).unwrap_err().to_string();
    assert!(refused.starts_with("/linux/namespaces: no mount namespace: "), "{refused}");
}

#[test]
fn sysctls_are_written_where_a_procfs_is_to_be_had() {
    let namespace = |kind, path: Option<&str>| Namespace { kind, path: path.map(Into::into) };
    let (user, mount, pid) = (NamespaceKind::User, NamespaceKind::Mount, NamespaceKind::Pid);
    for (namespaces, makes_devices, before) in [
        (vec![namespace(mount, None), namespace(pid, None)], true, false),
        (vec![namespace(mount, None)], true, false),
        (vec![namespace(mount, None)], false, true),
        (vec![namespace(mount, None), namespace(pid, None), namespace(user, None)], true, true),
        (vec![namespace(mount, None), namespace(pid, Some("/p")), namespace(user, None)], true, true),
        (vec![namespace(mount, Some("/m")), namespace(pid, None), namespace(user, Some("/u"))], true, false),
        (vec![namespace(mount, Some("/m")), namespace(user, Some("/u"))], true, true),
    ] {
        let container = Container { namespaces, mappings: id_maps(), ..container() };
        let plan = Plan::init(&container, &Facts { makes_devices, ..facts(&[], None) }).unwrap();
        let place = |text: &str| plan.lines().position(|line| line.contains(text)).unwrap();
        assert_eq!(place("/proc/sys/net") < place("pivot"), before, "{:?}", container.namespaces);
        let procfs = plan.stage_one.iter().chain(&plan.stage_two).find_map(|step| match step {
            Step::WriteProc { procfs, path, .. } if plan.show(*path).starts_with("sys/") => Some(*procfs),
            _ => None,
        });
        assert_eq!(procfs == Some(init::step::Procfs::Host), before);
    }
}

/// New, joined or inherited, each kind by itself.
fn combinations() -> impl Strategy<Value = Container> {
    const KINDS: [NamespaceKind; 8] = [
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Cgroup,
        NamespaceKind::Time,
        NamespaceKind::Mount,
        NamespaceKind::User,
    ];
    (prop::collection::vec(0..3, KINDS.len()), any::<bool>()).prop_map(|(ways, offsets)| {
        let mut container = container();
        let namespace = |(kind, way): (&NamespaceKind, &i32)| match way {
            0 => None,
            1 => Some(Namespace { kind: *kind, path: None }),
            _ => Some(Namespace { kind: *kind, path: Some(format!("/n/{kind:?}").into()) }),
        };
        container.namespaces = KINDS.iter().zip(&ways).filter_map(namespace).collect();
        if !container.has(NamespaceKind::Mount) {
            // What `config` lets through.
            container.namespaces.retain(|namespace| namespace.kind != NamespaceKind::User);
            container.root.readonly = false;
            container.mounts.clear();
            container.masked_paths.clear();
            container.readonly_paths.clear();
        }
        let has_new = |kind| container.namespaces.iter().any(|n| n.kind == kind && n.path.is_none());
        if offsets && has_new(NamespaceKind::Time) {
            container.time_offsets = vec![TimeOffset { clock: Clock::Monotonic, seconds: 5, nanoseconds: 0 }];
        }
        if has_new(NamespaceKind::User) {
            container.mappings = id_maps();
        }
        container
    })
}

proptest! {
    #[test]
    fn every_combination_of_namespaces_is_entered_in_order(container in combinations()) {
        let plan = Plan::init(&container, &facts(&[], None)).unwrap();
        // Up to where the root is built, in whichever stage.
        let builds = |step: &Step| matches!(step, Step::SessionKeyring { .. });
        let all: Vec<Step> = plan.stage_one.iter().chain(&plan.stage_two).copied().collect();
        let steps = &all[..all.iter().position(builds).unwrap()];
        let user = super::namespaces::bit(NamespaceKind::User);
        let place = |of: &dyn Fn(&Step) -> bool| steps.iter().position(of);
        let (mut joined, mut made) = (0, 0);
        for step in steps {
            match *step {
                Step::JoinNamespaces { target, kinds } => {
                    let Source::Namespace(path) = &plan.sources()[target.0 as usize] else { panic!("{step:?}") };
                    let namespace = container.namespaces.iter().find(|n| n.path.as_ref() == Some(path)).unwrap();
                    prop_assert_eq!(super::namespaces::bit(namespace.kind), kinds);
                    prop_assert_eq!((joined & (kinds | user), made), (0, 0), "each once, the user's last, all before any is made");
                    joined |= kinds;
                }
                Step::NewNamespaces { kinds } => {
                    prop_assert_eq!(made & kinds, 0);
                    made |= kinds;
                }
                _ => {}
            }
        }
        let bits = |new: bool| {
            let wanted = container.namespaces.iter().filter(|n| n.path.is_none() == new);
            wanted.fold(0, |bits, n| bits | super::namespaces::bit(n.kind))
        };
        prop_assert_eq!((joined, made), (bits(false), bits(true)));

        let waits = place(&|step| matches!(step, Step::Sync { point: Point::Namespaces }));
        let has_user = (joined | made) & user != 0;
        prop_assert_eq!(waits.is_some(), has_user || !container.time_offsets.is_empty());
        let roots: Vec<_> = (0..).zip(steps).filter(|(_, step)| matches!(step, Step::Identity { .. })).map(|(at, _)| at).collect();
        prop_assert_eq!(roots.len(), if has_user { 2 } else { 0 });
        if has_user {
            let enters = place(&|step| matches!(step,
                Step::JoinNamespaces { kinds, .. } | Step::NewNamespaces { kinds } if kinds & user != 0)).unwrap();
            let enters_first = place(&|step| matches!(step, Step::JoinNamespaces { .. } | Step::NewNamespaces { .. })).unwrap();
            prop_assert!(roots[0] < enters_first && enters < waits.unwrap() && waits.unwrap() < roots[1]);
            let rest = made & !user & if container.time_offsets.is_empty() { u32::MAX } else { !super::namespaces::bit(NamespaceKind::Time) };
            let makes = place(&|step| matches!(step, Step::NewNamespaces { kinds } if *kinds == rest && rest != 0));
            prop_assert!(rest == 0 || makes.unwrap() > roots[1], "what is made is the mapped root's");
        }
        // Without a mount namespace nothing is mounted: it would be on the host.
        let mounts = plan.stage_one.iter().chain(&plan.stage_two).any(|step| match step {
            Step::HostPropagation { .. } | Step::MountFilesystem { .. } | Step::MountBind { .. }
            | Step::SetAttributes { .. } | Step::SetPropagation { .. } | Step::MaskPath { .. } | Step::ReadonlyPath { .. } => true,
            Step::OpenRoot { root, .. } => !matches!(root, init::step::Root::Directory(_)),
            Step::EnterRoot { way } => *way != init::step::Way::Change,
            Step::OpenConsole { mount, .. } => mount.is_some(),
            _ => false,
        });
        prop_assert_eq!(mounts, container.has(NamespaceKind::Mount));
        // Nothing that comes from the host is left to the mapped root to open.
        let opened = all.iter().all(|step| match step {
            Step::OpenRoot { root, .. } => *root != init::step::Root::Mounted,
            Step::MountBind { origin, .. } => *origin != Origin::Host,
            Step::MakeNode { mode, .. } => mode & 0o170_000 == 0o010_000,
            _ => true,
        });
        prop_assert!(opened || !has_user);
    }
}
