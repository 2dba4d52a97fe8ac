//! `process.terminal`: a console from the container's own devpts, its master sent to the caller (pty(7), unix(7)).

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, ours};

#[path = "terminal/foreground.rs"]
mod foreground;

#[test]
fn init_has_a_terminal_on_all_three() {
    let bundle = Bundle::new("terminal");
    let seen = seen(&start(&bundle));
    assert_eq!(seen["terminals"], json!([[31, 87], [31, 87], [31, 87]]));
    let terminal = &seen["fds"]["0"];
    assert_eq!(seen["fds"], json!({ "0": terminal, "1": terminal, "2": terminal }));
    assert!(terminal.as_str().unwrap().starts_with("/dev/pts/"), "{terminal}");
}

#[test]
fn dev_console_is_that_terminal() {
    let mut bundle = Bundle::new("terminal");
    bundle.probe(&["write", "/dev/console"]);
    let mut text = String::new();
    read_to_hangup(&start(&bundle), &mut text);
    assert!(text.starts_with("written\r\n"), "{text:?}");
}

#[test]
fn dev_console_may_be_a_link_of_the_images_to_nothing_yet() {
    // Others refuse any link there.
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new("terminal");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    std::fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    std::os::unix::fs::symlink("../run/made/console", bundle.rootfs().join("dev/console")).unwrap();
    bundle.probe(&["write", "/run/made/console"]);
    let mut text = String::new();
    read_to_hangup(&start(&bundle), &mut text);
    assert!(text.starts_with("written\r\n"), "{text:?}");
}

#[test]
fn it_is_the_controlling_terminal() {
    let mut bundle = Bundle::new("terminal");
    // Opening /dev/tty is refused with ENXIO to those who have none.
    bundle.probe(&["write", "/dev/tty"]);
    let mut text = String::new();
    read_to_hangup(&start(&bundle), &mut text);
    assert!(text.starts_with("written\r\n"), "{text:?}");
}

#[test]
fn a_new_size_reaches_the_process() {
    let mut bundle = Bundle::new("terminal");
    bundle.probe(&["tty-size"]);
    let console = create(&bundle);
    tcsetwinsize(&console, Winsize { ws_row: 11, ws_col: 22, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    bundle.call(&["start", bundle.id()]).success();
    assert_eq!(seen(&console), json!([11, 22]));
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    let mut bundle = Bundle::new("terminal");
    let of_init = start(bundle.probe(&["sleep"]));
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe"]);
    process["consoleSize"] = json!({ "height": 5, "width": 6 });
    let file = bundle.path().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let console = console(&bundle, |socket| {
        let file = file.to_str().unwrap();
        bundle.call(&["exec", "--detach", "--console-socket", socket, "--process", file, bundle.id()]).success();
    });
    let seen = seen(&console);
    assert_eq!(seen["terminals"][0], json!([5, 6]));
    assert_eq!(seen["sid"], seen["pid"]);
    assert_eq!(tcgetwinsize(&of_init).unwrap().ws_row, 31);
}

#[test]
fn in_a_user_namespace_the_terminal_is_the_users() {
    let mut bundle = Bundle::new("user_namespace");
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(200_000)).unwrap();
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 34 });
    bundle.probe(&["stat", "/dev/console", "/dev/pts/0"]);
    let seen = seen(&start(&bundle));
    for file in ["/dev/console", "/dev/pts/0"] {
        assert_eq!((&seen[file]["uid"], &seen[file]["gid"]), (&json!(33), &json!(5)), "{file}");
    }
}

#[test]
fn without_a_terminal_there_is_no_console() {
    let mut bundle = Bundle::new("terminal");
    bundle.config["process"]["terminal"] = json!(false);
    let seen = bundle.seen();
    assert_eq!(seen["terminals"], json!([null, null, null]));
    assert_eq!(seen["devices"]["/dev/console"], Value::Null);
}

#[test]
fn without_a_devpts_the_terminal_is_what_is_missing() {
    let mut bundle = Bundle::new("terminal");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    let ran = bundle.create_with(&["--console-socket", "/not/reached"]);
    assert_ne!(ran.status, 0);
    assert!(!ours() || ran.stderr.contains("open a terminal in /dev/pts"), "{}", ran.stderr);
    bundle.assert_nothing_left();
}

/// CVE-2025-52565: what the image has at /dev/console and /dev/pts decides nothing that matters.
#[test]
fn a_console_that_the_image_leads_astray() {
    let outside = tempfile::TempDir::new().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let with_image = |prepare: &dyn Fn(&std::path::Path)| {
        let mut bundle = Bundle::new("terminal");
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        std::fs::create_dir(bundle.rootfs().join("dev")).unwrap();
        prepare(&bundle.rootfs().join("dev"));
        bundle
    };
    // A link to a file of the host's, which is none in the root.
    let bundle = with_image(&|dev| std::os::unix::fs::symlink(&victim, dev.join("console")).unwrap());
    let ran = bundle.create_with(&["--console-socket", "/not/reached"]);
    assert_ne!(ran.status, 0);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    // A link to one of the image's own, which the terminal then covers.
    let mut bundle = with_image(&|dev| std::os::unix::fs::symlink("/inside", dev.join("console")).unwrap());
    let inside = bundle.rootfs().join("inside");
    std::fs::write(&inside, "untouched").unwrap();
    bundle.probe(&["write", "/dev/console"]);
    let mut text = String::new();
    read_to_hangup(&start(&bundle), &mut text);
    assert!(text.starts_with("written\r\n"), "{text:?}");
    // runc 1.1 truncates it.
    assert!(!ours() || std::fs::read_to_string(&inside).unwrap() == "untouched");
    // A link into procfs, where a mount would stand in for what is masked there.
    let bundle =
        with_image(&|dev| std::os::unix::fs::symlink("/proc/sys/kernel/domainname", dev.join("console")).unwrap());
    let ran = bundle.create_with(&["--console-socket", "/not/reached"]);
    assert_ne!(ran.status, 0);
    assert!(!ours() || (ran.stderr.contains("open a terminal") && ran.stderr.contains("EPERM")), "{}", ran.stderr);
    // A ptmx that is none: a file, and the right number outside of a devpts.
    for node in [false, true] {
        let mut bundle = with_image(&|dev| {
            std::fs::create_dir(dev.join("pts")).unwrap();
            let ptmx = dev.join("pts/ptmx");
            if node {
                let number = nix::sys::stat::makedev(5, 2);
                let mode = nix::sys::stat::Mode::S_IRWXU;
                nix::sys::stat::mknod(&ptmx, nix::sys::stat::SFlag::S_IFCHR, mode, number).unwrap();
            } else {
                std::fs::write(ptmx, "").unwrap();
            }
        });
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
        let ran = bundle.create_with(&["--console-socket", "/not/reached"]);
        assert_ne!(ran.status, 0, "{node}");
        assert!(!ours() || ran.stderr.contains("open a terminal in /dev/pts"), "{node}: {}", ran.stderr);
        bundle.assert_nothing_left();
    }
}

/// vhangup(2) asks for it.
fn may_hang_up(bundle: &mut Bundle) {
    for set in ["bounding", "effective", "permitted"] {
        let set = bundle.config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.push(json!("CAP_SYS_TTY_CONFIG"));
    }
}

/// Creates the container and gives its console's master.
fn create(bundle: &Bundle) -> OwnedFd {
    console(bundle, |socket| {
        bundle.create_with(&["--console-socket", socket]).success();
    })
}

fn start(bundle: &Bundle) -> OwnedFd {
    let console = create(bundle);
    bundle.call(&["start", bundle.id()]).success();
    console
}

/// Calls `connect` with the path of a socket, and takes from it the descriptor that must be sent there meanwhile.
fn console(bundle: &Bundle, connect: impl FnOnce(&str)) -> OwnedFd {
    let path = bundle.path().join("console.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    connect(path.to_str().unwrap());
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = listener.accept().expect("the runtime has connected to the console socket");
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    match ancillary.drain().next() {
        Some(RecvAncillaryMessage::ScmRights(mut fds)) => fds.next().expect("at least one descriptor"),
        _ => panic!("a message came without a descriptor"),
    }
}

/// Reads until the last process has let go of the terminal: the kernel says EIO then.
fn read_to_hangup(console: &OwnedFd, text: &mut String) {
    let mut bytes = Vec::new();
    let error = File::from(console.try_clone().unwrap()).read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
    *text = String::from_utf8(bytes).unwrap();
}

fn seen(console: &OwnedFd) -> Value {
    let mut text = String::new();
    read_to_hangup(console, &mut text);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}
