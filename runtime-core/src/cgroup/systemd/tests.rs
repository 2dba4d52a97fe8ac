//! Properties and annotations by snapshot and property; and, as root where systemd is the init system, units as systemd and the
//! kernel report them.

use std::process::{Child, Command};

use config::resources::{BlockIo, Cpu, DeviceRule, DeviceSet, Limit, Memory};
use proptest::prelude::*;

use super::*;
use crate::cgroup::host::Version;
use crate::cgroup::{Driver, v1, v2};

const ALL_DEVICES: DeviceRule = DeviceRule { allow: true, device: None };

fn resources() -> Resources {
    Resources {
        devices: Some(vec![ALL_DEVICES]),
        memory: Memory {
            limit: Some(Limit::At(64 << 20)),
            reservation: Some(Limit::At(32 << 20)),
            swap: Some(Limit::At(96 << 20)),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(Limit::At(12_345)),
            period: Some(50_000),
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
            ..Cpu::default()
        },
        pids: Some(Limit::At(7)),
        block_io: BlockIo { weight: Some(500), ..BlockIo::default() },
        ..Resources::default()
    }
}

fn print(properties: &[Property]) -> String {
    properties.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn properties_on_v2() {
    let mut resources = resources();
    let unified = [("memory.high", "1000"), ("memory.max", "max"), ("misc.max", "res 1"), ("cpu.max", "max")];
    resources.unified = unified.map(|(file, value)| (file.into(), value.into())).into();
    let mut all = properties::of_unit("a.slice", "x.scope");
    properties::set(&mut all, properties::of_resources(&resources, &v2::writes(&resources).unwrap()).unwrap());
    insta::assert_snapshot!(print(&all));
}

#[test]
fn properties_on_v1() {
    let mut resources = resources();
    let disk = DeviceSet { block: true, major: Some(8), minor: None, access: DeviceSet::READ | DeviceSet::WRITE };
    resources.devices = Some(vec![DeviceRule { allow: true, device: Some(disk) }]);
    resources.memory.limit = Some(Limit::Unlimited);
    let mut all = properties::of_unit("a.slice", "a-b.slice");
    properties::set(&mut all, properties::of_resources(&resources, &v1::writes(&resources).unwrap()).unwrap());
    insta::assert_snapshot!(print(&all));
}

#[test]
fn quotas_are_whole_percents_and_never_less() {
    let per_second = |write: Write| {
        let all = properties::of_resources(&Resources::default(), &[write]).unwrap();
        all.iter()
            .find(|(name, _)| name == "CPUQuotaPerSecUSec")
            .map(|(_, value)| value.to_string().replace("uint64 ", ""))
    };
    assert_eq!(per_second(Write::new("cpu.max", "50000 100000")).as_deref(), Some("500000"));
    assert_eq!(per_second(Write::new("cpu.max", "50001 100000")).as_deref(), Some("510000"));
    assert_eq!(per_second(Write::new("cpu.max", "50000")).as_deref(), Some("500000"));
    assert_eq!(per_second(Write::new("cpu.cfs_quota_us", "-1")).as_deref(), Some("18446744073709551615"));
    for bad in ["", "1 0", "x", "1 x"] {
        let error = properties::of_resources(&Resources::default(), &[Write::new("cpu.max", bad)]).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("cpu.max"), "{error}");
    }
}

#[test]
fn rules_that_systemd_cannot_say_are_not_half_said() {
    let of = |device: DeviceSet, allow: bool| {
        let devices = Some(vec![ALL_DEVICES, DeviceRule { allow, device: Some(device) }]);
        let resources = Resources { devices, ..Resources::default() };
        print(&properties::of_resources(&resources, &[]).unwrap())
    };
    let null = DeviceSet { block: false, major: Some(1), minor: Some(3), access: DeviceSet::READ };
    assert_eq!(of(null, false), "DevicePolicy = \"auto\"\nDeviceAllow = @a(ss) []");
    let devices = Some(vec![DeviceRule { allow: true, device: Some(DeviceSet { major: None, ..null }) }]);
    let resources = Resources { devices, ..Resources::default() };
    let any_major = print(&properties::of_resources(&resources, &[]).unwrap());
    assert_eq!(any_major, "DevicePolicy = \"auto\"\nDeviceAllow = @a(ss) []");
}

fn annotation(name: &str, value: &str) -> std::result::Result<String, String> {
    let all = [("other".to_owned(), "x".to_owned()), (format!("org.systemd.property.{name}"), value.to_owned())];
    annotations::properties(&all)
        .map(|all| {
            let types: Vec<_> = all.iter().map(|(_, value)| value.value_signature().to_string()).collect();
            format!("{} {}", types.join(""), print(&all))
        })
        .map_err(|error| {
            assert_eq!(error.kind(), Kind::Invalid);
            error.to_string()
        })
}

#[test]
fn annotations_are_properties() {
    let values = [
        ("TimeoutStopUSec", "uint64 123456789"),
        ("TimeoutStopSec", "7"),
        ("TimeoutStopSec", "0.5"),
        ("CollectMode", "'inactive-or-failed'"),
        ("Description", r#""a \"b\" \u00e4 c""#),
        ("DefaultDependencies", "true"),
        ("DefaultDependencies", " false "),
        ("CPUWeight", "uint64 0x10"),
        ("Nice", "-5"),
        ("OOMScoreAdjust", "int32 010"),
        ("Before", "['a.service', \"b.service\",]"),
        ("Before", "@as []"),
        ("IODeviceWeight", "[('/dev/vda', uint64 5)]"),
        ("IODeviceWeight", "@a(st) [('/dev/vda', 5)]"),
        ("AllowedCPUs", "[byte 1, 2]"),
        ("Double", "1e3"),
    ];
    let lines = values.map(|(name, value)| format!("{name}: {value} -> {}", annotation(name, value).unwrap()));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn bad_annotations_are_refused_by_name() {
    for (name, value) in [
        ("ab", "1"),
        ("Mem.Max", "1"),
        ("MemoryMax", ""),
        ("MemoryMax", "1 2"),
        ("MemoryMax", "5000000000"),
        ("MemoryMax", "uint64 -1"),
        ("MemoryMax", "byte 256"),
        ("MemoryMax", "0x"),
        ("MemoryMax", "'open"),
        ("MemoryMax", "[]"),
        ("MemoryMax", "[1, 'a']"),
        ("MemoryMax", "@at ['a']"),
        ("MemoryMax", "@(st) ('a',)"),
        ("MemoryMax", "'\0'"),
        ("MemoryMax", "truer"),
        ("TimeoutSec", "'5'"),
        ("TimeoutSec", "-5"),
    ] {
        let error = annotation(name, value).unwrap_err();
        assert!(error.contains(&format!("org.systemd.property.{name}")), "{error}");
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    annotation("Deep", &deep).unwrap_err();
}

proptest! {
    #[test]
    fn no_annotation_panics(text in "[-@(\\[\\])a-z0-9 ,.'\"\\\\x]{0,24}|\\PC{0,12}") {
        let _ = annotation("Some", &text);
    }

    /// What prints values is not ours, and writes the text form of GVariant too.
    #[test]
    fn values_are_read_as_they_are_printed(
        pairs in prop::collection::vec(("[ -~äß]{0,9}", any::<u64>()), 0..4),
        number: i64, flag: bool, fraction in -1e9_f64..1e9) {
        for value in [zbus::Variant::from(pairs), number.into(), flag.into(), fraction.into()] {
            let all = [("org.systemd.property.Some".to_owned(), value.to_string())];
            prop_assert_eq!(annotations::properties(&all).unwrap(), [("Some".to_owned(), value)]);
        }
    }

    #[test]
    fn sets_have_a_bit_for_each_number(numbers in prop::collection::btree_set(0_usize..300, 1..20)) {
        let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let write = Write::new("cpuset.cpus", list.join(","));
        let all = properties::of_resources(&Resources::default(), &[write]).unwrap();
        let (_, bits) = all.into_iter().find(|(name, _)| name == "AllowedCPUs").unwrap();
        let bits: Vec<u8> = bits.downcast().unwrap();
        let set: Vec<usize> = (0..bits.len() * 8).filter(|bit| bits[bit / 8] & (1 << (bit % 8)) != 0).collect();
        prop_assert_eq!(set, numbers.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn lists_that_are_none_are_refused() {
    for bad in ["x", "3-1", "1-", "99999999"] {
        let writes = [Write::new("cpuset.mems", bad)];
        assert_eq!(
            properties::of_resources(&Resources::default(), &writes).unwrap_err().kind(),
            Kind::Invalid,
            "{bad}"
        );
    }
}

#[test]
fn units_have_names() {
    let name = |path: CgroupPath| unit_of(&path).map(|(slice, prefix, name)| (slice, path::unit(&prefix, &name)));
    let of = |slice: &str, name: &str| (slice.to_owned(), name.to_owned());
    assert_eq!(name(CgroupPath::Relative("web".into())).unwrap(), of("system.slice", "myshim-web.scope"));
    let pod = CgroupPath::Systemd { slice: "a.slice".into(), prefix: "cri".into(), name: "x".into() };
    assert_eq!(name(pod).unwrap(), of("a.slice", "cri-x.scope"));
    for bad in [CgroupPath::Relative("a/b".into()), CgroupPath::Absolute("a".into())] {
        assert_eq!(name(bad).unwrap_err().kind(), Kind::Invalid);
    }
}

#[test]
fn without_systemd_it_is_not_asked() {
    if is_running() {
        eprintln!("skipped: systemd is running here");
        return;
    }
    let path = path_of("none");
    let error = block_on(create(&path, &empty(), &[])).unwrap_err();
    assert!(error.kind() == Kind::Unimplemented && error.to_string().contains("systemd is not running"), "{error}");
    assert!(matches!(Driver::choose(false, &path, &[]), Driver::Cgroupfs), "directories of ours will do");
}

/// Runs on, or says why not, where there is no systemd to talk to.
fn no_systemd() -> bool {
    let skip = !is_running() || !nix::unistd::geteuid().is_root();
    if skip {
        eprintln!("skipped: systemd is not the init system here, or we are not root");
    }
    skip
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn path_of(name: &str) -> CgroupPath {
    let name = format!("{name}{}", std::process::id());
    CgroupPath::Systemd { slice: "shimtest-pods.slice".into(), prefix: "t".into(), name }
}

async fn create(path: &CgroupPath, resources: &Resources, annotations: &[(String, String)]) -> Result<Cgroup> {
    Cgroup::create(path, resources, Driver::Systemd(annotations)).await
}

fn empty() -> Resources {
    Resources { devices: Some(vec![ALL_DEVICES]), ..Resources::default() }
}

fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn directory(cgroup: &Cgroup) -> PathBuf {
    cgroup.directory_of(Host::get().unwrap(), "pids").unwrap().to_owned()
}

fn read(cgroup: &Cgroup, file: &str) -> String {
    std::fs::read_to_string(directory(cgroup).join(file)).unwrap().trim().to_owned()
}

/// A process in it, that ends when it is killed.
fn inhabit(cgroup: &Cgroup) -> Child {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    put(&directory(cgroup).join("cgroup.procs"), &child.id().to_string()).unwrap();
    child
}

async fn end(cgroup: &Cgroup, mut child: Child) {
    cgroup.signal(nix::libc::SIGKILL).unwrap();
    cgroup.remove().await.unwrap();
    child.wait().unwrap();
    assert!(cgroup.directories().iter().all(|directory| !directory.exists()));
}

#[test]
fn a_scope_has_its_limits_from_systemd_and_from_the_files() {
    if no_systemd() || Host::get().unwrap().version != Version::V2 {
        return;
    }
    block_on(async {
        let annotations = [("org.systemd.property.TimeoutStopSec".to_owned(), "7".to_owned())];
        let mut resources = resources();
        resources.cpu.burst = Some(1000);
        let path = path_of("limits");
        let cgroup = create(&path, &resources, &annotations).await.unwrap();
        let unit = cgroup.unit().unwrap().to_owned();
        assert_eq!(cgroup.pids().unwrap().len(), 1, "the keeper");
        assert_eq!(read(&cgroup, "pids.max"), "8", "with room for the keeper");
        let child = inhabit(&cgroup);
        cgroup.settle().unwrap();
        assert_eq!(cgroup.pids().unwrap(), [i32::try_from(child.id()).unwrap()]);
        let expected = [
            ("ActiveState", "active"),
            ("Slice", "shimtest-pods.slice"),
            ("Delegate", "yes"),
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("MemorySwapMax", "33554432"),
            ("CPUQuotaPerSecUSec", "250ms"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("CPUWeight", "59"),
            ("TasksMax", "7"),
            ("AllowedCPUs", "0-1"),
            ("AllowedMemoryNodes", "0"),
            ("IOWeight", "4950"),
            ("DevicePolicy", "auto"),
            ("CollectMode", "inactive-or-failed"),
            ("TimeoutStopUSec", "7s"),
            ("DefaultDependencies", "no"),
        ];
        let shown = expected.map(|(name, _)| (name, show(&unit, name)));
        assert_eq!(shown.each_ref().map(|(name, value)| (*name, value.as_str())), expected);
        assert_eq!(show(&unit, "ControlGroup"), format!("/shimtest.slice/shimtest-pods.slice/{unit}"));
        let files =
            ["memory.max", "pids.max", "cpu.max", "cpu.max.burst", "cpuset.cpus"].map(|file| read(&cgroup, file));
        assert_eq!(files, ["67108864", "7", "12345 50000", "1000", "0-1"]);

        let error = create(&path, &resources, &[]).await.unwrap_err();
        assert!(error.kind() == Kind::Exists, "{error}");
        assert_eq!(show(&unit, "ActiveState"), "active", "left alone");

        // As a shim finds it that knows it from the record alone.
        let again = Cgroup::open(cgroup.directories().to_vec(), Some(unit.clone()));
        end(&again, child).await;
        assert_eq!(show(&unit, "LoadState"), "not-found");
        // At once again, under the same name.
        let again = create(&path, &resources, &[]).await.unwrap();
        let child = inhabit(&again);
        again.settle().unwrap();
        end(&again, child).await;
    });
}

#[test]
fn a_limit_of_one_process_has_room_for_it() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let resources = Resources { pids: Some(Limit::At(0)), ..empty() };
        let cgroup = create(&path_of("one"), &resources, &[]).await.unwrap();
        assert_eq!(read(&cgroup, "pids.max"), "2");
        let child = inhabit(&cgroup);
        cgroup.settle().unwrap();
        assert_eq!(read(&cgroup, "pids.max"), "1");
        end(&cgroup, child).await;
    });
}

#[test]
fn a_slice_stays_without_a_process() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let name = format!("shimtest-s{}.slice", std::process::id());
        let path = CgroupPath::Systemd { slice: "shimtest.slice".into(), prefix: "t".into(), name: name.clone() };
        let cgroup = create(&path, &empty(), &[]).await.unwrap();
        assert!(cgroup.pids().unwrap().is_empty() && directory(&cgroup).ends_with(format!("shimtest.slice/{name}")));
        let child = inhabit(&cgroup);
        cgroup.settle().unwrap();
        end(&cgroup, child).await;
        assert_eq!(show(&name, "ActiveState"), "inactive");
    });
}

#[test]
fn a_unit_that_exists_is_not_taken() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let path = path_of("taken");
        let (_, prefix, name) = unit_of(&path).unwrap();
        let unit = path::unit(&prefix, &name);
        // Elsewhere, so that no process in the place tells.
        let mut other = Command::new("systemd-run")
            .args(["--scope", "--quiet", "--slice=shimtest-other.slice", "--unit", &unit, "sleep", "1000"])
            .spawn()
            .unwrap();
        while show(&unit, "ActiveState") != "active" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = create(&path, &empty(), &[]).await.unwrap_err();
        assert!(error.kind() == Kind::Exists && error.to_string().contains(&unit), "{error}");
        assert_eq!(show(&unit, "ActiveState"), "active", "left alone");
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

#[test]
fn a_failed_unit_of_the_name_makes_way() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let path = path_of("failed");
        let (_, prefix, name) = unit_of(&path).unwrap();
        let unit = path::unit(&prefix, &name);
        // A scope that runs out of time has failed; by default it is kept.
        let mut other = Command::new("systemd-run")
            .args(["--scope", "--quiet", "-p", "RuntimeMaxSec=1ms", "--unit", &unit, "sleep", "1000"])
            .spawn()
            .unwrap();
        other.wait().unwrap();
        while show(&unit, "ActiveState") != "failed" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let cgroup = create(&path, &empty(), &[]).await.unwrap();
        let child = inhabit(&cgroup);
        cgroup.settle().unwrap();
        end(&cgroup, child).await;
    });
}

#[test]
fn what_systemd_refuses_is_named_and_leaves_nothing() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let path = path_of("refused");
        let annotations = [("org.systemd.property.NoSuchThing".to_owned(), "1".to_owned())];
        let error = create(&path, &empty(), &annotations).await.unwrap_err().to_string();
        assert!(error.contains("NoSuchThing"), "{error}");
        // systemd takes it and the kernel does not.
        let resources = Resources { unified: vec![("memory.oom.group".into(), "no".into())], ..empty() };
        let error = create(&path, &resources, &[]).await.unwrap_err().to_string();
        assert!(error.contains("memory.oom.group"), "{error}");
        let (_, prefix, name) = unit_of(&path).unwrap();
        assert_eq!(show(&path::unit(&prefix, &name), "LoadState"), "not-found");
        let place = Cgroup::locate(&path).unwrap();
        assert!(place.directories().iter().all(|directory| !directory.exists()));
    });
}

#[test]
fn a_create_that_is_dropped_leaves_nothing() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let path = path_of("dropped");
        let place = Cgroup::locate(&path).unwrap();
        drop(create(&path, &empty(), &[]).await.unwrap());
        while place.directories().iter().any(|directory| directory.exists()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
#[ignore = "run alone, by the test below: counts the threads of the whole process"]
fn threads_of_a_life() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    block_on(async {
        let most = std::cell::Cell::new(before);
        let watch = async {
            loop {
                most.set(most.get().max(threads()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let life = async {
            let cgroup = create(&path_of("threads"), &empty(), &[]).await.unwrap();
            let child = inhabit(&cgroup);
            cgroup.settle().unwrap();
            end(&cgroup, child).await;
        };
        tokio::select! { () = life => {}, () = watch => {} }
        assert_eq!((most.get(), threads()), (before, before));
    });
}

#[test]
fn no_thread_is_made() {
    if no_systemd() {
        return;
    }
    let name = "cgroup::systemd::tests::threads_of_a_life";
    let alone = ["--exact", name, "--ignored", "--test-threads=1"];
    let output = Command::new(std::env::current_exe().unwrap()).args(alone).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// systemd does not answer: it is frozen. To be run alone, for nothing else gets anything from it meanwhile.
#[test]
#[ignore = "freezes systemd for a minute"]
fn a_systemd_that_does_not_answer_holds_nobody_up() {
    const FREEZE: &str = "/sys/fs/cgroup/init.scope/cgroup.freeze";
    if no_systemd() {
        return;
    }
    struct Thaw;
    impl Drop for Thaw {
        fn drop(&mut self) {
            std::fs::write(FREEZE, "0").unwrap();
        }
    }
    block_on(async {
        let cgroup = create(&path_of("frozen"), &empty(), &[]).await.unwrap();
        let unit = cgroup.unit().unwrap().to_owned();
        let mut child = inhabit(&cgroup);
        cgroup.settle().unwrap();
        let thaw = Thaw;
        std::fs::write(FREEZE, "1").unwrap();

        let start = std::time::Instant::now();
        cgroup.signal(nix::libc::SIGKILL).unwrap();
        cgroup.remove().await.unwrap();
        child.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());

        let start = std::time::Instant::now();
        let error = create(&path_of("never"), &empty(), &[]).await.unwrap_err().to_string();
        assert!(error.contains("no answer within 30 s"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(33), "{:?}", start.elapsed());

        drop(thaw);
        while show(&unit, "LoadState") != "not-found" || cgroup.directories().iter().any(|directory| directory.exists())
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
