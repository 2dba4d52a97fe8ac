//! `hooks`: six kinds at six points, their state, environment, time and namespaces, and what becomes of a container whose
//! hook fails (config.md "POSIX-platform Hooks", runtime.md "Lifecycle").

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_bundles::bundle::{self, Bundle, Ran, ours};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[test]
fn all_kinds_run_once_in_order_and_are_told_the_state() {
    let mut bundle = recording();
    bundle.config["annotations"] = json!({ "org.example.key": "value" });
    let init = bundle.start();
    if ours() {
        // Others answer Start while startContainer hooks still run.
        assert_eq!(names(&bundle), KINDS[..5]);
    }
    end(&bundle);
    assert_eq!(names(&bundle), all());
    for line in lines(&bundle) {
        let (hook, told) = (&line["hook"], &line["told"]);
        let status = match hook.as_str().unwrap() {
            "startContainer" => "created",
            "poststart" if !ours() => continue,
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(told["status"], status, "{hook}");
        assert_eq!(told["id"], bundle.id(), "{hook}");
        assert_eq!(told["bundle"], json!(bundle.path()), "{hook}");
        assert_eq!(told["annotations"], json!({ "org.example.key": "value" }), "{hook}");
        assert!(told["ociVersion"].as_str().unwrap().starts_with("1."), "{hook}");
        let pid = match hook.as_str().unwrap() {
            // As the container sees it.
            "createContainer" | "startContainer" => json!(1),
            "poststop" => Value::Null,
            _ => json!(init),
        };
        assert_eq!(told["pid"], pid, "{hook}");
    }
}

#[test]
fn it_has_its_own_arguments_and_environment_and_nothing_else() {
    let mut bundle = recording();
    for kind in KINDS {
        bundle.config["hooks"][kind][0]["env"] = json!(["ONE=1", "TWO=2"]);
        bundle.config["hooks"][kind][0]["args"][0] = json!("called-so");
    }
    bundle.start();
    end(&bundle);
    for line in lines(&bundle) {
        let (hook, seen) = (&line["hook"], &line["seen"]);
        assert_eq!(seen["env"], json!(["ONE=1", "TWO=2"]), "{hook}");
        assert_eq!(seen["args"][0], "called-so", "{hook}");
        let open = seen["fds"].as_object().unwrap();
        // A runtime written in Go may have its poller open; ours has nothing.
        let others = open.keys().filter(|fd| !["0", "1", "2"].contains(&fd.as_str())).count();
        // One is the probe's own, which lists them.
        assert!(others <= 1 || !ours(), "{hook}: {open:?}");
        assert!(
            !ours() || (seen["signals"]["blocked"] == json!([]) && seen["signals"]["ignored"] == json!([])),
            "{hook}"
        );
    }
}

#[test]
fn one_without_an_environment_has_the_processs_in_the_container_and_path_on_the_host() {
    let mut bundle = recording();
    bundle.config["process"]["env"] = json!(["PATH=/", "OF=nobody", "OF=the-process", "HOME="]);
    bundle.start();
    end(&bundle);
    for line in lines(&bundle) {
        let (hook, env) = (line["hook"].as_str().unwrap(), &line["seen"]["env"]);
        let runtimes_own = json!([format!("PATH={}", std::env::var("PATH").unwrap())]);
        match hook {
            "startContainer" => assert_eq!(*env, json!(["PATH=/", "OF=the-process", "HOME=/"])),
            // Other runtimes give them all of their own.
            _ => assert!(!ours() || *env == runtimes_own, "{hook}: {env}"),
        }
    }
}

#[test]
fn an_environment_without_home_is_left_alone_and_of_a_repeated_name_the_last_counts() {
    let mut bundle = recording();
    for kind in KINDS {
        bundle.config["hooks"][kind][0]["env"] = json!(["A=first", "B=b", "A=second"]);
    }
    bundle.start();
    end(&bundle);
    for line in lines(&bundle) {
        assert_eq!(line["seen"]["env"], json!(["B=b", "A=second"]), "{}", line["hook"]);
    }
}

#[test]
fn each_runs_in_the_namespaces_that_its_kind_has() {
    let bundle = recording();
    let init = bundle.start();
    let of_init = |file: &str| json!(fs::read_link(format!("/proc/{init}/ns/{file}")).unwrap());
    let expected = ["pid", "net", "ipc", "uts", "mnt"].map(|file| (file, of_init(file)));
    end(&bundle);
    for line in lines(&bundle) {
        let hook = line["hook"].as_str().unwrap().to_owned();
        for (file, of_init) in &expected {
            let own = json!(fs::read_link(format!("/proc/self/ns/{file}")).unwrap());
            let inside = matches!(hook.as_str(), "createContainer" | "startContainer");
            assert_eq!(line["seen"]["namespaces"][file], if inside { of_init.clone() } else { own }, "{hook}: {file}");
        }
    }
}

#[test]
fn create_container_hooks_find_the_root_mounted_and_the_hosts_tree_still_there() {
    let mut bundle = recording();
    let root = bundle.rootfs().display().to_string();
    // What it mounts into the root is there for the process: this is what such hooks are for.
    let script = format!(
        "test -e {root}/dev/null && mkdir -p {root}/made && mount -t tmpfs made {root}/made && touch {root}/made/here"
    );
    bundle.config["hooks"] = json!({ "createContainer": [shell(&script)] });
    bundle.probe(&["list", "/made"]);
    let seen = bundle.run().json();
    assert_eq!(seen["/made"], json!(["here"]));
    assert!(fs::read_dir(bundle.rootfs().join("made")).unwrap().next().is_none(), "it was mounted on the host");
}

/// It is what they make that root.readonly protects.
#[test]
fn create_container_hooks_can_still_write_to_a_read_only_root() {
    let mut bundle = recording();
    bundle.config["root"]["readonly"] = json!(true);
    let root = bundle.rootfs().display().to_string();
    bundle.config["hooks"] = json!({ "createContainer": [shell(&format!("touch {root}/made"))] });
    let seen = bundle.probe(&["write", "/made", "/other"]).seen();
    assert_eq!(seen, json!({ "/made": "EROFS", "/other": "EROFS" }));
    assert!(bundle.rootfs().join("made").exists());
}

#[test]
fn start_container_hooks_have_the_identity_of_the_process() {
    let mut bundle = recording();
    bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 34, "umask": 0o77 });
    bundle.config["process"]["capabilities"] = json!({});
    bundle.start();
    end(&bundle);
    let lines = lines(&bundle);
    let seen = &lines.iter().find(|line| line["hook"] == "startContainer").unwrap()["seen"];
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!([33, 33, 33]), &json!([34, 34, 34])));
    assert_eq!(seen["capabilities"]["effective"], json!([]));
    let cgroups = seen["cgroup"].as_array().unwrap();
    assert!(cgroups.iter().any(|line| line.as_str().unwrap().ends_with(&bundle.cgroup())), "{cgroups:?}");
}

#[test]
fn one_that_fails_before_the_process_runs_ends_the_container() {
    for kind in &KINDS[..4] {
        let mut bundle = recording();
        let mut failing = shell("echo it cannot be >&2; exit 3");
        if *kind == "startContainer" {
            failing = json!({ "path": "/probe", "args": ["probe", "no such action"] });
        }
        bundle.config["hooks"][kind].as_array_mut().unwrap().insert(0, failing);
        bundle.probe(&["write", "/out"]);
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{kind}");
        let words = if *kind == "startContainer" { "usage: probe" } else { "it cannot be" };
        says(&ran, &[&format!("/hooks/{kind}/0"), words]);
        let before = KINDS.iter().take_while(|name| *name != kind).copied();
        assert_eq!(names(&bundle), before.chain(["poststop"]).collect::<Vec<_>>(), "{kind}");
        assert!(!bundle.path().join("out/written-by-probe").exists(), "{kind}: the process ran");
        bundle.assert_nothing_left();
    }
}

#[test]
fn what_one_says_is_no_command_to_a_terminal() {
    let mut bundle = recording();
    bundle.config["hooks"]["createRuntime"] = json!([shell(r"printf 'a\033[2Jb\nc\rd\007e'; exit 3")]);
    let ran = bundle.run();
    says(&ran, &[r"status 3: a\u{1b}[2Jb; c\rd\u{7}e"]);
    assert!(!ours() || !ran.stderr.trim_end().contains(char::is_control), "{:?}", ran.stderr);
}

#[test]
fn one_that_fails_after_the_process_runs_ends_the_container() {
    if !ours() {
        // runc runs it before the process, up to 1.5.1.
        return;
    }
    let mut bundle = recording();
    bundle.config["hooks"]["poststart"][0] = shell("exit 3");
    bundle.create().success();
    let init = bundle::pidfd(bundle.pid()).unwrap();
    let started = bundle.call(&["start", bundle.id()]);
    assert_ne!(started.status, 0);
    says(&started, &["/hooks/poststart/0", "status 3"]);
    bundle::wait(&init);
    assert_ne!(bundle.call(&["state", bundle.id()]).status, 0);
    assert_eq!(names(&bundle), [&KINDS[..4], &["poststop"]].concat());
    bundle.assert_nothing_left();
}

#[test]
fn poststop_hooks_that_fail_keep_nobody() {
    if !ours() {
        // Others give up at the first, and answer the deletion with an error.
        return;
    }
    let mut bundle = recording();
    let hooks = bundle.config["hooks"]["poststop"].as_array_mut().unwrap();
    hooks.insert(0, shell("exit 1"));
    hooks.insert(1, json!({ "path": "/not/there" }));
    bundle.start();
    end(&bundle);
    assert_eq!(names(&bundle), KINDS);
}

#[test]
fn poststop_hooks_run_once_however_often_a_container_is_deleted() {
    let bundle = recording();
    bundle.start();
    end(&bundle);
    assert_ne!(bundle.call(&["delete", bundle.id()]).status, 0);
    bundle.call(&["delete", "--force", bundle.id()]).success();
    assert_eq!(names(&bundle).iter().filter(|name| *name == "poststop").count(), 1);
}

#[test]
fn past_its_time_it_is_killed_with_what_it_has_started() {
    let mut bundle = recording();
    let file = bundle.path().join("child");
    // Others kill the hook alone, and wait for whoever else holds its output.
    let with_child = format!("sleep 1000 & echo $! > {}; echo waiting; wait", file.display());
    let mut slow = shell(if ours() { &with_child } else { "exec sleep 1000" });
    slow["timeout"] = json!(1);
    bundle.config["hooks"]["createRuntime"][0] = slow;
    let start = Instant::now();
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(start.elapsed() < Duration::from_secs(30), "nobody stopped it");
    if ours() {
        says(&ran, &["/hooks/createRuntime/0: /bin/sh was killed, for it took longer than 1s: waiting"]);
        let child: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        // It may be reaped already.
        if let Ok(child) = bundle::pidfd(child) {
            bundle::wait(&child);
        }
    }
}

#[test]
fn within_its_time_it_is_let_be() {
    let mut bundle = recording();
    for kind in KINDS {
        bundle.config["hooks"][kind][0]["timeout"] = json!(60);
    }
    bundle.start();
    end(&bundle);
    assert_eq!(names(&bundle), all());
}

#[test]
fn one_that_says_much_or_leaves_somebody_behind_is_not_waited_for() {
    if !ours() {
        // runc waits until nobody holds the hook's output any more.
        return;
    }
    let mut bundle = recording();
    let file = bundle.path().join("child");
    let script = format!("head -c 3000000 /dev/zero; sleep 1000 & echo $! > {}", file.display());
    bundle.config["hooks"]["createRuntime"][0] = shell(&script);
    bundle.start();
    let child: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let daemon = bundle::pidfd(child).expect("a hook may leave a daemon behind");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
    bundle::wait(&daemon);
    end(&bundle);
}

#[test]
fn what_cannot_be_executed_is_named() {
    let mut bundle = recording();
    bundle.config["hooks"]["createRuntime"][0] = json!({ "path": "/not/there" });
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("/not/there"), "{}", ran.stderr);
    says(&ran, &["/hooks/createRuntime/0: /not/there: step", "ENOENT"]);
}

#[test]
fn a_container_can_be_killed_while_a_hook_hangs() {
    let mut bundle = recording();
    // In the container's pid namespace it would end with init by itself.
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    bundle.config["hooks"]["startContainer"][0] =
        json!({ "path": "/probe", "args": ["/probe", "write", "/out", "sleep"] });
    let hanging = json!({ "path": "/probe", "args": ["/probe", "sleep"] });
    bundle.config["hooks"]["startContainer"].as_array_mut().unwrap().push(hanging);
    bundle.create().success();
    let (pid, written) = (bundle.pid().to_string(), bundle.path().join("out/written-by-probe"));
    let mut start = bundle.command().args(["start", bundle.id()]).spawn().unwrap();
    assert!(test_bundles::wait_until(Duration::from_secs(20), || written.exists()), "no hook ran");
    if ours() {
        bundle.call(&["kill", bundle.id(), "KILL"]).success();
    } else {
        std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    }
    bundle.wait();
    if ours() {
        assert!(!start.wait().unwrap().success());
        bundle.call(&["delete", bundle.id()]).success();
        assert_eq!(names(&bundle).last().unwrap(), "poststop");
    } else {
        start.kill().unwrap();
        start.wait().unwrap();
    }
}

/// Nobody but what is on disk knows of the container any more.
#[test]
fn poststop_hooks_run_when_the_runtimes_own_process_has_died() {
    if !ours() {
        return;
    }
    let bundle = recording();
    let init = bundle::pidfd(bundle.start()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let ended = bundle::pidfd(keeper).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::Signal::SIGKILL).unwrap();
    bundle::wait(&ended);
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle::wait(&init);
    assert_eq!(names(&bundle), KINDS);
    let told = lines(&bundle).pop().unwrap()["told"].clone();
    assert_eq!((&told["status"], &told["id"]), (&json!("stopped"), &json!(bundle.id())));
}

/// A container whose hooks, one of each kind, write down what they are told and see.
fn recording() -> Bundle {
    let mut bundle = Bundle::new("hooks");
    let out = bundle.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(file(&bundle), "").unwrap();
    fs::set_permissions(file(&bundle), fs::Permissions::from_mode(0o666)).unwrap();
    let mount = json!({ "destination": "/out", "type": "bind", "source": out, "options": ["bind"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    for kind in KINDS {
        let (path, file) = match kind {
            "startContainer" => (PathBuf::from("/probe"), PathBuf::from("/out/lines")),
            _ => (bundle.rootfs().join("probe"), file(&bundle)),
        };
        bundle.config["hooks"][kind] = json!([{ "path": path, "args": ["probe", "hook", kind, file] }]);
    }
    bundle
}

fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] })
}

fn end(bundle: &Bundle) {
    if !ours() {
        // Others answer Start while startContainer hooks still run.
        let ran = || names(bundle).iter().any(|name| name == "startContainer");
        assert!(test_bundles::wait_until(Duration::from_secs(20), ran), "the startContainer hook has not run");
    }
    bundle.call(&["kill", bundle.id(), "KILL"]).success();
    bundle.wait();
    bundle.call(&["delete", bundle.id()]).success();
    bundle.assert_nothing_left();
}

fn file(bundle: &Bundle) -> PathBuf {
    bundle.path().join("out/lines")
}

fn lines(bundle: &Bundle) -> Vec<Value> {
    fs::read_to_string(file(bundle)).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Which hooks have run. Of other runtimes without poststart: runc has it run beside the rest.
fn names(bundle: &Bundle) -> Vec<String> {
    let names = lines(bundle).into_iter().map(|line| line["hook"].as_str().unwrap().to_owned());
    names.filter(|name| ours() || name != "poststart").collect()
}

/// What [`names`] gives in the end.
fn all() -> Vec<&'static str> {
    KINDS.into_iter().filter(|name| ours() || *name != "poststart").collect()
}

#[track_caller]
fn says(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(!ours() || ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}
