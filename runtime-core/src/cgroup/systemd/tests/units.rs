//! Units as systemd and the kernel report them: as root, where systemd is the init system.

use std::process::{Child, Command};
use std::time::Duration;

use super::*;

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
        cgroup.settle(&empty()).unwrap();
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
        again.settle(&empty()).unwrap();
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
        assert_eq!(read(&cgroup, "pids.max"), "3");
        let child = inhabit(&cgroup);
        cgroup.settle(&resources).unwrap();
        assert_eq!(read(&cgroup, "pids.max"), "1");
        assert_eq!(show(cgroup.unit().unwrap(), "TasksMax"), "1");
        end(&cgroup, child).await;
    });
}

/// Both systemd's program and ours must let a device pass.
#[test]
fn device_rules_are_systemds_too() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let disk = DeviceSet { block: true, major: Some(7), minor: Some(0), access: DeviceSet::READ };
        let devices = Some(vec![DeviceRule { allow: true, device: Some(disk) }]);
        let cgroup = create(&path_of("devices"), &Resources { devices, ..Resources::default() }, &[]).await.unwrap();
        let unit = cgroup.unit().unwrap().to_owned();
        assert_eq!(show(&unit, "DevicePolicy"), "strict");
        assert!(show(&unit, "DeviceAllow").contains("/dev/block/7:0 r"), "{}", show(&unit, "DeviceAllow"));
        let child = inhabit(&cgroup);
        cgroup.settle(&empty()).unwrap();
        let join = format!("echo 0 >{}/cgroup.procs; ", directory(&cgroup).display());
        let runs =
            |script: &str| Command::new("sh").args(["-c", &format!("{join}{script}")]).status().unwrap().success();
        assert!(runs("head -c 1 /dev/zero >/dev/null"));
        assert!(!runs("head -c 1 /dev/mem >/dev/null 2>&1 || head -c 1 /dev/vda >/dev/null 2>/dev/null"));
        assert!(runs("mknod /run/shimtest-zero c 1 5 && rm /run/shimtest-zero"));
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
        cgroup.settle(&empty()).unwrap();
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
        cgroup.settle(&empty()).unwrap();
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
        let place = Cgroup::locate(&path, Driver::Cgroupfs).unwrap();
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
        let place = Cgroup::locate(&path, Driver::Cgroupfs).unwrap();
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
            cgroup.settle(&empty()).unwrap();
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
    let name = "cgroup::systemd::tests::units::threads_of_a_life";
    let alone = ["--exact", name, "--ignored", "--test-threads=1"];
    let output = Command::new(std::env::current_exe().unwrap()).args(alone).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

const FREEZE: &str = "/sys/fs/cgroup/init.scope/cgroup.freeze";

struct Thaw;

impl Drop for Thaw {
    fn drop(&mut self) {
        std::fs::write(FREEZE, "0").unwrap();
    }
}

/// systemd does not answer: it is frozen. To be run alone, for nothing else gets anything from it meanwhile.
#[test]
#[ignore = "freezes systemd for a minute"]
fn a_systemd_that_does_not_answer_holds_nobody_up() {
    if no_systemd() {
        return;
    }
    block_on(async {
        let cgroup = create(&path_of("frozen"), &empty(), &[]).await.unwrap();
        let unit = cgroup.unit().unwrap().to_owned();
        let mut child = inhabit(&cgroup);
        cgroup.settle(&empty()).unwrap();
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
