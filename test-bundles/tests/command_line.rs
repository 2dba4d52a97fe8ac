//! The OCI command line, as runc's callers use it: flags, output, logs and codes.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use test_bundles::bundle::{self, Bundle, Ran, ours};

#[test]
fn paused_it_is_and_goes_on() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    bundle.call(&["pause", bundle.id()]).success();
    assert_eq!(bundle.state()["status"], "paused");
    let refused = bundle.call(&["exec", bundle.id(), "/probe", "exit", "0"]);
    assert_eq!(refused.status, 255, "{}", refused.stderr);
    bundle.call(&["resume", bundle.id()]).success();
    assert_eq!(bundle.state()["status"], "running");
    bundle.call(&["exec", bundle.id(), "/probe", "exit", "0"]).success();
    assert_ne!(bundle.call(&["resume", bundle.id()]).status, 0);
}

/// It starts in the frozen cgroup, and runs when that is thawed.
#[test]
fn an_exec_may_be_made_to_wait_for_the_end_of_a_pause() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    bundle.call(&["pause", bundle.id()]).success();
    let mut exec = bundle.command();
    let output = fs::File::create(bundle.path().join("exec.output")).unwrap();
    exec.args(["exec", "--ignore-paused", bundle.id(), "/probe", "exit", "7"]).stdout(output);
    let mut exec = exec.spawn().unwrap();
    // On v1 it may be stopped before it is in all of the hierarchies, and so be missing where pids are counted.
    let is_there = |process: &fs::DirEntry| {
        fs::read_to_string(process.path().join("cgroup")).is_ok_and(|cgroups| cgroups.contains(&bundle.cgroup()))
    };
    let processes = || fs::read_dir("/proc").unwrap().flatten().filter(is_there).count();
    assert!(test_bundles::wait_until(std::time::Duration::from_secs(20), || processes() > 1), "nothing was executed");
    assert_eq!(exec.try_wait().unwrap(), None);
    bundle.call(&["resume", bundle.id()]).success();
    assert_eq!(exec.wait().unwrap().code(), Some(7));
}

/// What an update says nothing of stays: the rules about devices do not go back to what they are by default.
#[test]
fn an_update_without_devices_leaves_them_alone() {
    let mut bundle = Bundle::new("cgroup");
    let node = json!({ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 });
    bundle.config["linux"]["devices"] = json!([node]);
    let allowed = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm" });
    bundle.config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }, allowed] });
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "write", "/dev/kmsg", "/dev/null"]);
    let opened = || bundle.exec(&process).json();
    let before = json!({ "/dev/kmsg": "ok", "/dev/null": "ok" });
    assert_eq!(opened(), before);
    bundle.call(&["update", "--pids-limit", "77", bundle.id()]).success();
    assert_eq!(opened(), before);
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    bundle.call(&["pause", bundle.id()]).success();
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle.assert_nothing_left();
}

#[test]
fn update_by_flags_by_file_and_by_standard_input() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    let limit = || {
        let files = bundle.cgroup_directories().map(|directory| directory.join("pids.max"));
        fs::read_to_string(files.into_iter().find(|file| file.exists()).expect("a pids controller")).unwrap()
    };
    bundle.call(&["update", "--pids-limit", "77", bundle.id()]).success();
    assert_eq!(limit(), "77\n");
    let file = bundle.path().join("resources.json");
    fs::write(&file, json!({ "pids": { "limit": 78 } }).to_string()).unwrap();
    bundle.call(&["update", "--resources", file.to_str().unwrap(), bundle.id()]).success();
    assert_eq!(limit(), "78\n");
    let mut command = bundle.command();
    command.args(["update", "--resources=-", bundle.id()]).stdin(fs::File::open(&file).unwrap());
    fs::write(&file, json!({ "pids": { "limit": 79 } }).to_string()).unwrap();
    assert!(command.status().unwrap().success());
    assert_eq!(limit(), "79\n");
    let wrong = bundle.call(&["update", "--memory", "much", bundle.id()]);
    assert_ne!(wrong.status, 0);
    assert!(!ours() || wrong.stderr.contains("--memory"), "{}", wrong.stderr);
}

#[test]
fn ps_and_list_have_two_forms() {
    let bundle = Bundle::new("lifecycle");
    let init = bundle.start();
    let pids: Value = bundle.call(&["ps", "--format", "json", bundle.id()]).json();
    assert_eq!(pids, json!([init]));
    let table = bundle.call(&["ps", bundle.id()]).success().stdout;
    assert!(table.contains("PID") && table.contains("/probe sleep") && table.lines().count() == 2, "{table}");

    let list: Value = bundle.call(&["list", "--format", "json"]).json();
    let entry = &list[0];
    assert_eq!((&entry["id"], &entry["pid"], &entry["status"]), (&json!(bundle.id()), &json!(init), &json!("running")));
    assert_eq!((&entry["bundle"], &entry["rootfs"]), (&json!(bundle.path()), &json!(bundle.rootfs())));
    // containerd reads it as a time.
    let created = entry["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.contains('T') && created.ends_with('Z'), "{created}");
    assert_eq!(bundle.call(&["list", "--quiet"]).success().stdout, format!("{}\n", bundle.id()));
    let table = bundle.call(&["list"]).success().stdout;
    assert!(table.starts_with("ID ") && table.contains(bundle.id()), "{table}");
}

#[test]
fn exec_is_varied_by_flags() {
    let bundle = Bundle::new("lifecycle");
    bundle.start();
    let flags = ["exec", "--additional-gids", "35", "--cap", "CAP_SYS_PTRACE", "--user", "33", bundle.id(), "/probe"];
    let seen = bundle.call(&flags).json();
    assert_eq!((&seen["uid"][0], &seen["gid"][0]), (&json!(33), &json!(0)));
    assert!(seen["groups"].as_array().unwrap().contains(&json!(35)), "{seen}");
    assert!(seen["capabilities"]["bounding"].as_array().unwrap().contains(&json!("CAP_SYS_PTRACE")));
    let status = bundle.call(&["exec", bundle.id(), "/probe", "exit", "7"]).status;
    assert_eq!(status, 7);
    assert_eq!(bundle.call(&["exec", bundle.id(), "/not/there"]).status, 255);
}

#[test]
fn run_may_return_at_once_or_leave_the_container() {
    let mut bundle = Bundle::new("lifecycle");
    let path = bundle.path().to_str().unwrap().to_owned();
    bundle.call(&["run", "--detach", "--bundle", &path, bundle.id()]).success();
    assert_eq!(bundle.state()["status"], "running");
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle.assert_nothing_left();

    bundle.probe(&["exit", "7"]);
    // The runc of 2023 takes it for its test suite alone.
    if ours() {
        assert_eq!(bundle.call(&["run", "--keep", "--bundle", &path, bundle.id()]).status, 7);
        assert_eq!(bundle.state()["status"], "stopped");
        bundle.call(&["delete", bundle.id()]).success();
        bundle.assert_nothing_left();
    }
}

#[test]
fn errors_are_in_the_log_in_both_forms() {
    let bundle = Bundle::new("lifecycle");
    let log = bundle.path().join("log");
    let call = |format: &str| {
        let ran = with_log(&bundle, &log, format).args(["start", "nobody"]).output().unwrap();
        assert!(!ran.status.success());
        assert!(String::from_utf8_lossy(&ran.stderr).contains("not exist"));
        fs::read_to_string(&log).unwrap()
    };
    let text = call("text");
    assert!(
        text.starts_with("time=\"20") && text.contains("level=error msg=\"") && text.contains("not exist"),
        "{text}"
    );
    fs::remove_file(&log).unwrap();
    let line: Value = serde_json::from_str(&call("json")).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("not exist") && line["time"].is_string(), "{line}");
}

#[test]
fn what_goes_wrong_without_being_fatal_is_in_the_log() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.config["hooks"] = json!({ "poststop": [{ "path": "/not/there" }] });
    let log = bundle.path().join("log");
    let path = bundle.path().to_str().unwrap().to_owned();
    if ours() {
        let created =
            with_log(&bundle, &log, "json").args(["run", "--detach", "--bundle", &path, bundle.id()]).status();
        assert!(created.unwrap().success());
        bundle.call(&["delete", "--force", bundle.id()]).success();
        let line: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!(line["level"], "warning");
        assert!(line["msg"].as_str().unwrap().contains("/hooks/poststop/0: /not/there"), "{line}");
    }
}

/// containerd's runc shim goes by these words, and takes any others for a process that may still be there.
#[test]
fn who_kills_what_has_ended_is_told_so_in_runcs_words() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.probe(&["exit", "0"]).start();
    bundle.wait();
    let ran = bundle.call(&["kill", bundle.id(), "TERM"]);
    assert!(ran.status != 0 && ran.stderr.contains("container not running"), "{}", ran.stderr);
    let ran = bundle.call(&["kill", "nobody", "TERM"]);
    assert!(ran.status != 0 && ran.stderr.contains("does not exist"), "{}", ran.stderr);
}

#[test]
fn nonsense_is_refused() {
    let bundle = Bundle::new("lifecycle");
    for call in
        [&["fly"][..], &["start"], &["list", "--format", "xml"], &["kill", "--loud", "x"], &["ps", "-f", "xml", "x"]]
    {
        let ran: Ran = bundle.call(call);
        assert_ne!(ran.status, 0, "{call:?}: {}", ran.stdout);
    }
}

#[test]
fn it_says_its_version() {
    let said = bundle_command(&["--version"]);
    assert!(said.contains(" version ") && said.contains("spec: 1."), "{said}");
}

fn with_log(bundle: &Bundle, log: &std::path::Path, format: &str) -> Command {
    let mut command = bundle.command();
    command.arg("--log").arg(log).args(["--log-format", format]);
    command
}

fn bundle_command(arguments: &[&str]) -> String {
    let runtime = std::env::var_os("OCI").map_or_else(|| bundle::built("oci"), PathBuf::from);
    String::from_utf8(Command::new(runtime).args(arguments).output().unwrap().stdout).unwrap()
}
