//! `process.rlimits` (getrlimit(2)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

#[test]
fn soft_and_hard_limits_are_set() {
    let seen = Bundle::new("rlimits").seen();
    let limits = &seen["rlimits"];
    assert_eq!(limits["RLIMIT_NOFILE"], json!([512, 1024]));
    assert_eq!(limits["RLIMIT_CORE"], json!([0, 0]));
    assert_eq!(limits["RLIMIT_NPROC"], json!([300, 400]));
    assert_eq!(limits["RLIMIT_STACK"], json!([1 << 20, u64::MAX]));
}

/// `nerdctl run --ulimit nofile=2000:2000 --ulimit nofile=1000:1000` writes both.
#[test]
fn of_one_that_is_set_twice_the_last_counts() {
    let limit = |soft, hard| json!({ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard });
    let mut bundle = Bundle::new("rlimits");
    bundle.config["process"]["rlimits"] = json!([limit(1000, 1000), limit(100, 200)]);
    let log = bundle.path().join("log");
    let mut run = bundle.command();
    run.arg("--log").arg(&log).args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["rlimits"]["RLIMIT_NOFILE"], json!([100, 200]));
    let warnings = std::fs::read_to_string(&log).unwrap_or_default();
    let says = "/process/rlimits/1: a second RLIMIT_NOFILE: the last one counts";
    assert!(!ours() || warnings.contains(says), "{warnings}");

    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process["rlimits"] = json!([limit(1000, 1000), limit(50, 60)]);
    assert_eq!(bundle.exec(&process).json()["rlimits"]["RLIMIT_NOFILE"], json!([50, 60]));
}

#[test]
fn one_that_cannot_be_set_tells_why() {
    let most: u64 = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
    let mut bundle = Bundle::new("rlimits");
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": most, "hard": most + 1 }]);
    let ran = bundle.run();
    let why = format!(
        "set RLIMIT_NOFILE to {most}:{}: EPERM (operation not permitted) [it is above the sysctl fs.nr_open, which is {most}]",
        most + 1
    );
    assert!(ran.status != 0 && (!ours() || ran.stderr.contains(&why)), "{}", ran.stderr);
}

/// Nobody but who has CAP_SYS_RESOURCE may raise a hard limit: setrlimit(2).
#[test]
fn one_above_the_runtimes_own_tells_what_it_takes() {
    let mut bundle = Bundle::new("rlimits");
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_MSGQUEUE", "soft": 5, "hard": 6 }]);
    let run = bundle.command();
    let mut without = std::process::Command::new("setpriv");
    without.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]);
    without.args(["prlimit", "--msgqueue=5:5"]).arg(run.get_program()).args(run.get_args());
    without.args(["run", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
    let output = without.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let why = "set RLIMIT_MSGQUEUE to 5:6: EPERM (operation not permitted) [to raise a hard limit above the runtime's own takes CAP_SYS_RESOURCE]";
    assert!(!output.status.success() && (!ours() || error.contains(why)), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn exec_has_limits_of_its_own() {
    let mut bundle = Bundle::new("rlimits");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    assert_eq!(bundle.exec(&process).json()["rlimits"]["RLIMIT_NOFILE"], json!([100, 200]));
}

#[test]
fn an_exec_without_any_has_those_of_init() {
    if !ours() {
        println!("skipped: runc 1.1 gives it those of its caller");
        return;
    }
    let mut bundle = Bundle::new("rlimits");
    let limits = bundle.config["process"]["rlimits"].clone();
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process.as_object_mut().unwrap().remove("rlimits");
    let seen = bundle.exec(&process).json();
    for limit in limits.as_array().unwrap() {
        let name = limit["type"].as_str().unwrap();
        assert_eq!(seen["rlimits"][name], json!([limit["soft"], limit["hard"]]), "{name}");
    }
    process["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 2 }]);
    assert_eq!(bundle.exec(&process).json()["rlimits"]["RLIMIT_CORE"], json!([1, 2]));
}
