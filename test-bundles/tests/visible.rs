//! What a container sees of the runtime at work on another container, or on itself: never a process that has the host's root or
//! mounts, a file of the host's, or more than a container's rights. The one who looks may trace others (CAP_SYS_PTRACE), which
//! opens /proc/PID/root to it.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_bundles::bundle::{self, Bundle, Ran, ours};
use test_bundles::wait_until;

/// How often the container looks.
const LOOKS: u32 = 1000;

/// And how long it may take until it has.
const LIMIT: Duration = Duration::from_secs(50);

/// The capabilities of the bundles' processes.
const RIGHTS: &str = "a80425fb";

/// Filters of a kind that the runtime loads before and after it forks.
const FILTERS: [Option<&str>; 2] = [None, Some("SCMP_ACT_ALLOW")];

#[test]
fn a_container_that_is_created_in_the_same_pid_namespace() {
    for filter in FILTERS {
        let watcher = watcher("lifecycle");
        let mut sibling = sibling(&watcher, "lifecycle", &["pid"]);
        filtered(&mut sibling, filter);
        judge(
            &watched(&watcher, || sibling.call(&["run", "--bundle", &sibling.path().to_string_lossy(), sibling.id()])),
            may_be_seen(&["rights"]),
        );
    }
}

#[test]
fn a_process_that_is_executed_into_it() {
    for filter in FILTERS {
        let mut watcher = watcher_unstarted("lifecycle");
        filtered(&mut watcher, filter);
        watcher.start();
        let mut process = watcher.config["process"].clone();
        process["args"] = json!(["/probe", "exit", "0"]);
        process["capabilities"] = Bundle::new("lifecycle").config["process"]["capabilities"].clone();
        process["noNewPrivileges"] = json!(false);
        judge(&watched(&watcher, || watcher.exec(&process)), &[]);
    }
}

#[test]
fn a_hook_of_a_container_that_is_created_beside_it() {
    let watcher = watcher("lifecycle");
    let mut sibling = sibling(&watcher, "lifecycle", &["pid"]);
    let hook = |path: &str, args: &[&str]| json!([{ "path": path, "args": args }]);
    sibling.config["hooks"] = json!({
        "createRuntime": hook("/bin/true", &["true"]),
        "createContainer": hook("/bin/true", &["true"]),
        "startContainer": hook("/probe", &["probe", "exit", "0"]),
    });
    judge(
        &watched(&watcher, || sibling.call(&["run", "--bundle", &sibling.path().to_string_lossy(), sibling.id()])),
        may_be_seen(&["rights"]),
    );
}

#[test]
fn a_container_that_is_created_in_the_same_user_namespace() {
    let watcher = watcher("user_namespace");
    let mut sibling = sibling(&watcher, "user_namespace", &["user", "pid"]);
    sibling.config["linux"].as_object_mut().unwrap().retain(|name, _| !name.ends_with("Mappings"));
    judge(
        &watched(&watcher, || sibling.call(&["run", "--bundle", &sibling.path().to_string_lossy(), sibling.id()])),
        may_be_seen(&["rights", "mounts"]),
    );
}

/// It may wait for days, and whoever may trace it has what it holds.
#[test]
fn a_created_container_holds_its_stdio_and_a_channel() {
    for subject in ["lifecycle", "user_namespace", "seccomp"] {
        let bundle = Bundle::new(subject);
        if subject == "user_namespace" {
            give_to_root_inside(&bundle);
        }
        bundle.create().success();
        let held = format!("/proc/{}/fd", bundle.pid());
        let held = std::fs::read_dir(held).unwrap().flatten();
        let link = |entry: &std::fs::DirEntry| std::fs::read_link(entry.path()).unwrap().display().to_string();
        let number = |entry: &std::fs::DirEntry| entry.file_name().to_str().unwrap().parse::<u32>().unwrap();
        let others: Vec<_> = held.filter(|entry| number(entry) > 2).map(|entry| link(&entry)).collect();
        assert!(!ours() || others.len() == 1 && others[0].starts_with("socket:"), "{subject}: {others:?}");
    }
}

/// A container of `subject` that is about to look.
fn watcher_unstarted(subject: &str) -> Bundle {
    let mut bundle = Bundle::new(subject);
    let host = bundle.path().display().to_string();
    bundle.probe(&["watch", &host, RIGHTS, &LOOKS.to_string()]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
    }
    bundle.config["root"]["readonly"] = json!(false);
    if subject == "user_namespace" {
        give_to_root_inside(&bundle);
    }
    bundle
}

fn watcher(subject: &str) -> Bundle {
    let bundle = watcher_unstarted(subject);
    bundle.start();
    bundle
}

/// A short-lived container that joins the watcher's namespaces of these kinds.
fn sibling(watcher: &Bundle, subject: &str, kinds: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(subject);
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        let kind = namespace["type"].as_str().unwrap().to_owned();
        if kinds.contains(&kind.as_str()) {
            namespace["path"] = json!(format!("/proc/{}/ns/{kind}", watcher.pid()));
        }
    }
    if subject == "user_namespace" {
        give_to_root_inside(&bundle);
    }
    bundle.probe(&["exit", "0"]);
    bundle
}

fn give_to_root_inside(bundle: &Bundle) {
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(200_000)).unwrap();
}

/// Without no_new_privs, so that the filter takes a right to be loaded.
fn filtered(bundle: &mut Bundle, filter: Option<&str>) {
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    if let Some(action) = filter {
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": action,
            "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_ERRNO" }],
        });
    }
}

/// Lets the runtime `act` until the watcher has looked often enough. Gives what it has counted.
fn watched(watcher: &Bundle, act: impl Fn() -> Ran) -> Value {
    assert!(wait_until(LIMIT, || watcher.rootfs().join("ready").exists()));
    let process = bundle::pidfd(watcher.pid()).unwrap();
    let start = Instant::now();
    while !bundle::ends_within(&process, Duration::ZERO) {
        let ran = act();
        // The pid namespace ends with the watcher, and all that is in it.
        assert!(ran.status == 0 || bundle::ends_within(&process, Duration::from_secs(1)), "{}", ran.stderr);
        assert!(start.elapsed() < LIMIT * test_bundles::slower(), "it does not see anything");
    }
    watcher.output().json()
}

/// Before Linux 6.18 only who is in a pid namespace can mount its proc, and has the right to until it has.
fn may_be_seen<'a>(before: &'a [&'a str]) -> &'a [&'a str] {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) >= (Some(6), Some(18)) { &[] } else { before }
}

#[track_caller]
fn judge(seen: &Value, excused: &[&str]) {
    println!("{seen}");
    assert!(seen["looks"].as_u64().unwrap() >= LOOKS.into());
    for what in ["root", "mounts", "files", "rights"] {
        // Others let all of it be seen.
        assert!(seen[what] == 0 || excused.contains(&what) || !ours(), "{what}: {seen}");
    }
}
