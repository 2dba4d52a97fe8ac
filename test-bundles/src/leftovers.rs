//! What a container can leave behind on the machine: processes, mounts, cgroups, sockets, and its bundle.
//!
//! Every test ends with [`of_container`] finding nothing; a daemon ends with [`sweep`], which also clears up after a test
//! that failed, so that one failure does not become ten.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::containerd::Containerd;
use crate::wait_until;

/// What is still there of container `id`, one line each; empty is what a test wants.
pub fn of_container(daemon: &Containerd, id: &str) -> Vec<String> {
    let cgroup = format!("/{}/{id}", daemon.namespace);
    let bundle = daemon.bundle(id);
    let mut found = Vec::new();
    for pid in processes_in_cgroup(&cgroup) {
        found.push(format!("process {pid} in cgroup {cgroup}: {}", command_line(pid)));
    }
    for pid in shims(daemon, id) {
        found.push(format!("shim {pid}: {}", command_line(pid)));
    }
    found.extend(mounts_below(&bundle).iter().map(|at| format!("mount {}", at.display())));
    found.extend(cgroup_dirs(&cgroup).iter().map(|dir| format!("cgroup {}", dir.display())));
    if bundle.exists() {
        found.push(format!("bundle {}", bundle.display()));
    }
    let socket = shim_socket(daemon, id);
    // The Go shim leaves its socket when it is killed, and some releases when it served a group: not for ours to excuse.
    let excused = crate::is_runc() && UnixStream::connect(&socket).is_err();
    if excused {
        let _ = fs::remove_file(&socket);
    } else if socket.exists() {
        found.push(format!("socket {}", socket.display()));
    }
    found
}

/// What is still there of all containers of `namespace` on the node in `dir`, one line each.
pub fn of_namespace(dir: &Path, namespace: &str) -> Vec<String> {
    let mut found = of_clients(&dir.join("containerd.sock"), &format!("/{namespace}"));
    found.extend(mounts_below(dir).iter().map(|at| format!("mount {}", at.display())));
    found
}

/// What is still there of every container of the daemon at `address`, whoever asked for it: shims, and what is below `cgroup`.
pub fn of_clients(address: &Path, cgroup: &str) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes_in_cgroup(cgroup) {
        found.push(format!("process {pid} in cgroup {cgroup}: {}", command_line(pid)));
    }
    for (pid, _) in servers(address) {
        found.push(format!("shim {pid}: {}", command_line(pid)));
    }
    for parent in cgroup_dirs(cgroup) {
        let below = fs::read_dir(&parent).into_iter().flatten().flatten();
        let dirs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(dirs.map(|dir| format!("cgroup {}", dir.path().display())));
    }
    found
}

/// The pids of the shim's server that was started for container `id`; one that came later to a group has none.
pub fn shims(daemon: &Containerd, id: &str) -> Vec<u32> {
    servers(&daemon.socket()).into_iter().filter(|(_, of)| of == id).map(|(pid, _)| pid).collect()
}

/// Every shim of the daemon at `address`: its pid and its `-id`.
fn servers(address: &Path) -> Vec<(u32, String)> {
    let of = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let args: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let value = |flag: &str| args.windows(2).find(|two| two[0] == flag).map(|two| two[1].clone().into_owned());
        (value("-address")? == address.to_string_lossy()).then_some((pid, value("-id")?))
    };
    all_processes().into_iter().filter_map(of).collect()
}

/// Where containerd's shims listen for group `group`: a hash of who asks and for what, in one directory.
pub fn shim_socket(daemon: &Containerd, group: &str) -> PathBuf {
    socket_path(&daemon.socket(), &daemon.namespace, group)
}

fn socket_path(daemon: &Path, namespace: &str, group: &str) -> PathBuf {
    let asked = format!("{}/{namespace}/{group}", daemon.display());
    Path::new("/run/containerd/s").join(crate::sha256_hex(asked.as_bytes()))
}

/// Ends and removes whatever belongs to the daemon in `dir`; returns what could not be removed.
pub fn sweep(dir: &Path, namespace: &str) -> Vec<String> {
    let address = dir.join("containerd.sock");
    let owned = || -> Vec<u32> {
        let shims = servers(&address);
        for (_, id) in &shims {
            let _ = fs::remove_file(socket_path(&address, namespace, id));
        }
        let cgroups = [format!("/{namespace}"), format!("/{}", slice(namespace))];
        let inside = cgroups.iter().flat_map(|cgroup| processes_in_cgroup(cgroup));
        shims.into_iter().map(|(pid, _)| pid).chain(inside).collect()
    };
    let gone = wait_until(Duration::from_secs(10), || {
        let pids = owned();
        for pid in &pids {
            signal(*pid, Signal::SIGKILL);
        }
        pids.is_empty()
    });
    let mut left = Vec::new();
    if !gone {
        left.extend(owned().iter().map(|pid| format!("process {pid} would not end: {}", command_line(*pid))));
    }
    // The deepest first, so that what lies below is never hidden.
    for at in mounts_below(dir).iter().rev() {
        if let Err(errno) = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH) {
            left.push(format!("umount {}: {errno}", at.display()));
        }
    }
    for cgroup in cgroup_dirs(&format!("/{namespace}")) {
        remove_cgroup(&cgroup, &mut left);
    }
    let slice = slice(namespace);
    if !cgroup_dirs(&format!("/{slice}")).is_empty()
        && let Err(error) = std::process::Command::new("systemctl").args(["stop", &slice]).status()
    {
        left.push(format!("systemctl stop {slice}: {error}"));
    }
    // runc keeps a directory per namespace.
    let _ = fs::remove_dir_all(Path::new("/run/containerd/runc").join(namespace));
    left
}

/// systemd's slice for a namespace; a dash would make it several.
pub(crate) fn slice(namespace: &str) -> String {
    format!("{}.slice", namespace.replace('-', "_"))
}

/// Sends a signal to a process that may have gone.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
    }
}

/// Whether a process runs: a zombie has ended.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// Processes whose cgroup, in any hierarchy, is `path` or below it.
pub fn processes_in_cgroup(path: &str) -> Vec<u32> {
    let below = format!("{path}/");
    let inside = |line: &str| {
        let at = line.splitn(3, ':').nth(2).unwrap_or_default();
        at == path || at.starts_with(&below)
    };
    let mut pids = all_processes();
    pids.retain(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().lines().any(inside) && is_running(*pid)
    });
    pids
}

/// Mount points at or below `dir`, in the order in which they were mounted.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|at| at.starts_with(dir))
        .collect()
}

/// The directories of cgroup `path` in every hierarchy that is mounted.
pub fn cgroup_dirs(path: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.len() > 2 && fields[2].starts_with("cgroup"))
        .map(|fields| PathBuf::from(format!("{}{path}", fields[1])))
        .filter(|dir| dir.is_dir())
        .collect()
}

fn remove_cgroup(dir: &Path, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path(), left);
        }
    }
    if let Err(error) = fs::remove_dir(dir) {
        left.push(format!("rmdir {}: {error}", dir.display()));
    }
}

fn all_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The arguments of a process, for a message.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
