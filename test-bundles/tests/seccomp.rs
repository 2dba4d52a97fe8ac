//! `linux.seccomp` (seccomp(2)): actions, errnos and conditions on arguments.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

/// The mode of /proc/PID/status in which a filter is at work.
const FILTER: u32 = 2;

#[test]
fn a_filter_is_at_work_only_where_it_is_asked_for() {
    let mut bundle = Bundle::new("seccomp");
    assert_eq!(bundle.seen()["seccomp"], FILTER);
    bundle.config["linux"].as_object_mut().unwrap().remove("seccomp");
    assert_eq!(bundle.seen()["seccomp"], 0);
}

#[test]
fn an_errno_is_eperm_or_the_one_given() {
    let answers = attempt(&mut Bundle::new("seccomp"), &["mkdir", "chmod"]);
    assert_eq!(answers, json!({ "mkdir": "EPERM", "chmod": "EOPNOTSUPP" }));
}

#[test]
fn conditions_choose_by_argument() {
    let mut bundle = Bundle::new("seccomp");
    let answers = attempt(&mut bundle, &["socket-inet6", "socket-inet", "unshare-uts", "unshare-files"]);
    assert_eq!(
        answers,
        json!({ "socket-inet6": "EAFNOSUPPORT", "socket-inet": "ok", "unshare-uts": "EACCES", "unshare-files": "ok" })
    );
}

#[test]
fn comparisons() {
    // socket(2)'s families: unix 1, inet 2, inet6 10.
    for (operator, value, refused) in [
        ("SCMP_CMP_NE", 2, ["socket-unix", "socket-inet6"].as_slice()),
        ("SCMP_CMP_LT", 2, &["socket-unix"]),
        ("SCMP_CMP_LE", 2, &["socket-unix", "socket-inet"]),
        ("SCMP_CMP_GE", 2, &["socket-inet", "socket-inet6"]),
        ("SCMP_CMP_GT", 2, &["socket-inet6"]),
    ] {
        let mut bundle = Bundle::new("seccomp");
        bundle.config["linux"]["seccomp"]["syscalls"] = json!([
            { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": value, "op": operator }] },
        ]);
        let answers = attempt(&mut bundle, &["socket-unix", "socket-inet", "socket-inet6"]);
        for (name, answer) in answers.as_object().unwrap() {
            assert_eq!(answer == "EPERM", refused.contains(&name.as_str()), "{operator} {value}: {name} {answer}");
        }
    }
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let mut bundle = Bundle::new("seccomp");
    let rule = |second: u32| {
        json!([{ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
            { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" },
            { "index": 2, "value": second, "op": "SCMP_CMP_EQ" },
        ] }])
    };
    for (protocol, answer) in [(0, "EPERM"), (17, "ok")] {
        bundle.config["linux"]["seccomp"]["syscalls"] = rule(protocol);
        assert_eq!(attempt(&mut bundle, &["socket-inet"]), json!({ "socket-inet": answer }), "{protocol}");
    }
}

#[test]
fn a_process_is_killed_by_sigsys() {
    let mut bundle = Bundle::new("seccomp");
    bundle.probe(&["syscall", "chroot"]);
    assert_eq!(bundle.run().status, 128 + 31);
}

#[test]
fn an_exec_is_filtered_too() {
    let mut bundle = Bundle::new("seccomp");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "syscall", "mkdir"]);
    assert_eq!(bundle.exec(&process).json(), json!({ "mkdir": "EPERM" }));
}

#[test]
fn without_no_new_privileges_too() {
    let mut bundle = Bundle::new("seccomp");
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.probe(&[]);
    let seen = bundle.seen();
    assert_eq!((&seen["seccomp"], &seen["no_new_privileges"]), (&json!(FILTER), &json!(false)));
}

#[test]
fn a_profile_need_not_know_how_we_talk() {
    // Profiles are recorded from what other runtimes do: they may allow no more than write and read to get to execve.
    for privileges in [true, false] {
        let mut bundle = Bundle::new("seccomp");
        bundle.config["process"]["noNewPrivileges"] = json!(privileges);
        bundle.config["linux"]["seccomp"]["syscalls"] = json!([
            { "names": ["sendmsg", "recvmsg", "sendto", "recvfrom"], "action": "SCMP_ACT_KILL_PROCESS" },
        ]);
        bundle.probe(&["env", "HOME"]);
        assert_eq!(bundle.seen(), "/");
        bundle.config["process"]["args"] = json!(["/not-a-program"]);
        let file = bundle.rootfs().join("not-a-program");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let ran = bundle.run();
        assert!(ran.status != 0 && ran.stderr.contains("not-a-program"), "{}", ran.stderr);
    }
}

#[test]
fn a_profile_that_forbids_what_leads_to_the_program_is_said_to() {
    let mut bundle = Bundle::new("seccomp");
    bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS" });
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains("seccomp"), "{}", ran.stderr);
}

/// Nothing between the filter and the program relies on a call being allowed: Create or Start fails in words, and nothing is left.
#[test]
fn a_profile_that_refuses_our_own_last_steps_is_named_with_the_call() {
    let refused = |names: &[&str]| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO" }] });
    for (profile, told) in [
        // Kubernetes' own tutorial has this one.
        (json!({ "defaultAction": "SCMP_ACT_ERRNO" }), "read"),
        (json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0 }), "write"),
        (refused(&["read"]), "read"),
        (refused(&["write"]), "write"),
        (refused(&["write", "exit_group"]), "write"),
        (refused(&["execve"]), "execve"),
        (refused(&["execve", "exit_group"]), "execve"),
        (refused(&["execve", "exit_group", "write"]), "write"),
        (refused(&["execve", "exit_group", "exit"]), "execve"),
    ] {
        let mut bundle = Bundle::new("seccomp");
        bundle.config["linux"]["seccomp"] = profile.clone();
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{profile}");
        assert!(!ours() || ran.stderr.contains(told), "{profile}: {}", ran.stderr);
    }
}

/// Without no_new_privs the filter comes before the process gives up its rights.
#[test]
fn a_profile_that_refuses_to_give_up_rights_is_named_with_the_call() {
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let mut bundle = Bundle::new("seccomp");
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["capset"], "action": action }],
        });
        let ran = bundle.run();
        assert_ne!(ran.status, 0);
        assert!(!ours() || ran.stderr.contains("capset"), "{action}: {}", ran.stderr);
    }
}

#[test]
fn an_exec_that_cannot_even_end_is_ended() {
    let mut bundle = Bundle::new("seccomp");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["capset", "exit_group", "exit"], "action": "SCMP_ACT_ERRNO" }],
    });
    // Init has given up its rights before the filter is loaded, the exec has not.
    bundle.probe(&["sleep"]).start();
    let process = json!({ "args": ["/probe"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": false });
    let ran = bundle.exec(&process);
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains("capset"), "{}", ran.stderr);
    assert_eq!(bundle.state()["status"], "running");
}

/// As runc has it: a C library goes on to an older call after ENOSYS, and gives up after EPERM.
#[test]
fn a_call_newer_than_the_profile_does_not_exist() {
    let mut bundle = Bundle::new("seccomp");
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{ "names": NEEDED, "action": "SCMP_ACT_ALLOW" }],
    });
    bundle.config["linux"]["seccomp"] = profile.clone();
    let newer = json!({ "openat2": "ENOSYS", "mkdir": "EPERM" });
    assert_eq!(attempt(&mut bundle, &["openat2", "mkdir"]), newer, "statx is the newest that is known");
    // A newer one that is mentioned makes all older ones known.
    profile["syscalls"].as_array_mut().unwrap().push(json!({ "names": ["faccessat2"], "action": "SCMP_ACT_ALLOW" }));
    bundle.config["linux"]["seccomp"] = profile.clone();
    assert_eq!(attempt(&mut bundle, &["openat2", "mkdir"]), json!({ "openat2": "EPERM", "mkdir": "EPERM" }));
    profile["syscalls"][1]["names"] = json!(["openat2"]);
    bundle.config["linux"]["seccomp"] = profile;
    assert_eq!(attempt(&mut bundle, &["openat2"]), json!({ "openat2": "ok" }));
}

/// A list of what is forbidden must know every call of the kernel's: what it names is forbidden, however new.
#[test]
fn a_call_that_is_denied_by_name_is_denied_however_new() {
    let newer = ["statmount", "listmount", "lsm_get_self_attr", "mseal", "setxattrat", "open_tree_attr"];
    let mut bundle = Bundle::new("seccomp");
    let profile = |names: &[&str]| {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO" }],
        })
    };
    bundle.config["linux"]["seccomp"] = profile(&["mkdir"]);
    let allowed = attempt(&mut bundle, &newer);
    bundle.config["linux"]["seccomp"] = profile(&newer);
    let denied = attempt(&mut bundle, &newer);
    for name in newer {
        assert_ne!(allowed[name], "EPERM", "{name}");
        // The peer's libseccomp may not know it.
        assert!(!ours() || denied[name] == "EPERM", "{name}: {}", denied[name]);
    }
}

/// Whoever wrote it must learn that it does nothing, and each time: the second one finds the compiled profile.
#[test]
fn a_denied_call_that_nobody_knows_is_left_out_with_a_warning() {
    let mut bundle = Bundle::new("seccomp");
    bundle.probe(&["syscall", "mkdir"]);
    let mut run = |default: &str, action: &str| {
        let rule = json!({ "names": ["mkdir", "call_of_2040"], "action": action });
        bundle.config["linux"]["seccomp"] = json!({ "defaultAction": default, "syscalls": [rule] });
        bundle.seen_and_logged(bundle.command())
    };
    for _ in 0..2 {
        let (seen, warnings) = run("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
        assert_eq!(seen, json!({ "mkdir": "EPERM" }));
        assert!(!ours() || warnings.contains("call_of_2040"), "{warnings}");
    }
    // What is allowed by name is forbidden without it: there is nothing to warn of.
    let (seen, warnings) = run("SCMP_ACT_LOG", "SCMP_ACT_ALLOW");
    assert_eq!((seen, warnings.as_str()), (json!({ "mkdir": "ok" }), ""));
}

/// What a static program and the runtimes need, none newer than statx(2), and mkdir not among it.
const NEEDED: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "clone",
    "close",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit",
    "exit_group",
    "faccessat",
    "fchdir",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "getrandom",
    "getrlimit",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "lstat",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "seccomp",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "stat",
    "statx",
    "tgkill",
    "umask",
    "uname",
    "write",
    "writev",
];

fn attempt(bundle: &mut Bundle, names: &[&str]) -> Value {
    bundle.probe(&[&["syscall"], names].concat()).seen()
}
