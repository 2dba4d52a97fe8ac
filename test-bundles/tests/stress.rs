//! Many lives at once: whole runs, containers with execs that succeed and execs that fail, on one machine at the same time.
//! Dropping a bundle looks for what it left.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::time::Duration;

use serde_json::json;
use test_bundles::bundle::{Bundle, ours};
use test_bundles::wait_until;

const AT_ONCE: usize = 8;
const ROUNDS: usize = 4;
const EXECS_AT_ONCE: usize = 4;

#[test]
fn many_lives_at_once_leave_nothing() {
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| (0..ROUNDS).for_each(life));
        }
    });
}

fn life(round: usize) {
    let mut bundle = Bundle::new("exec");
    bundle.config["process"]["args"] = json!(["/not/there"]);
    let failed = bundle.run();
    assert!(failed.status != 0 && failed.stderr.contains("/not/there"), "{}", failed.stderr);
    assert_eq!(bundle.probe(&["exit", "7"]).run().status, 7);

    let init = bundle.probe(&["sleep"]).start();
    let keeper = parent(init);
    execs(&bundle, round);
    if ours() {
        let before = files(keeper);
        execs(&bundle, round);
        assert_eq!(children(keeper), [init]);
        // The keeper closes a client's connection just after its last answer.
        let closed = wait_until(Duration::from_secs(10), || files(keeper) <= before);
        assert!(closed, "{before} files have become {}", files(keeper));
    }
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle.assert_nothing_left();
}

/// Four at once, of which every other one cannot be executed.
fn execs(bundle: &Bundle, round: usize) {
    std::thread::scope(|scope| {
        for number in 0..EXECS_AT_ONCE {
            scope.spawn(move || {
                let good = (number + round).is_multiple_of(2);
                let mut process = bundle.config["process"].clone();
                process["args"] = if good { json!(["/probe", "exit", "3"]) } else { json!(["/nobody"]) };
                let file = bundle.path().join(format!("process-{number}.json"));
                fs::write(&file, process.to_string()).unwrap();
                let ran = bundle.call(&["exec", "--process", file.to_str().unwrap(), bundle.id()]);
                assert_eq!(ran.status == 3, good, "{}", ran.stderr);
                assert_eq!(ran.stderr.contains("/nobody"), !good, "{}", ran.stderr);
            });
        }
    });
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Zombies included.
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
