//! `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`, `linux.personality` and `linux.memoryPolicy`: how a
//! process is scheduled, where its memory lies, and what it takes the kernel for (runtime spec 1.2 and 1.3).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

/// Many of these fields are younger than the runtime that OCI names.
macro_rules! since_spec_1_3 {
    () => {
        if !ours() {
            println!("skipped: runc 1.1 passes over these fields");
            return;
        }
    };
}

const BATCH: u32 = 3;

#[test]
fn init_has_what_it_was_given() {
    since_spec_1_3!();
    let seen = Bundle::new("scheduling").seen();
    assert_eq!(seen["scheduling"], json!({ "policy": BATCH, "nice": 5, "priority": 0 }));
    assert_eq!(seen["io_priority"], json!([2, 6]));
    assert_eq!(seen["personality"], "00000008");
    assert_eq!(seen["memory_policy"], "bind=static:0");
}

#[test]
fn without_them_it_has_what_everybody_has() {
    let mut bundle = Bundle::new("scheduling");
    for (object, fields) in [("process", ["scheduler", "ioPriority"]), ("linux", ["personality", "memoryPolicy"])] {
        bundle.config[object].as_object_mut().unwrap().retain(|name, _| !fields.contains(&name.as_str()));
    }
    let seen = bundle.seen();
    // The caller's: the tests may run under nice(1).
    let nice = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(seen["scheduling"], json!({ "policy": 0, "nice": nice, "priority": 0 }));
    assert_eq!((&seen["personality"], &seen["memory_policy"]), (&json!("00000000"), &json!("default")));
}

#[test]
fn an_exec_has_its_own_or_that_of_init() {
    since_spec_1_3!();
    let (bundle, mut process) = sleeping();
    process.as_object_mut().unwrap().retain(|name, _| name != "scheduler" && name != "ioPriority");
    let seen = bundle.exec(&process).json();
    assert_eq!(seen["scheduling"]["policy"], BATCH);
    assert_eq!((&seen["io_priority"], &seen["personality"]), (&json!([2, 6]), &json!("00000008")));
    assert_eq!(seen["memory_policy"], "bind=static:0");

    process["scheduler"] = json!({ "policy": "SCHED_OTHER", "nice": 9 });
    process["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE" });
    let seen = bundle.exec(&process).json();
    assert_eq!(seen["scheduling"], json!({ "policy": 0, "nice": 9, "priority": 0 }));
    assert_eq!(seen["io_priority"], json!([3, 0]));
}

#[test]
fn an_empty_list_of_nodes() {
    since_spec_1_3!();
    let mut bundle = Bundle::new("scheduling");
    for (mode, nodes, seen) in
        [("MPOL_PREFERRED", "", "local"), ("MPOL_LOCAL", "", "local"), ("MPOL_DEFAULT", "", "default")]
    {
        bundle.config["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": nodes });
        assert_eq!(bundle.seen()["memory_policy"], seen, "{mode}");
    }
}

#[test]
fn what_the_kernel_refuses_is_named() {
    since_spec_1_3!();
    let mut bundle = Bundle::new("scheduling");
    bundle.config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "1000" });
    let ran = bundle.run();
    assert!(ran.status != 0 && ran.stderr.contains("memory policy"), "{}", ran.stderr);

    let mut bundle = Bundle::new("scheduling");
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_FIFO", "priority": 100 });
    let ran = bundle.run();
    assert!(ran.status != 0 && ran.stderr.contains("schedule as fifo"), "{}", ran.stderr);
}

#[test]
fn personality_is_set_before_the_filter() {
    since_spec_1_3!();
    let mut bundle = Bundle::new("scheduling");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["personality", "sched_setattr", "ioprio_set", "set_mempolicy", "sched_setaffinity"],
            "action": "SCMP_ACT_KILL_PROCESS",
        }],
    });
    for privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(privileges);
        assert_eq!(bundle.seen()["personality"], "00000008", "{privileges}");
    }
}

/// The runtime's own affinity is none of the container's business: the kernel keeps it over a change of cgroup since 6.2.
#[test]
fn a_container_runs_wherever_its_cpuset_allows() {
    since_spec_1_3!();
    let all = cpus_of_the_machine();
    let mut bundle = Bundle::new("scheduling");
    bundle.probe(&["sleep"]);
    let confined = |arguments: &[&str]| {
        let inner = bundle.command();
        let mut command = std::process::Command::new("taskset");
        command.arg("--cpu-list").arg("0").arg(inner.get_program()).args(inner.get_args()).args(arguments);
        // A file takes init's output: a pipe would be held open by it.
        let file = |name| fs::File::create(bundle.path().join(name)).unwrap();
        let status = command.stdin(std::process::Stdio::null()).stdout(file("out")).stderr(file("err")).status();
        assert!(status.unwrap().success(), "{}", fs::read_to_string(bundle.path().join("err")).unwrap());
    };
    confined(&["create", "--bundle", &bundle.path().to_string_lossy(), "--pid-file", &bundle.pid_file(), bundle.id()]);
    assert_eq!(allowed(bundle.pid()), all);
    bundle.call(&["start", bundle.id()]).success();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_eq!(bundle.exec(&process).json()["cpus"], all);
}

#[test]
fn an_exec_runs_where_it_was_told_to() {
    since_spec_1_3!();
    let (bundle, mut process) = sleeping();
    let all = cpus_of_the_machine();
    process["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
    assert_eq!(bundle.exec(&process).json()["cpus"], "0");
    // Far more CPUs than there are, and than an old mask holds: those that exist count.
    process["execCPUAffinity"] = json!({ "final": "0-9000" });
    assert_eq!(bundle.exec(&process).json()["cpus"], all);
    process["execCPUAffinity"] = json!({ "final": "9000" });
    let ran = bundle.exec(&process);
    assert!(ran.status != 0 && ran.stderr.contains("run on CPUs 9000"), "{}", ran.stderr);
}

/// `process.execCPUAffinity` of config.json is not init's: it is that of every exec which has none.
#[test]
fn the_affinity_of_config_json_is_for_execs() {
    since_spec_1_3!();
    let mut bundle = Bundle::new("scheduling");
    bundle.config["process"]["execCPUAffinity"] = json!({ "final": "0" });
    bundle.probe(&["sleep"]);
    let pid = bundle.start();
    assert_eq!(allowed(pid), cpus_of_the_machine());
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process.as_object_mut().unwrap().remove("execCPUAffinity");
    assert_eq!(bundle.exec(&process).json()["cpus"], "0");
}

fn cpus_of_the_machine() -> String {
    fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim().to_owned()
}

/// Where a process may run.
fn allowed(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// A container whose init sleeps, and a process that looks around in it.
fn sleeping() -> (Bundle, Value) {
    let mut bundle = Bundle::new("scheduling");
    bundle.probe(&["sleep"]);
    bundle.start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    (bundle, process)
}
