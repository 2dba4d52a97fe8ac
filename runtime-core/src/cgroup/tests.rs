//! What is written, by snapshot for both versions; and, as root on the host's own hierarchies, a cgroup's life below a parent
//! that is the test's own.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use config::resources::{BlockIo, Cpu, DeviceSet, HugepageLimit, Memory, Network, Throttle, WeightDevice};

use super::*;

const ALL_DEVICES: DeviceRule = DeviceRule { allow: true, device: None };

/// Everything that both versions have.
fn everything() -> Resources {
    let throttle = |minor, rate| vec![Throttle { major: 8, minor, rate }];
    Resources {
        devices: Some(vec![ALL_DEVICES]),
        memory: Memory {
            limit: Some(Limit::At(1000)),
            reservation: Some(Limit::At(500)),
            swap: Some(Limit::At(1500)),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(Limit::At(20_000)),
            period: Some(50_000),
            burst: Some(1000),
            idle: Some(false),
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
            ..Cpu::default()
        },
        pids: Some(Limit::At(7)),
        block_io: BlockIo {
            weight: Some(500),
            weight_devices: vec![WeightDevice { major: 8, minor: 0, weight: Some(10), leaf_weight: None }],
            read_bps: throttle(0, 1),
            write_bps: throttle(1, 2),
            read_iops: throttle(2, 3),
            write_iops: throttle(3, 0),
            ..BlockIo::default()
        },
        hugepages: vec![HugepageLimit { page_size: "2MB".into(), limit: 4096 }],
        rdma: vec![Rdma { device: "mlx5_1".into(), handles: Some(3), objects: None }],
        ..Resources::default()
    }
}

/// `file <- value`, with `?` where a missing file is skipped and `|` before the file that stands in.
fn print(writes: &[Write]) -> String {
    fn line(write: &Write) -> String {
        let rest = match &write.missing {
            write::Missing::Refuse => String::new(),
            write::Missing::Skip => " ?".into(),
            write::Missing::Instead(other) => format!(" | {}", line(other)),
        };
        format!("{} <- {}{rest}", write.file, write.value)
    }
    writes.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn resources_on_v1() {
    let mut resources = everything();
    resources.memory.swappiness = Some(10);
    resources.memory.disable_oom_killer = true;
    resources.cpu.realtime_period = Some(100);
    resources.cpu.realtime_runtime = Some(50);
    resources.block_io.leaf_weight = Some(20);
    resources.block_io.weight_devices[0].leaf_weight = Some(30);
    resources.network = Network { class_id: Some(9), priorities: vec![("eth0".into(), 5)] };
    insta::assert_snapshot!(print(&v1::writes(&resources).unwrap()));
}

#[test]
fn resources_on_v2() {
    let mut resources = everything();
    resources.unified = vec![("io.latency".into(), "8:0 target=1\n8:16 target=2\n".into())];
    insta::assert_snapshot!(print(&v2::writes(&resources).unwrap()));
}

#[test]
fn devices_on_v1() {
    let disk = DeviceSet { block: true, major: Some(8), minor: None, access: DeviceSet::READ | DeviceSet::WRITE };
    let rules = vec![DeviceRule { allow: false, device: None }, DeviceRule { allow: true, device: Some(disk) }];
    let resources = Resources { devices: Some(rules), ..Resources::default() };
    insta::assert_snapshot!(print(&v1::writes(&resources).unwrap()));
}

#[test]
fn no_limit_at_all() {
    let mut resources = Resources { devices: Some(vec![ALL_DEVICES]), ..Resources::default() };
    resources.memory.limit = Some(Limit::Unlimited);
    resources.cpu.quota = Some(Limit::Unlimited);
    resources.pids = Some(Limit::Unlimited);
    let v1 = "devices.allow <- a\nmemory.limit_in_bytes <- -1\nmemory.memsw.limit_in_bytes <- -1 ?\n\
        cpu.cfs_quota_us <- -1\npids.max <- max";
    assert_eq!(print(&v1::writes(&resources).unwrap()), v1);
    let v2 = "pids.max <- max\nmemory.swap.max <- max ?\nmemory.max <- max\ncpu.max <- max 100000";
    assert_eq!(print(&v2::writes(&resources).unwrap()), v2);
}

#[test]
fn a_pids_limit_below_two_waits_for_init() {
    let resources = Resources { pids: Some(Limit::At(0)), devices: Some(vec![ALL_DEVICES]), ..Resources::default() };
    assert_eq!(print(&v2::writes(&resources).unwrap()), "pids.max <- 2");
    let parent = Parent::new();
    let cgroup = parent.create("leaf", &resources).unwrap();
    let limit = || {
        let directory = cgroup.directory_of(Host::get().unwrap(), "pids").unwrap();
        std::fs::read_to_string(directory.join("pids.max")).unwrap()
    };
    assert_eq!(limit(), "2\n");
    cgroup.settle(&resources).unwrap();
    assert_eq!(limit(), "1\n");
}

#[test]
fn swap_alone_on_v2() {
    let swap_max = |limit, swap| {
        let memory = Memory { limit, swap, ..Memory::default() };
        let resources = Resources { memory, devices: Some(vec![ALL_DEVICES]), ..Resources::default() };
        v2::writes(&resources).map(|writes| writes.into_iter().find(|w| w.file == "memory.swap.max").map(|w| w.value))
    };
    let at = |value| Some(Limit::At(value));
    assert_eq!(swap_max(at(10), at(10)).unwrap().as_deref(), Some("0"));
    assert_eq!(swap_max(at(10), Some(Limit::Unlimited)).unwrap().as_deref(), Some("max"));
    assert_eq!(swap_max(Some(Limit::Unlimited), at(10)).unwrap().as_deref(), Some("10"));
    assert_eq!(swap_max(at(10), None).unwrap(), None);
    assert_eq!(swap_max(None, at(10)).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn what_a_version_lacks_is_refused_by_name() {
    let all = || Resources { devices: Some(vec![ALL_DEVICES]), ..Resources::default() };
    let refused = |change: fn(&mut Resources), name: &str| {
        let mut resources = all();
        change(&mut resources);
        let error = v2::writes(&resources).unwrap_err();
        assert!(error.kind() == Kind::Unimplemented && error.to_string().contains(name), "{error}");
    };
    refused(|r| r.memory.swappiness = Some(0), "memory/swappiness");
    refused(|r| r.memory.disable_oom_killer = true, "memory/disableOOMKiller");
    refused(|r| r.cpu.realtime_period = Some(1), "cpu/realtimePeriod");
    refused(|r| r.block_io.leaf_weight = Some(10), "blockIO/leafWeight");
    refused(|r| r.network.class_id = Some(1), "network/classID");
    let unified = Resources { unified: vec![("memory.high".into(), "1".into())], ..all() };
    assert!(v1::writes(&unified).unwrap_err().to_string().contains("memory.high"));
}

/// A parent cgroup of the test's own in every hierarchy, gone with all below it at the end.
struct Parent {
    name: String,
    children: Vec<Child>,
}

impl Parent {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("runtime-core-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { name, children: Vec::new() }
    }

    fn path(&self, leaf: &str) -> CgroupPath {
        CgroupPath::Absolute(Path::new(&self.name).join(leaf))
    }

    fn create(&self, leaf: &str, resources: &Resources) -> Result<Cgroup> {
        block_on(Cgroup::create(&self.path(leaf), resources, Driver::Cgroupfs))
    }

    fn directories(&self) -> Vec<PathBuf> {
        Host::get().unwrap().hierarchies.iter().map(|hierarchy| hierarchy.path.join(&self.name)).collect()
    }

    /// A shell that has joined `cgroup`, runs `script` and says so by a line.
    fn join(&mut self, cgroup: &Cgroup, script: &str) -> i32 {
        let Placement { tasks, unified, .. } = cgroup.placement().unwrap();
        let by_fd = |fd: &OwnedFd| {
            use std::os::fd::AsRawFd as _;
            format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
        };
        let files = tasks.iter().map(by_fd).chain(unified.iter().map(|directory| by_fd(directory) + "/cgroup.procs"));
        let join =
            format!("for f in \"$@\"; do echo 0 >\"$f\" || exit 1; done; {script}\necho joined; read line; exit 0");
        let mut command = Command::new("sh");
        command.args(["-c", &join, "sh"]).args(files).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        assert_eq!(line, "joined\n");
        self.children.push(child);
        pid
    }

    /// How the child `index` ended: its signal, or none for an exit. One that does not end fails the test.
    fn end_of(&mut self, index: usize) -> Option<i32> {
        let child = &mut self.children[index];
        let pidfd = pidfd_of(child);
        let status = block_on(async {
            let pidfd = crate::watch::watch(pidfd, tokio::io::Interest::READABLE).unwrap();
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), pidfd.readable())
                .await
                .expect("still alive")
                .unwrap();
            child.wait().unwrap()
        });
        std::os::unix::process::ExitStatusExt::signal(&status)
    }
}

fn pidfd_of(child: &Child) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

impl Drop for Parent {
    fn drop(&mut self) {
        let all = Cgroup::open(self.directories(), None);
        let _ = all.signal(SIGKILL);
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let removed = block_on(all.remove());
        if !std::thread::panicking() {
            removed.unwrap();
            assert!(self.directories().iter().all(|directory| !directory.exists()));
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_life() {
    let mut parent = Parent::new();
    let cgroup = parent.create("pod/leaf", &Resources::default()).unwrap();
    assert_eq!(cgroup.directories().len(), Host::get().unwrap().hierarchies.len());
    assert!(cgroup.pids().unwrap().is_empty());
    let pid = parent.join(&cgroup, "");
    assert_eq!(cgroup.pids().unwrap(), [pid]);
    let placed = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let inner = format!("/{}/pod/leaf", parent.name);
    // Others may have mounted further hierarchies elsewhere.
    let mounted = &Host::get().unwrap().hierarchies;
    let mut ours = host::lines(&placed).filter(|(name, _)| mounted.iter().any(|one| one.controllers == *name));
    assert!(ours.all(|(_, path)| path == inner), "{placed}");

    let again = Cgroup::open(cgroup.directories().to_vec(), None);
    again.signal(SIGKILL).unwrap();
    // Not reaped yet: a zombie holds nobody up.
    block_on(again.remove()).unwrap();
    assert_eq!(parent.end_of(0), Some(SIGKILL));
    assert!(cgroup.directories().iter().all(|directory| !directory.exists()));
    assert!(cgroup.directories()[0].parent().unwrap().exists(), "what lies above stays");
    block_on(again.remove()).unwrap();
    again.signal(SIGKILL).unwrap();
    assert!(again.pids().unwrap().is_empty());
}

#[test]
fn processes_of_sub_cgroups_count() {
    let mut parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    let below = Cgroup::open(cgroup.directories().iter().map(|directory| directory.join("a/b")).collect(), None);
    for (hierarchy, directory) in below.parts(Host::get().unwrap()) {
        std::fs::create_dir_all(directory).unwrap();
        if hierarchy.has("cpuset") {
            v1::inherit_cpuset(directory, &hierarchy.path).unwrap();
        }
    }
    let pids = [parent.join(&cgroup, ""), parent.join(&below, "")];
    let mut listed = cgroup.pids().unwrap();
    listed.sort_unstable();
    assert_eq!(listed, pids);
    cgroup.signal(SIGKILL).unwrap();
    block_on(cgroup.remove()).unwrap();
    assert!(cgroup.directories().iter().all(|directory| !directory.exists()));
    assert_eq!((parent.end_of(0), parent.end_of(1)), (Some(SIGKILL), Some(SIGKILL)));
}

#[test]
fn a_gentle_signal_reaches_all_of_it() {
    let mut parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    parent.join(&cgroup, "");
    parent.join(&cgroup, "trap 'exit 3' TERM; trap '' USR1");
    // Not SIGHUP, which a test under nohup(1) has its children ignore.
    cgroup.signal(nix::libc::SIGUSR1).unwrap();
    assert_eq!(parent.end_of(0), Some(nix::libc::SIGUSR1));
    parent.children[1].stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(parent.end_of(1), None, "ignored");
    // The highest real-time signal, which rustix has no name for.
    parent.join(&cgroup, "");
    cgroup.signal(64).unwrap();
    assert_eq!(parent.end_of(2), Some(64));
}

/// Each of the two ways on its own, against a tree that forks as fast as it can.
#[test]
fn killing_outruns_forking() {
    type Way = fn(&Cgroup, &Host);
    let by_kill_file: Way = |cgroup, host| {
        let (_, unified) = cgroup.parts(host).find(|(hierarchy, _)| hierarchy.is_v2).unwrap();
        assert!(processes::kill_v2(unified).unwrap());
    };
    let by_freezer: Way = |cgroup, host| {
        processes::kill_each(cgroup.membership().unwrap().unwrap(), cgroup.directory_of(host, "freezer")).unwrap();
    };
    let by_rounds: Way = |cgroup, _| processes::kill_each(cgroup.membership().unwrap().unwrap(), None).unwrap();
    let host = Host::get().unwrap();
    let many = "(while :; do (sleep 0.01 &); done) 2>/dev/null &";
    // Each forks its successor and ends: whoever is listed may have gone by the time it is signalled.
    let hopping = "hop() { hop & }; hop 2>/dev/null >&2 &";
    let mut ways = vec![(by_rounds, many)];
    if host.version == Version::V1 {
        ways.extend([(by_freezer, many), (by_freezer, hopping)]);
    }
    if host.hierarchies.iter().any(|hierarchy| hierarchy.is_v2) {
        ways.extend([(by_kill_file, many), (by_kill_file, hopping)]);
    }
    for (way, script) in ways {
        let mut parent = Parent::new();
        let limited = Resources { pids: Some(Limit::At(300)), ..Resources::default() };
        let cgroup = parent.create("leaf", &limited).unwrap();
        parent.join(&cgroup, script);
        way(&cgroup, host);
        block_on(cgroup.remove()).unwrap();
        assert_eq!(parent.end_of(0), Some(SIGKILL));
    }
}

#[test]
fn where_nobody_is_nobody_is_frozen() {
    let scratch = super::stats::tests::scratch(&[("cgroup.procs", ""), ("freezer.state", "as it was")]);
    processes::kill_each(scratch.path(), Some(scratch.path())).unwrap();
    assert_eq!(std::fs::read_to_string(scratch.path().join("freezer.state")).unwrap(), "as it was");
}

#[test]
fn a_frozen_cgroup_can_be_killed() {
    let host = Host::get().unwrap();
    let mut parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    parent.join(&cgroup, "");
    let Some(freezer) = cgroup.directory_of(host, "freezer").filter(|path| path.join("freezer.state").exists()) else {
        eprintln!("skipped: no v1 freezer here");
        return;
    };
    block_on(cgroup.freeze()).unwrap();
    assert_eq!(std::fs::read_to_string(freezer.join("freezer.state")).unwrap(), "FROZEN\n");
    cgroup.signal(SIGKILL).unwrap();
    block_on(cgroup.remove()).unwrap();
    assert_eq!(parent.end_of(0), Some(SIGKILL));
}

#[test]
fn removal_waits_for_the_last_process() {
    let mut parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    let pid = parent.join(&cgroup, "");
    let mut stdin = parent.children[0].stdin.take().unwrap();
    let unified = cgroup.parts(Host::get().unwrap()).find(|(hierarchy, _)| hierarchy.is_v2).map(|(_, path)| path);
    let events = || unified.map(|path| std::fs::read_to_string(path.join("cgroup.events")).unwrap());
    let remove = async {
        if let Some(unified) = unified {
            remove::until_unpopulated(unified, remove::deadline()).await.unwrap();
            assert!(events().unwrap().contains("populated 0"));
        }
        cgroup.remove().await
    };
    let (removed, ()) = block_on(async {
        let say = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            stdin.write_all(b"go\n").unwrap();
        };
        tokio::join!(remove, say)
    });
    removed.unwrap();
    assert!(cgroup.directories().iter().all(|directory| !directory.exists()), "{pid}");
}

#[test]
fn removal_names_who_stays() {
    let mut parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    let pid = parent.join(&cgroup, "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let text = runtime.block_on(cgroup.remove()).unwrap_err().to_string();
    assert!(text.contains(&format!("still has pids {pid}")) && text.contains("EBUSY"), "{text}");
}

#[test]
fn an_inhabited_cgroup_is_refused() {
    let mut parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    let pid = parent.join(&cgroup, "");
    let error = parent.create("leaf", &Resources::default()).unwrap_err();
    assert!(error.kind() == Kind::Exists && error.to_string().contains(&pid.to_string()), "{error}");
    assert_eq!(cgroup.pids().unwrap(), [pid], "left alone");
    cgroup.signal(SIGKILL).unwrap();
    parent.end_of(0);
    // An empty one may be used again.
    parent.create("leaf", &Resources::default()).unwrap();
}

#[test]
fn a_refused_value_leaves_nothing() {
    let parent = Parent::new();
    let mut resources = Resources::default();
    resources.cpu.cpus = Some("4000".into());
    let error = parent.create("deep/leaf", &resources).unwrap_err().to_string();
    assert!(error.contains("write 4000 to cpuset.cpus: E"), "{error}");
    assert!(parent.directories().iter().all(|directory| !directory.exists()));
}

#[test]
fn limits_are_as_the_kernel_reports_them() {
    let host = Host::get().unwrap();
    if host.version != Version::V1 {
        eprintln!("skipped: the values are v1's");
        return;
    }
    let parent = Parent::new();
    let mut resources = Resources { pids: Some(Limit::At(9)), ..Resources::default() };
    resources.memory.limit = Some(Limit::At(8 << 20));
    resources.cpu = Cpu { shares: Some(300), quota: Some(Limit::At(5000)), period: Some(10_000), ..Cpu::default() };
    let cgroup = parent.create("leaf", &resources).unwrap();
    let read = |file: &str| {
        let directory = cgroup.directory_of(host, file.split('.').next().unwrap()).unwrap();
        std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
    };
    assert_eq!(read("memory.limit_in_bytes"), (8 << 20).to_string());
    assert_eq!([read("cpu.shares"), read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")], ["300", "5000", "10000"]);
    assert_eq!(read("pids.max"), "9");
    assert!(!read("cpuset.cpus").is_empty() && !read("cpuset.mems").is_empty());
    let devices = read("devices.list");
    assert!(devices.contains("c 1:3 rwm") && !devices.contains("a *:*"), "{devices}");
}

#[test]
fn relative_paths() {
    let parent = Parent::new();
    let own = host::own_table().unwrap();
    let relative = CgroupPath::Relative(Path::new(&parent.name).join("leaf"));
    let host = Host::get().unwrap();
    let directories = path::directories(host, &relative).unwrap();
    for (hierarchy, directory) in host.hierarchies.iter().zip(directories) {
        let own = host::own_directory(hierarchy, &own);
        let above = if host.version == Version::V2 && own != hierarchy.path { own.parent().unwrap() } else { &own };
        assert_eq!(directory, above.join(&parent.name).join("leaf"));
    }
}

#[test]
fn what_the_container_is_shown() {
    let parent = Parent::new();
    let cgroup = parent.create("leaf", &Resources::default()).unwrap();
    let shown = cgroup.hierarchies();
    assert!(shown.iter().all(|hierarchy| hierarchy.host.ends_with(format!("{}/leaf", parent.name))));
    if Host::get().unwrap().version == Version::V1 {
        assert!(shown.iter().any(|hierarchy| hierarchy.name == "memory" && hierarchy.links.is_empty()), "{shown:?}");
        assert!(shown.iter().all(|hierarchy| hierarchy.name != "unified"));
    }
}

#[test]
fn controllers_mounted_together_have_links() {
    let together =
        Mounted { controllers: "cpu,cpuacct".into(), path: "/sys/fs/cgroup/cpu,cpuacct".into(), is_v2: false };
    let named = Mounted { controllers: "name=systemd".into(), path: "/sys/fs/cgroup/systemd".into(), is_v2: false };
    assert_eq!(links(&together, "cpu,cpuacct"), ["cpu", "cpuacct"]);
    assert!(links(&named, "systemd").is_empty());
}
