//! `SCMP_ACT_NOTIFY` with `listenerPath` and `listenerMetadata` (runtime spec config-linux.md, "Seccomp"): an agent outside
//! the container decides on its system calls (seccomp_unotify(2)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;

use nix::libc;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

/// linux/seccomp.h `struct seccomp_notif`, with `struct seccomp_data` in its words.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

/// linux/seccomp.h `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `_SEND`: `_IOWR('!', 0, …)` and `_IOWR('!', 1, …)`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`
const CONTINUE: u32 = 1;

#[allow(unsafe_code)]
fn ioctl<T>(listener: &OwnedFd, request: libc::c_ulong, argument: &mut T) -> bool {
    // SAFETY: both requests read and write one structure, of the size that is part of their number.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, std::ptr::from_mut(argument)) == 0 }
}

/// An agent that answers mkdir(2) with ENOMEDIUM and lets the rest through, until the filter has no process left. Each
/// letter it is sent goes to the test.
struct Agent {
    path: PathBuf,
    letters: mpsc::Receiver<Value>,
    _directory: tempfile::TempDir,
}

impl Agent {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let socket = UnixListener::bind(&path).unwrap();
        let (sender, letters) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let (letter, listener) = receive(stream.unwrap());
                if sender.send(letter).is_err() {
                    return;
                }
                std::thread::spawn(move || answer(&listener));
            }
        });
        Self { path, letters, _directory: directory }
    }

    /// The next letter, which has been sent by now.
    fn letter(&self) -> Value {
        self.letters.recv_timeout(std::time::Duration::from_mins(1)).expect("the agent is told")
    }
}

/// Reads to the end: a runtime that left the connection open would never be done with. runc 1.1 is such a one (runc#4796),
/// and sends all at once.
fn receive(mut stream: UnixStream) -> (Value, OwnedFd) {
    let mut bytes = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length =
        recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files.collect::<Vec<_>>()),
        _ => None,
    });
    bytes.truncate(length);
    if ours() {
        stream.read_to_end(&mut bytes).unwrap();
    }
    let [listener] = files.unwrap().try_into().expect("one descriptor");
    (serde_json::from_slice(&bytes).unwrap(), listener)
}

fn answer(listener: &OwnedFd) {
    loop {
        let mut call = Notification::default();
        // ENOENT: nobody is left to be notified of.
        if !ioctl(listener, RECEIVE, &mut call) {
            return;
        }
        let refused = [libc::SYS_mkdir, libc::SYS_mkdirat].contains(&i64::from(call.number));
        let mut answer = Answer { id: call.id, value: 0, error: 0, flags: CONTINUE };
        if refused {
            (answer.error, answer.flags) = (-libc::ENOMEDIUM, 0);
        }
        // A process that was killed meanwhile needs no answer.
        ioctl(listener, SEND, &mut answer);
    }
}

/// A bundle whose calls `names` are for `agent` to decide.
fn bundle(agent: &Agent, names: &[&str]) -> Bundle {
    let mut bundle = Bundle::new("seccomp");
    bundle.config["annotations"] = json!({ "of": "the container" });
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": agent.path,
        "listenerMetadata": "for the agent",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }],
    });
    bundle
}

#[test]
fn an_agent_decides_and_is_told_of_whom() {
    let agent = Agent::new();
    let mut bundle = bundle(&agent, &["mkdir", "mkdirat"]);
    bundle.probe(&["syscall", "mkdir", "chmod"]);
    assert_eq!(bundle.seen(), json!({ "mkdir": "ENOMEDIUM", "chmod": "ok" }));
    let letter = agent.letter();
    let state = &letter["state"];
    assert_eq!(letter["fds"], json!(["seccompFd"]));
    assert_eq!(letter["metadata"], "for the agent");
    assert_eq!((&state["id"], &state["status"]), (&json!(bundle.id()), &json!("creating")));
    assert_eq!(state["bundle"], json!(bundle.path()));
    assert_eq!(state["annotations"]["of"], "the container");
    assert!(letter["pid"].as_i64().unwrap() > 1 && state["pid"] == letter["pid"], "{letter}");
    assert!(letter["ociVersion"].is_string() && state["ociVersion"].is_string(), "{letter}");
}

#[test]
fn each_exec_is_a_letter_of_its_own() {
    let agent = Agent::new();
    let mut bundle = bundle(&agent, &["mkdir", "mkdirat"]);
    bundle.probe(&["sleep"]);
    let init = bundle.start();
    assert_eq!(agent.letter()["pid"], init);
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "syscall", "mkdir"]);
    assert_eq!(bundle.exec(&process).json(), json!({ "mkdir": "ENOMEDIUM" }));
    let letter = agent.letter();
    assert_ne!(letter["pid"], init);
    // runc gives the state of an exec as being created, too.
    if ours() {
        assert_eq!((&letter["state"]["pid"], &letter["state"]["status"]), (&json!(init), &json!("running")));
    }
}

/// What the runtime itself needs on the way to execve may be the agent's to let through, with and without no_new_privs.
#[test]
fn what_leads_to_the_program_may_be_notified_of() {
    for privileges in [true, false] {
        let agent = Agent::new();
        let mut bundle = bundle(&agent, &["read", "execve", "capset", "prctl", "sendmsg", "close"]);
        bundle.config["process"]["noNewPrivileges"] = json!(privileges);
        bundle.probe(&["env", "HOME"]);
        assert_eq!(bundle.seen(), "/", "{privileges}");
    }
}

/// Nobody but the agent may hold the listener: else its end would leave callers waiting for ever.
#[test]
fn the_process_keeps_no_listener_of_its_own() {
    let agent = Agent::new();
    let bundle = bundle(&agent, &["mkdir"]);
    bundle.create().success();
    agent.letter();
    let files = std::fs::read_dir(format!("/proc/{}/fd", bundle.pid())).unwrap();
    let targets: Vec<_> = files.map(|file| std::fs::read_link(file.unwrap().path()).unwrap()).collect();
    assert!(!targets.iter().any(|target| target.to_string_lossy().contains("anon_inode:seccomp")), "{targets:?}");
}

#[test]
fn flags_of_a_listener() {
    if !ours() {
        println!("skipped: runc 1.1 does not know all of these flags");
        return;
    }
    let agent = Agent::new();
    let mut bundle = bundle(&agent, &["mkdir", "mkdirat"]);
    bundle.config["linux"]["seccomp"]["flags"] = json!([
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]);
    bundle.probe(&["syscall", "mkdir"]);
    assert_eq!(bundle.seen(), json!({ "mkdir": "ENOMEDIUM" }));
}

#[test]
fn without_an_agent_nothing_is_created() {
    let agent = Agent::new();
    let mut bundle = bundle(&agent, &["mkdir"]);
    let nowhere = bundle.path().join("nobody");
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!(nowhere);
    let ran = bundle.run();
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains(&format!("the seccomp agent at {}", nowhere.display())), "{}", ran.stderr);
}

/// A path without an action that needs it is ignored, as the spec says.
#[test]
fn who_notifies_nobody_needs_no_agent() {
    let agent = Agent::new();
    let mut bundle = bundle(&agent, &["mkdir"]);
    bundle.config["linux"]["seccomp"]["syscalls"][0]["action"] = json!("SCMP_ACT_ERRNO");
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!("/not/there");
    bundle.probe(&["syscall", "mkdir"]);
    assert_eq!(bundle.seen(), json!({ "mkdir": "EPERM" }));
}
