//! What a create that comes to no end leaves behind: nothing. One test alone in its process, for it counts its children.

use std::path::Path;
use std::time::{Duration, Instant};

use config::{Bundle, ContainerId};
use runtime_core::{Container, Stdio, Timing};

/// A cgroup that no other run of this test has, below the root of each hierarchy.
fn cgroup() -> String {
    format!("myshim-test/dropped-create-{}", std::process::id())
}

fn config() -> String {
    let (start, end) = (
        r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/none"], "user": {"uid": 0, "gid": 0}},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], "cgroupsPath": "/"#,
        r#""}}"#,
    );
    [start, &cgroup(), end].concat()
}

fn null() -> std::os::fd::OwnedFd {
    std::fs::File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}

fn cgroups() -> Vec<std::path::PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path());
    let roots = hierarchies.chain(["/sys/fs/cgroup".into()]);
    roots.map(|root| root.join(cgroup())).filter(|path| path.exists()).collect()
}

fn children() -> String {
    std::fs::read_to_string("/proc/thread-self/children").expect("children of this thread")
}

#[test]
fn a_create_that_is_dropped_leaves_nothing() {
    let bundle = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(bundle.path().join("rootfs")).expect("a rootfs");
    std::fs::write(bundle.path().join("config.json"), config()).expect("config.json");
    let spec = Bundle::read(bundle.path(), &ContainerId::new("dropped").expect("an id")).expect("a valid bundle");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let options = config::Options::default();
        let mut timing = Timing::default();
        let create = Container::create(&spec, &options, Stdio::Files([null(), null(), null()]).into(), &mut timing);
        // One look at it: the processes are forked, and nothing of them has been heard yet.
        assert!(tokio::time::timeout(Duration::ZERO, create).await.is_err(), "it was not to end at once");
        assert_eq!(children(), "", "a process is left");
        let deadline = Instant::now() + Duration::from_secs(5);
        while !cgroups().is_empty() || Path::new(&bundle.path().join("myshim.json")).exists() {
            assert!(Instant::now() < deadline, "left: {:?}", cgroups());
            tokio::task::yield_now().await;
        }
    });
}
