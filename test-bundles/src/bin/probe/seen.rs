//! The document: all that a process can see of the container around it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use caps::CapSet;
use nix::sys::stat::{self, Mode};
use rustix::process::{Resource, getrlimit};
use serde_json::{Map, Value, json};

use crate::procfs::{self, Status};
use crate::terminal::size;

/// One JSON object; what comes from /proc is null where that is missing.
pub(crate) fn document() -> Value {
    let status = Status::read();
    let uname = rustix::system::uname();
    json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars_os().map(|(k, v)| format!("{}={}", k.display(), v.display())).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().ok(),
        "uid": nix::unistd::getresuid().ok().map(|id| [id.real.as_raw(), id.effective.as_raw(), id.saved.as_raw()]),
        "gid": nix::unistd::getresgid().ok().map(|id| [id.real.as_raw(), id.effective.as_raw(), id.saved.as_raw()]),
        "groups": groups(),
        "umask": umask(),
        "capabilities": capabilities(),
        "no_new_privileges": nix::sys::prctl::get_no_new_privs().ok(),
        "seccomp": status.number("Seccomp"),
        "dumpable": nix::sys::prctl::get_dumpable().ok(),
        "rlimits": rlimits(),
        "keyring": crate::keyring::session(),
        "scheduling": procfs::scheduling(),
        "io_priority": io_priority(),
        "personality": procfs::text("/proc/self/personality"),
        "cpus": status.text("Cpus_allowed_list"),
        "memory_policy": procfs::memory_policy(),
        "label": procfs::text("/proc/self/attr/current"),
        "oom_score_adj": procfs::number("/proc/self/oom_score_adj"),
        "hostname": uname.nodename().to_string_lossy(),
        "domainname": uname.domainname().to_string_lossy(),
        "namespaces": procfs::links("/proc/self/ns"),
        "uid_map": procfs::numbers("/proc/self/uid_map"),
        "gid_map": procfs::numbers("/proc/self/gid_map"),
        "setgroups": procfs::lines("/proc/self/setgroups"),
        "clocks": clocks(),
        "pid": std::process::id(),
        "ppid": nix::unistd::getppid().as_raw(),
        "sid": nix::unistd::getsid(None).ok().map(nix::unistd::Pid::as_raw),
        "pgid": nix::unistd::getpgrp().as_raw(),
        "terminals": [size(std::io::stdin()), size(std::io::stdout()), size(std::io::stderr())],
        "fds": procfs::links("/proc/self/fd"),
        "signals": {
            "blocked": status.signals("SigBlk"),
            "ignored": status.signals("SigIgn"),
            "pending": [status.signals("SigPnd"), status.signals("ShdPnd")],
        },
        "cgroup": procfs::lines("/proc/self/cgroup"),
        "mounts": procfs::mounts(),
        "devices": devices(),
    })
}

/// Seconds of the clocks that a time namespace may set off, and the offsets themselves.
fn clocks() -> Value {
    let seconds = |id| rustix::time::clock_gettime(id).tv_sec;
    json!({
        "monotonic": seconds(rustix::time::ClockId::Monotonic),
        "boottime": seconds(rustix::time::ClockId::Boottime),
        "offsets": procfs::numbers("/proc/self/timens_offsets"),
    })
}

/// Type, mode, owner and what else there is to say of a file, not following a symbolic link.
pub(crate) fn file(path: &Path) -> std::io::Result<Value> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let letter = match () {
        () if kind.is_symlink() => "l",
        () if kind.is_dir() => "d",
        () if kind.is_char_device() => "c",
        () if kind.is_block_device() => "b",
        () if kind.is_fifo() => "p",
        () if kind.is_socket() => "s",
        () => "f",
    };
    let device = (letter == "c" || letter == "b").then(|| [stat::major(metadata.rdev()), stat::minor(metadata.rdev())]);
    Ok(json!({
        "type": letter,
        "mode": metadata.mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
        "device": device,
        "target": fs::read_link(path).ok(),
    }))
}

/// The supplementary groups in ascending order.
fn groups() -> Value {
    let groups = nix::unistd::getgroups().ok().map(|groups| {
        let mut groups: Vec<u32> = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        groups.sort_unstable();
        groups
    });
    json!(groups)
}

fn umask() -> u32 {
    // The kernel tells the mask only in exchange for another; we are the only thread.
    let mask = stat::umask(Mode::empty());
    stat::umask(mask);
    mask.bits()
}

/// Class and level, as ioprio_get(2) has them.
fn io_priority() -> Value {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: takes numbers.
    #[allow(unsafe_code)]
    let priority = unsafe { nix::libc::syscall(nix::libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
    json!([priority >> 13, priority & 0x1fff])
}

/// The five sets as sorted `CAP_*` names.
fn capabilities() -> Value {
    let names = |set| {
        let mut names: Vec<String> = caps::read(None, set).ok()?.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        Some(names)
    };
    json!({
        "bounding": names(CapSet::Bounding),
        "effective": names(CapSet::Effective),
        "inheritable": names(CapSet::Inheritable),
        "permitted": names(CapSet::Permitted),
        "ambient": names(CapSet::Ambient),
    })
}

/// Soft and hard limit by the spec's name; infinity is 2^64 - 1.
fn rlimits() -> Value {
    const ALL: [(&str, Resource); 16] = [
        ("RLIMIT_AS", Resource::As),
        ("RLIMIT_CORE", Resource::Core),
        ("RLIMIT_CPU", Resource::Cpu),
        ("RLIMIT_DATA", Resource::Data),
        ("RLIMIT_FSIZE", Resource::Fsize),
        ("RLIMIT_LOCKS", Resource::Locks),
        ("RLIMIT_MEMLOCK", Resource::Memlock),
        ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
        ("RLIMIT_NICE", Resource::Nice),
        ("RLIMIT_NOFILE", Resource::Nofile),
        ("RLIMIT_NPROC", Resource::Nproc),
        ("RLIMIT_RSS", Resource::Rss),
        ("RLIMIT_RTPRIO", Resource::Rtprio),
        ("RLIMIT_RTTIME", Resource::Rttime),
        ("RLIMIT_SIGPENDING", Resource::Sigpending),
        ("RLIMIT_STACK", Resource::Stack),
    ];
    let limit = |(name, resource): (&str, Resource)| {
        let limit = getrlimit(resource);
        (name.to_owned(), json!([limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX)]))
    };
    Value::Object(ALL.into_iter().map(limit).collect::<Map<_, _>>())
}

/// The entries of /dev by path.
fn devices() -> Value {
    let Ok(entries) = fs::read_dir("/dev") else { return Value::Null };
    let entry = |path: std::path::PathBuf| Some((path.to_string_lossy().into_owned(), file(&path).ok()?));
    Value::Object(entries.flatten().filter_map(|e| entry(e.path())).collect::<Map<_, _>>())
}
