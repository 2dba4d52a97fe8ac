//! Known attacks on runtimes, tried: by the image, by a neighbour who changes what is being mounted, by what runs inside. What
//! they aim at is always a file or directory of the test's own, so that a runtime that fails harms nothing.
//!
//! Images made to lead a runtime astray by their mere content are in `hostile_image`.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_bundles::bundle::{Bundle, ours};

/// How long a race is run.
const RACE: Duration = Duration::from_secs(4);

/// And how many containers are started in it at the least, however slow the machine.
const LIVES: u32 = 10;

/// CVE-2021-30465, CVE-2024-45310: the mount point is exchanged for a link to the host between being looked at and used. In the
/// container, the link leads to nothing, so that what it leads to is made.
#[test]
fn a_mount_point_that_is_exchanged_for_a_link_meanwhile() {
    let victim = TempDir::new().unwrap();
    let volume = TempDir::new().unwrap();
    let source = TempDir::new().unwrap();
    fs::write(source.path().join("marker"), "").unwrap();
    let (point, link) = (volume.path().join("point"), volume.path().join("link"));
    fs::create_dir(&point).unwrap();
    symlink(victim.path(), &link).unwrap();
    let mut bundle = Bundle::new("mounts");
    add(
        &mut bundle,
        json!({ "destination": "/volume", "type": "bind", "source": volume.path(), "options": ["rbind"] }),
    );
    for (destination, from) in [("here", ""), ("there", ""), ("file", "marker")] {
        let (destination, from) = (format!("/volume/point/made/{destination}"), source.path().join(from));
        add(&mut bundle, json!({ "destination": destination, "type": "bind", "source": from, "options": ["bind"] }));
    }
    bundle.probe(&["list", "/volume/point/made/here"]);

    let (over, mut lives, mut mounted) = (AtomicBool::new(false), 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &point, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let start = Instant::now();
        while start.elapsed() < RACE || lives < LIVES {
            let ran = bundle.run();
            lives += 1;
            // Where the link was followed inside the root, the mount is somewhere else in there.
            mounted += i32::from(ran.status == 0 && ran.stdout.contains("marker"));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_empty(&victim);
    println!("{lives} lives in the race, {mounted} of them with the mount in its place");
}

/// CVE-2026-41579: devices are made where the image's /dev leads.
#[test]
fn devices_below_a_dev_that_leads_to_the_host() {
    let victim = TempDir::new().unwrap();
    for target in
        [victim.path().to_path_buf(), Path::new("../../../../../../..").join(victim.path().strip_prefix("/").unwrap())]
    {
        let mut bundle = without_dev("devices");
        symlink(&target, bundle.rootfs().join("dev")).unwrap();
        bundle.probe(&["list", "/dev/"]);
        bundle.run();
        assert_empty(&victim);
    }
}

/// CVE-2025-31133: what is mounted over masked files is no /dev/null.
#[test]
fn a_dev_null_that_is_something_else() {
    for kind in ["link", "file", "zero", "directory", "missing"] {
        let dev = TempDir::new().unwrap();
        let null = dev.path().join("null");
        fs::write(dev.path().join("shown"), "by the attacker").unwrap();
        match kind {
            "link" => symlink("shown", &null).unwrap(),
            "file" => fs::write(&null, "by the attacker").unwrap(),
            "zero" => mknod(&null, SFlag::S_IFCHR, Mode::from_bits_retain(0o666), makedev(1, 5)).unwrap(),
            "directory" => fs::create_dir(&null).unwrap(),
            _ => {}
        }
        let mut bundle = without_dev("paths");
        fs::write(bundle.rootfs().join("secret"), "hidden").unwrap();
        add(&mut bundle, json!({ "destination": "/dev", "type": "bind", "source": dev.path(), "options": ["rbind"] }));
        bundle.config["linux"]["maskedPaths"] = json!(["/secret"]);
        bundle.probe(&["read", "/secret"]);
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "{kind}: {}", ran.stdout);
        assert!(!ours() || ran.stderr.contains("mask /secret"), "{kind}: {}", ran.stderr);
    }
}

/// CVE-2025-52881, CVE-2019-19921: what the image has in place of procfs is not written to, and the setting takes effect.
#[test]
fn sysctls_are_not_written_where_the_image_leads_them() {
    let victim = TempDir::new().unwrap();
    let file = victim.path().join("file");
    fs::write(&file, "untouched").unwrap();
    for kind in ["file", "link"] {
        let mut bundle = Bundle::new("sysctl");
        let ipv4 = bundle.rootfs().join("proc/sys/net/ipv4");
        fs::create_dir_all(&ipv4).unwrap();
        let fake = ipv4.join("ip_forward");
        if kind == "file" {
            fs::write(&fake, "untouched").unwrap();
        } else {
            symlink(&file, &fake).unwrap();
        }
        bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/proc");
        mounts.push(json!({ "destination": "/elsewhere", "type": "proc", "source": "proc" }));
        bundle.probe(&["read", "/elsewhere/sys/net/ipv4/ip_forward"]);
        let ran = bundle.run();
        // Without a /proc a runtime may refuse; it must not write.
        if ours() {
            assert_eq!(ran.json()["/elsewhere/sys/net/ipv4/ip_forward"], "1\n", "{kind}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "untouched", "{kind}");
        assert!(kind == "link" || fs::read_to_string(&fake).unwrap() == "untouched", "{kind}");
    }
}

/// CVE-2024-21626: a working directory by way of a descriptor that the runtime left open.
#[test]
fn a_working_directory_outside_by_a_descriptor() {
    let mut bundle = Bundle::new("process");
    let init: Vec<_> = (3..20).map(|number| format!("/proc/self/fd/{number}")).collect();
    for path in &init {
        bundle.config["process"]["cwd"] = json!(path);
        let ran = bundle.probe(&["list", "../../../../.."]).run();
        assert_ne!(ran.status, 0, "{path}: {}", ran.stdout);
    }
    for (number, path) in init.iter().enumerate() {
        symlink(path, bundle.rootfs().join(number.to_string())).unwrap();
    }
    bundle.config["process"]["cwd"] = json!("/");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "list", "../../../../.."]);
    for cwd in init.iter().cloned().chain((0..init.len()).map(|number| format!("/{number}"))) {
        process["cwd"] = json!(cwd);
        let ran = bundle.exec(&process);
        assert_ne!(ran.status, 0, "exec in {cwd}: {}", ran.stdout);
    }
}

/// CVE-2019-5736, CVE-2016-9962: what waits for its start inside is still the runtime, which nobody there may look into:
/// neither its program, to write over it, nor its memory and files.
#[test]
fn an_init_that_waits_cannot_be_looked_into() {
    let mut neighbour = Bundle::new("lifecycle");
    let pid = neighbour.probe(&["sleep"]).start();
    let mut waiting = Bundle::new("lifecycle");
    waiting.probe(&["sleep"]);
    for namespace in waiting.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    }
    waiting.create().success();
    let mut process = neighbour.config["process"].clone();
    process["args"] = json!(["/probe", "spy"]);
    let seen = neighbour.exec(&process).json();
    let others: Vec<_> = seen.as_object().unwrap().iter().filter(|(pid, _)| *pid != "1").collect();
    assert!(!others.is_empty(), "{seen}");
    for (pid, found) in others {
        for what in ["exe", "program", "memory", "descriptor"] {
            assert!(["EACCES", "EPERM"].contains(&found[what].as_str().unwrap()), "pid {pid}: {found}");
        }
    }
    // Once it runs its program it is as open as any.
    waiting.call(&["start", waiting.id()]).success();
    let seen = neighbour.exec(&process).json();
    assert!(seen.as_object().unwrap().values().all(|found| found["exe"] == "/probe"), "{seen}");
}

#[test]
fn who_kills_everybody_kills_nobody_outside() {
    let mut bundle = Bundle::new("lifecycle");
    bundle.probe(&["sleep"]).start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "kill-all"]);
    for _ in 0..3 {
        bundle.exec(&process);
        assert_eq!(bundle.state()["status"], "running");
    }
}

#[test]
fn there_is_no_way_out_of_the_root() {
    for flags in [&[][..], &["--no-pivot"]] {
        let mut bundle = Bundle::new("mounts");
        fs::write(bundle.rootfs().join("inside"), "").unwrap();
        privileged(&mut bundle);
        bundle.probe(&["escape", "/"]);
        let seen = bundle.seen_with(flags);
        let names: Vec<_> = seen["/"].as_array().unwrap_or_else(|| panic!("{seen}")).clone();
        assert!(names.contains(&json!("inside")) && names.contains(&json!("trap")), "{flags:?}: {names:?}");
    }
}

/// After a move of the root, other than after a pivot, there is something below it: the host's first mount, but nothing of
/// what was mounted there.
#[test]
fn below_a_moved_root_nothing_is_mounted() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new("mounts");
    privileged(&mut bundle);
    bundle.probe(&["beneath", "/proc", "/sys", "/dev/pts"]);
    assert_eq!(bundle.seen_with(&["--no-pivot"]), json!({ "/proc": [], "/sys": [], "/dev/pts": [] }));
}

fn privileged(bundle: &mut Bundle) {
    for set in ["bounding", "effective", "permitted"] {
        let list = bundle.config["process"]["capabilities"][set].as_array_mut().unwrap();
        list.extend([json!("CAP_SYS_ADMIN"), json!("CAP_SYS_PTRACE")]);
    }
}

/// The bundle of `subject` with the image's own /dev.
fn without_dev(subject: &str) -> Bundle {
    let mut bundle = Bundle::new(subject);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle
}

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn assert_empty(victim: &TempDir) {
    let found: Vec<_> = fs::read_dir(victim.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(found.is_empty(), "made outside the root: {found:?}");
}
