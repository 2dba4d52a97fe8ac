//! `process.capabilities`: the five sets (runtime spec config.md, "Linux Process"; capabilities(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::process::Command;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

#[test]
fn a_user_who_is_not_root_holds_what_is_ambient() {
    // execve(2) of a plain file gives an unprivileged user the ambient set and no more, whatever was permitted before.
    let seen = Bundle::new("capabilities").seen();
    let sets = &seen["capabilities"];
    assert_eq!(sets["bounding"], json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"]));
    assert_eq!(sets["inheritable"], json!(["CAP_NET_RAW"]));
    assert_eq!(sets["ambient"], json!(["CAP_NET_RAW"]));
    assert_eq!(sets["permitted"], json!(["CAP_NET_RAW"]));
    assert_eq!(sets["effective"], json!(["CAP_NET_RAW"]));
}

#[test]
fn root_holds_what_is_bounding() {
    // execve(2) as root gives the bounding set, so that this is what really limits a root user.
    let mut bundle = Bundle::new("capabilities");
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    bundle.config["process"]["capabilities"]["ambient"] = json!([]);
    let seen = bundle.seen();
    let bounding = json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"]);
    assert_eq!(seen["capabilities"]["bounding"], bounding);
    assert_eq!(seen["capabilities"]["permitted"], bounding);
    assert_eq!(seen["capabilities"]["effective"], bounding);
    assert_eq!(seen["capabilities"]["ambient"], json!([]));
    assert_eq!(seen["capabilities"]["inheritable"], json!(["CAP_NET_RAW"]));
}

#[test]
fn no_new_privileges_keeps_root_to_what_was_permitted() {
    let mut bundle = Bundle::new("capabilities");
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    let seen = bundle.seen();
    assert_eq!(seen["capabilities"]["permitted"], json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]));
    assert_eq!(seen["capabilities"]["bounding"], json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"]));
}

#[test]
fn an_absent_set_is_empty() {
    for absent in [json!({}), Value::Null] {
        let mut bundle = Bundle::new("capabilities");
        bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
        bundle.config["process"]["capabilities"] = absent;
        bundle.config["process"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        for (name, set) in bundle.seen()["capabilities"].as_object().unwrap() {
            assert_eq!(set, &json!([]), "{name}");
        }
    }
}

/// A client may be newer than the runtime, and the kernel too: the specification wants a warning, and no failure.
#[test]
fn one_that_nobody_knows_is_left_out_with_a_warning() {
    let mut bundle = Bundle::new("capabilities");
    ask_for(&mut bundle, &["CAP_FLY", "CAP_KILL"]);
    let (seen, warnings) = bundle.seen_and_logged(bundle.command());
    assert_eq!(seen["capabilities"]["effective"], json!(["CAP_KILL"]));
    assert!(!ours() || warnings.contains("bounding: CAP_FLY is not known here, left out"), "{warnings}");
}

/// Nor for those that the runtime has not got itself. Others fail.
#[test]
fn one_that_cannot_be_granted_is_left_out_with_a_warning() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new("capabilities");
    ask_for(&mut bundle, &["CAP_KILL", "CAP_SYS_TIME"]);
    let limited = |bundle: &Bundle| {
        let inner = bundle.command();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_time"]).arg(inner.get_program()).args(inner.get_args());
        command
    };
    let (seen, warnings) = bundle.seen_and_logged(limited(&bundle));
    for set in ["bounding", "permitted", "effective"] {
        assert_eq!(seen["capabilities"][set], json!(["CAP_KILL"]), "{set}");
    }
    let says = "/process/capabilities: CAP_SYS_TIME cannot be granted by this runtime, left out";
    assert!(warnings.contains(says), "{warnings}");
    // In a user namespace of its own it has all.
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    for map in ["uidMappings", "gidMappings"] {
        linux[map] = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
    }
    let (seen, warnings) = bundle.seen_and_logged(limited(&bundle));
    assert_eq!(seen["capabilities"]["effective"], json!(["CAP_KILL", "CAP_SYS_TIME"]));
    assert_eq!(warnings, "");
}

/// Makes root ask for these, and for nothing that is inherited.
fn ask_for(bundle: &mut Bundle, names: &[&str]) {
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    for set in ["bounding", "permitted", "effective"] {
        bundle.config["process"]["capabilities"][set] = json!(names);
    }
    for set in ["inheritable", "ambient"] {
        bundle.config["process"]["capabilities"][set] = json!([]);
    }
}

/// CVE-2022-29162: what is inheritable is what config.json says, not what is permitted, for init and for an exec.
#[test]
fn nothing_is_inheritable_that_was_not_asked_for() {
    let mut bundle = Bundle::new("capabilities");
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    let all = json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "permitted": all, "effective": all });
    assert_eq!(bundle.seen()["capabilities"]["inheritable"], json!([]));
    let mut process = bundle.config["process"].clone();
    bundle.probe(&["sleep"]).start();
    process["args"] = json!(["/probe"]);
    let seen = bundle.exec(&process).json();
    assert_eq!((&seen["capabilities"]["inheritable"], &seen["capabilities"]["effective"]), (&json!([]), &all));
}

#[test]
fn capabilities_are_enforced() {
    let mut bundle = Bundle::new("capabilities");
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    // setuid last, for it gives up the rest.
    bundle.probe(&["syscall", "mknod", "sethostname", "setuid"]);
    assert_eq!(bundle.seen(), json!({ "mknod": "EPERM", "sethostname": "EPERM", "setuid": "ok" }));
}

#[test]
fn exec_has_the_sets_of_its_own_process() {
    let mut bundle = Bundle::new("capabilities");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    assert_eq!(bundle.exec(&process).json()["capabilities"]["effective"], json!(["CAP_NET_RAW"]));

    process["capabilities"]["ambient"] = json!([]);
    process["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_CHOWN"]);
    process["capabilities"]["permitted"] = json!(["CAP_KILL"]);
    process["capabilities"]["effective"] = json!(["CAP_KILL"]);
    process["capabilities"]["inheritable"] = json!([]);
    process["user"] = json!({ "uid": 0, "gid": 0 });
    let seen = bundle.exec(&process).json();
    assert_eq!(seen["capabilities"]["effective"], json!(["CAP_CHOWN", "CAP_KILL"]));
    assert_eq!(seen["capabilities"]["inheritable"], json!([]));
}
