//! What a hostile process would try. Each answers with what it came to see, or with the errno that stopped it.

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

/// Kills every process that it may.
pub(crate) fn kill_all() -> String {
    nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGKILL)
        .map_or_else(|errno| format!("{errno:?}"), |()| "ok".to_owned())
}
