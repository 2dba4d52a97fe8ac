//! `process.apparmorProfile` and `process.selinuxLabel` (runtime spec config.md, "Linux Process"). What only a host with
//! AppArmor can show is skipped on others, which show that a profile is not passed over.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::json;
use test_bundles::bundle::{Bundle, ours};

/// Allows everything but one file.
const PROFILE: &str = "profile NAME flags=(attach_disconnected,mediate_deleted) {
    file, capability, network, mount, umount, pivot_root, signal, ptrace, unix, dbus,
    deny /secret rw,
}
";

fn enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// The bundle, with its profile and a second one loaded; unless the host has no AppArmor.
macro_rules! confined {
    () => {{
        if !enabled() {
            println!("skipped: AppArmor is not enabled here");
            return;
        }
        load_once();
        let bundle = Bundle::new("apparmor");
        fs::write(bundle.rootfs().join("secret"), "s").unwrap();
        bundle
    }};
}

fn load_once() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| ["myshim-test", "myshim-test-exec"].into_iter().for_each(load));
}

fn load(name: &str) {
    let mut parser = Command::new("apparmor_parser").arg("--replace").stdin(Stdio::piped()).spawn().unwrap();
    parser.stdin.take().unwrap().write_all(PROFILE.replace("NAME", name).as_bytes()).unwrap();
    assert!(parser.wait().unwrap().success(), "apparmor_parser");
}

#[test]
fn init_is_confined() {
    let mut bundle = confined!();
    assert_eq!(bundle.seen()["label"], "myshim-test (enforce)");
    bundle.probe(&["read", "/secret"]);
    assert_eq!(bundle.seen(), json!({ "/secret": "EACCES" }));
    bundle.config["process"].as_object_mut().unwrap().remove("apparmorProfile");
    assert_eq!(bundle.seen(), json!({ "/secret": "s" }));
}

#[test]
fn with_and_without_no_new_privileges_and_as_any_user() {
    let mut bundle = confined!();
    for (privileges, uid) in [(true, 0), (true, 1000), (false, 1000)] {
        bundle.config["process"]["noNewPrivileges"] = json!(privileges);
        bundle.config["process"]["user"] = json!({ "uid": uid, "gid": uid });
        assert_eq!(bundle.seen()["label"], "myshim-test (enforce)", "{privileges} {uid}");
    }
}

#[test]
fn unconfined_is_no_profile() {
    let mut bundle = confined!();
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(bundle.seen()["label"], "unconfined");
}

#[test]
fn an_exec_has_its_own_or_that_of_init() {
    let mut bundle = confined!();
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process.as_object_mut().unwrap().remove("apparmorProfile");
    assert_eq!(bundle.exec(&process).json()["label"], "myshim-test (enforce)");
    process["apparmorProfile"] = json!("myshim-test-exec");
    assert_eq!(bundle.exec(&process).json()["label"], "myshim-test-exec (enforce)");
    process["apparmorProfile"] = json!("myshim-not-loaded");
    let ran = bundle.exec(&process);
    assert!(ran.status != 0 && ran.stderr.contains("myshim-not-loaded"), "{}", ran.stderr);
}

#[test]
fn a_profile_that_is_not_loaded_is_named() {
    let mut bundle = confined!();
    bundle.config["process"]["apparmorProfile"] = json!("myshim-not-loaded");
    let ran = bundle.run();
    assert!(ran.status != 0 && ran.stderr.contains("myshim-not-loaded"), "{}", ran.stderr);
    assert!(!ours() || ran.stderr.contains("no such AppArmor profile is loaded"), "{}", ran.stderr);
}

/// CVE-2019-16884, CVE-2023-28642, CVE-2025-52881: an image whose /proc is not what it seems, or that has a volume there.
#[test]
fn an_image_cannot_lead_the_label_astray() {
    let mut bundle = confined!();
    let host = tempfile::tempdir().unwrap();
    fs::create_dir_all(host.path().join("attr/apparmor")).unwrap();
    fs::write(host.path().join("attr/apparmor/exec"), "").unwrap();
    fs::write(host.path().join("attr/exec"), "").unwrap();
    for destination in ["/proc/self", "/proc/thread-self", "/proc"] {
        let mount = json!({ "destination": destination, "type": "bind", "source": host.path(), "options": ["bind"] });
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let ran = bundle.probe(&["read", "/secret"]).run();
        // Refused, or confined all the same.
        assert!(ran.status != 0 || ran.stdout.contains("EACCES"), "{destination}: {}", ran.stdout);
        bundle.config["mounts"].as_array_mut().unwrap().pop();
    }
    assert_eq!(fs::read_to_string(host.path().join("attr/apparmor/exec")).unwrap(), "");

    // Or there is no procfs, and the image has what looks like one.
    let mut bundle = confined!();
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    let fakes =
        ["self", "thread-self"].map(|process| bundle.rootfs().join("proc").join(process).join("attr/apparmor/exec"));
    for fake in &fakes {
        fs::create_dir_all(fake.parent().unwrap()).unwrap();
        fs::write(fake, "").unwrap();
    }
    let ran = bundle.probe(&["read", "/secret"]).run();
    // Others do not run without one.
    assert!(!ours() || ran.status == 0, "{}", ran.stderr);
    assert!(ran.status != 0 || ran.stdout.contains("EACCES"), "{}", ran.stdout);
    assert!(fakes.iter().all(|fake| fs::read_to_string(fake).unwrap().is_empty()));
}

#[test]
fn what_the_host_does_not_have_is_refused_by_its_pointer() {
    let mut cases = vec![("process", "selinuxLabel", "SELinux"), ("linux", "mountLabel", "SELinux")];
    if !enabled() {
        cases.push(("process", "apparmorProfile", "AppArmor"));
    }
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        println!("skipped: SELinux is enabled here");
        return;
    }
    for (object, field, module) in cases {
        // runc takes a label for mounts and leaves it to mount(2), and AppArmor's to write(2).
        if !ours() && field == "mountLabel" {
            continue;
        }
        let mut bundle = Bundle::new("apparmor");
        bundle.config["process"].as_object_mut().unwrap().remove("apparmorProfile");
        bundle.config[object][field] = json!("system_u:object_r:container_t:s0");
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{field}");
        let said = format!("/{object}/{field}: {module} is not enabled on this host");
        assert!(!ours() || ran.stderr.contains(&said), "{}", ran.stderr);
    }
}

#[test]
fn an_exec_too_is_refused_what_the_host_does_not_have() {
    if enabled() || !ours() {
        println!("skipped: AppArmor is enabled here, or another runtime is under test");
        return;
    }
    let mut bundle = Bundle::new("apparmor");
    // Where nothing can be confined, everything is unconfined.
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    bundle.exec(&process).success();
    process["apparmorProfile"] = json!("myshim-test");
    let ran = bundle.exec(&process);
    assert!(ran.stderr.contains("/apparmorProfile: AppArmor is not enabled on this host"), "{}", ran.stderr);
}
