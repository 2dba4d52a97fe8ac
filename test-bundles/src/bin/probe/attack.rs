//! What a hostile process would try. Each answers with what it came to see, or with the errno that stopped it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, chdir, chroot};
use serde_json::{Map, Value, json};

use crate::act::{each, errno, list};

/// The way out of a bare chroot(2): a root further down, and then up from a working directory that is outside of it.
pub(crate) fn escape(paths: &[String]) -> Value {
    let out = || -> io::Result<()> {
        fs::create_dir("/trap")?;
        chroot("/trap")?;
        for _ in 0..64 {
            chdir("..")?;
        }
        Ok(chroot(".")?)
    };
    match out() {
        Ok(()) => each(paths, |path| list(path.as_ref())),
        Err(error) => json!(errno(&error)),
    }
}

/// Unmounts its root and enters what the mount namespace has below.
pub(crate) fn beneath(paths: &[String]) -> Value {
    let down = || -> io::Result<()> {
        let own = File::open("/proc/self/ns/mnt")?;
        umount2("/", MntFlags::MNT_DETACH)?;
        Ok(setns(own, CloneFlags::CLONE_NEWNS)?)
    };
    match down() {
        Ok(()) => each(paths, |path| list(path.as_ref())),
        Err(error) => json!(errno(&error)),
    }
}

/// Looks into every other process that it finds: where its program is and whether that could be opened, its memory, its
/// standard input.
pub(crate) fn spy() -> Value {
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids =
        pids.filter_map(|name| name.into_string().ok()).filter(|name| *name != own && name.parse::<u32>().is_ok());
    let look = |pid: String| {
        let said = |result: io::Result<String>| json!(result.unwrap_or_else(|error| errno(&error)));
        let opened = |file: &str| said(File::open(format!("/proc/{pid}/{file}")).map(|_| "opened".to_owned()));
        let found = json!({
            "exe": said(fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string())),
            "program": opened("exe"),
            "memory": opened("mem"),
            "descriptor": said(fs::read_link(format!("/proc/{pid}/fd/0")).map(|path| path.display().to_string())),
        });
        (pid, found)
    };
    Value::Object(pids.map(look).collect::<Map<_, _>>())
}

/// What no process that a container sees may have: the host's root (`host` is a path that only the host has) or mounts, a file
/// of the host's, a capability that is not in `allowed` (hexadecimal). Looks at each process that was not there at first, over
/// and over, as often as it is told, and counts.
pub(crate) fn watch(host: &str, allowed: &str, times: &str) -> Option<Value> {
    let (allowed, times) = (u64::from_str_radix(allowed, 16).ok()?, times.parse().ok()?);
    let known = pids();
    let (mut looks, mut root, mut mounts, mut files, mut rights) = (0_u32, 0_u32, 0_u32, 0_u32, 0_u32);
    fs::write("/ready", "").ok()?;
    while looks < times {
        for pid in pids().difference(&known) {
            let file = |name: &str| format!("/proc/{pid}/{name}");
            let Ok(status) = fs::read_to_string(file("status")) else { continue };
            let held = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
            let held = held.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())?;
            let table = fs::read_to_string(file("mountinfo")).unwrap_or_default();
            // The root of a file system, at the root of all: a container's is a directory of the host's.
            let is_hosts = |line: &str| line.split(' ').skip(3).take(2).eq(["/", "/"]);
            let held_files = fs::read_dir(file("fd")).into_iter().flatten().flatten();
            let is_stdio = |name: &OsStr| ["0", "1", "2"].iter().any(|number| name == *number);
            let others = held_files.filter(|entry| !is_stdio(&entry.file_name()));
            let mut links = others.filter_map(|entry| fs::read_link(entry.path()).ok());
            looks += 1;
            root += u32::from(fs::symlink_metadata(file("root") + host).is_ok());
            mounts += u32::from(table.lines().any(is_hosts));
            files += u32::from(links.any(|link| link.starts_with("/sys/fs/cgroup") || link.starts_with(host)));
            rights += u32::from(held & !allowed != 0);
        }
    }
    Some(json!({ "looks": looks, "root": root, "mounts": mounts, "files": files, "rights": rights }))
}

fn pids() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Kills every process that it may.
pub(crate) fn kill_all() -> String {
    nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGKILL)
        .map_or_else(|errno| format!("{errno:?}"), |()| "ok".to_owned())
}
