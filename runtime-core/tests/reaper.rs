//! Who reaps whom. One test alone in its process, for children belong to the whole process.

use std::process::Command;
use std::time::{Duration, Instant};

use runtime_core::reaper::{own, sweep};

/// All our children, whichever thread made or adopted them.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc").flatten().map(|task| task.path().join("children"));
    let lists = tasks.map(|list| std::fs::read_to_string(list).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}; children: {:?}", children());
        std::thread::yield_now();
    }
}

#[test]
fn strangers_are_reaped_and_owned_children_left_to_their_owner() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut child = Command::new("/bin/sh").args(["-c", "(sleep 0.05; exit 3) & exit 7"]).spawn().unwrap();
    let owned = own(i32::try_from(child.id()).unwrap());
    wait_until("the child has ended and its own child has come to us", || children().len() == 2);
    sweep();
    assert_eq!(child.wait().unwrap().code(), Some(7), "the sweep took an owned child's status");
    drop(owned);
    wait_until("the stranger is reaped", || {
        sweep();
        children().is_empty()
    });
}
