//! The host's cgroup files, of either version, for tests that read what the kernel says of a container.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the host has cgroup v2, and not v1 or both.
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Whether systemd is the init system.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// `first` on v1, `second` on v2.
pub fn either<T>(first: T, second: T) -> T {
    if is_v2() { second } else { first }
}

/// The directory of cgroup `path` in which `controller` has its files.
pub fn directory(controller: &str, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    either(Path::new(ROOT).join(controller), PathBuf::from(ROOT)).join(path)
}

/// Whether a line of /proc/PID/cgroup is of a hierarchy that is mounted where all are. Others may be mounted elsewhere, in another
/// mount namespace; no runtime sees those.
pub fn is_mounted(line: &str) -> bool {
    let controllers = line.split(':').nth(1).unwrap_or_default();
    let names = std::iter::once(controllers.trim_start_matches("name=")).chain(controllers.split(','));
    controllers.is_empty() || names.into_iter().any(|name| Path::new(ROOT).join(name).exists())
}

/// A file of cgroup `path`, as the kernel reports it; what stands before its first dot names the controller.
pub fn read(path: &str, file: &str) -> Result<String> {
    let file = directory(file.split('.').next().unwrap_or_default(), path).join(file);
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// Makes cgroup `path`, in which memory is limited to `bytes`; on v2 what lies above must have no process of its own.
pub fn limit_memory(path: &str, bytes: u32) -> Result<PathBuf> {
    let directory = directory("memory", path);
    let write = |file: &Path, value: &str| {
        std::fs::write(file, value).with_context(|| format!("write {value} to {}", file.display()))
    };
    if is_v2() {
        let mut above: Vec<_> = directory.ancestors().skip(1).take_while(|above| above.starts_with(ROOT)).collect();
        above.reverse();
        for above in above {
            std::fs::create_dir_all(above)?;
            write(&above.join("cgroup.subtree_control"), "+memory")?;
        }
    }
    std::fs::create_dir_all(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
    write(&directory.join(either("memory.limit_in_bytes", "memory.max")), &bytes.to_string())?;
    let swap = directory.join("memory.swap.max");
    if swap.exists() {
        write(&swap, "0")?;
    }
    Ok(directory)
}

/// Moves a process into the cgroup at `directory`, which is memory's on v1.
pub fn join(directory: &Path, pid: u32) -> Result<()> {
    let file = directory.join(either("tasks", "cgroup.procs"));
    std::fs::write(&file, pid.to_string()).with_context(|| format!("write {pid} to {}", file.display()))
}

/// Whole disk that `directory` is on, by its numbers.
pub fn disk_of(directory: &Path) -> Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(directory)?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let partition = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let disk = if partition.join("partition").exists() { partition.join("..") } else { partition };
    let numbers = std::fs::read_to_string(disk.join("dev")).context("which disk")?;
    let (major, minor) = numbers.trim().split_once(':').context("two numbers")?;
    Ok((major.parse()?, minor.parse()?))
}
