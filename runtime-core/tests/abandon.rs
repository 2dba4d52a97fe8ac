//! A process that is given up before it was started or reaped ends, and is reaped. One test alone in its process, for it
//! counts its children.

use std::time::{Duration, Instant};

use config::{Bundle, ContainerId};
use runtime_core::cgroup::{Cgroup, Driver};
use runtime_core::{Container, Stdio, Timing, reaper};

const CONFIG: &str = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["/program"], "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], "cgroupsPath": "/myshim-test/abandoned"}}"#;

fn null() -> std::os::fd::OwnedFd {
    std::fs::File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}

fn children() -> String {
    std::fs::read_to_string("/proc/thread-self/children").expect("children of this thread")
}

#[test]
fn a_process_that_is_dropped_before_its_start_ends_and_is_reaped() {
    let bundle = tempfile::tempdir().expect("a temporary directory");
    let rootfs = bundle.path().join("rootfs");
    std::fs::create_dir(&rootfs).expect("a rootfs");
    // Any executable will do: it is found, and never executed.
    std::fs::copy("/bin/true", rootfs.join("program")).expect("a program");
    std::fs::write(bundle.path().join("config.json"), CONFIG).expect("config.json");
    let spec = Bundle::read(bundle.path(), &ContainerId::new("abandoned").expect("an id")).expect("a valid bundle");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let options = config::Options::default();
        let mut timing = Timing::default();
        let create = Container::create(&spec, &options, Stdio::Files([null(), null(), null()]).into(), &mut timing);
        let container = create.await.expect("it is created");
        assert_ne!(children(), "", "init waits for its start");
        let cgroup = Cgroup::locate(&spec.cgroup, Driver::Cgroupfs).expect("its place");
        drop(container);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !children().is_empty() {
            assert!(Instant::now() < deadline, "left: {}", children());
            reaper::sweep();
            tokio::task::yield_now().await;
        }
        for directory in cgroup.directories() {
            std::fs::remove_dir(directory).expect("its cgroup is empty");
        }
    });
}
