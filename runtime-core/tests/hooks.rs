//! A hook that hangs, and a create that is given up meanwhile: the hook ends, and the poststop hooks run. One test alone in its
//! process, for it counts its children.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use config::{Bundle, ContainerId};
use runtime_core::{Container, Stdio, Timing, reaper};
use serde_json::json;

fn null() -> std::os::fd::OwnedFd {
    fs::File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}

fn children() -> String {
    fs::read_to_string("/proc/thread-self/children").expect("children of this thread")
}

fn shell(script: &str) -> serde_json::Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] })
}

fn configuration(bundle: &Path) -> serde_json::Value {
    let file = |name| bundle.join(name).display().to_string();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["/none"], "user": { "uid": 0, "gid": 0 } },
        "hooks": {
            "createRuntime": [shell(&format!("echo > {}; sleep 1000", file("hanging")))],
            "poststop": [shell(&format!("echo stopped >> {}", file("stopped")))],
        },
        "linux": { "namespaces": [{ "type": "mount" }], "cgroupsPath": "/myshim-test/dropped-hook" },
    })
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: children {}", children());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_hook_ends_with_the_create_that_ran_it() {
    let bundle = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(bundle.path().join("rootfs")).expect("a rootfs");
    let text = configuration(bundle.path()).to_string();
    fs::write(bundle.path().join("config.json"), text).expect("config.json");
    let spec = Bundle::read(bundle.path(), &ContainerId::new("hanging").expect("an id")).expect("a valid bundle");
    let (hanging, stopped) = (bundle.path().join("hanging"), bundle.path().join("stopped"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (options, mut timing) = (config::Options::default(), Timing::default());
        let stdio = Stdio::Files([null(), null(), null()]);
        tokio::select! {
            created = Container::create(&spec, &options, stdio.into(), &mut timing) => panic!("{created:?}"),
            () = until("the hook does not run", || hanging.exists()) => {}
        }
        until("poststop hooks do not run", || stopped.exists()).await;
        until("somebody is left", || {
            reaper::sweep();
            children().is_empty()
        })
        .await;
        assert_eq!(fs::read_to_string(&stopped).expect("it was written"), "stopped\n");
    });
}
