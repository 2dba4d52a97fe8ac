//! The container's cgroup: two small axes and no trait (D7). `Driver` decides who makes the directory, `Version` which
//! files it has.
//!
//! Called by `container`. Limits are written before any process joins; processes join by themselves ([`Placement`]), for a
//! pid that another process writes to `cgroup.procs` makes all forks of the host wait.
//!
//! ```text
//!             controllers            children come in by            all are killed by
//! v1          one hierarchy each     "0" into `tasks`               freeze, signal, thaw
//! hybrid      as v1, and a cgroup2   both                           cgroup.kill, then as v1
//!             without controllers
//! v2          one hierarchy,         CLONE_INTO_CGROUP              cgroup.kill
//!             devices by BPF
//! ```

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use config::container::CgroupPath;
use config::resources::{DeviceRule, Limit, Rdma, Resources};
use nix::errno::Errno;
use nix::libc::SIGKILL;
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Kind, Result};
pub(crate) use delegate::is_delegated;
use host::{Host, Mounted, Version};
pub use join::join;
use oom::OomWatch;
use stats::Stats;
use write::Write;

#[allow(unsafe_code)] // one system call, whose requests point to our own memory
mod bpf;
mod delegate;
mod device_filter;
mod devices;
mod events;
mod freezer;
mod host;
mod join;
pub mod oom;
mod path;
mod processes;
mod remove;
pub mod stats;
pub(crate) mod systemd;
mod update;
mod v1;
mod v2;
mod write;

/// A container's cgroup: one directory on v2, one per hierarchy on v1 (hybrid counts as v1).
#[derive(Debug)]
pub struct Cgroup {
    /// Absolute host paths, one per hierarchy.
    directories: Vec<PathBuf>,
    /// The unit that it is, where systemd has made it.
    unit: Option<systemd::Unit>,
}

/// Who makes the directories.
#[derive(Debug, Clone, Copy)]
pub enum Driver<'a> {
    /// We do.
    Cgroupfs,
    /// systemd does, as a unit that has the properties which these annotations name.
    Systemd(&'a [(String, String)]),
}

impl<'a> Driver<'a> {
    /// The driver for `path`: systemd where it is `asked` for, or where it is running and the form of the path,
    /// `slice:prefix:name`, names a unit of its.
    pub fn choose(asked: bool, path: &CgroupPath, annotations: &'a [(String, String)]) -> Self {
        let named = || matches!(path, CgroupPath::Systemd { .. }) && systemd::is_running();
        if asked || named() { Self::Systemd(annotations) } else { Self::Cgroupfs }
    }
}

/// How a new process gets into the cgroup. A hybrid host has both: its cgroup2 has no file by which a process could join on its
/// own without the global lock, and being in it is what makes `cgroup.kill` reach the process.
#[derive(Debug, Default)]
pub struct Placement {
    /// v1: the child writes `0` to each of these files itself; no global lock is taken that way.
    pub tasks: Vec<OwnedFd>,
    /// The directories of [`Placement::tasks`], in the same order.
    pub directories: Vec<PathBuf>,
    /// v2: clone3 with `CLONE_INTO_CGROUP` on this directory.
    pub unified: Option<OwnedFd>,
}

/// A bind that makes up the cgroup mount inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Name below /sys/fs/cgroup in the container (`memory`, `cpu,cpuacct`, `systemd`); empty on v2.
    pub name: String,
    /// The container's own directory in it on the host.
    pub host: PathBuf,
    /// Further names that are symbolic links to it (`cpu`, `cpuacct`).
    pub links: Vec<String>,
}

impl Cgroup {
    /// Makes the cgroup at `path` and sets `resources`. On error nothing that was made is left.
    ///
    /// Kind `Exists` where there is such a cgroup with processes in it, `Precondition` where it would be frozen, `Unimplemented` where systemd is asked for and not
    /// running, and for a resource that this host has no file for, `System` with file, value and reason for a value that the
    /// kernel refuses, and for a systemd that does not answer.
    pub async fn create(path: &CgroupPath, resources: &Resources, driver: Driver<'_>) -> Result<Self> {
        let host = Host::get()?;
        let writes = match host.version {
            Version::V1 => v1::writes(resources)?,
            Version::V2 => v2::writes(resources)?,
        };
        if let Driver::Systemd(annotations) = driver {
            return Self::create_unit(host, path, resources, writes, annotations).await;
        }
        let cgroup = Self::locate(path, driver)?;
        cgroup.refuse_frozen()?;
        let mut made = Vec::new();
        let devices = resources.devices.as_deref().unwrap_or_default();
        match cgroup.make(host, &writes, devices, &mut made) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                for directory in made.iter().rev() {
                    if let Err(error) = std::fs::remove_dir(directory) {
                        log::warn!("{}", Error::io(format_args!("rmdir {}", directory.display()), &error));
                    }
                }
                Err(error.context(cgroup.name()))
            }
        }
    }

    /// Where the cgroup at `path` lies or would lie, without making it. Kind `Unimplemented` where systemd would have to make it
    /// and is not running.
    pub fn locate(path: &CgroupPath, driver: Driver<'_>) -> Result<Self> {
        let host = Host::get()?;
        match driver {
            Driver::Cgroupfs => Ok(Self { directories: path::directories(host, path)?, unit: None }),
            Driver::Systemd(_) => {
                let (_, name, directories) = systemd::locate(host, path)?;
                Ok(Self { directories, unit: Some(systemd::Unit::named(name)) })
            }
        }
    }

    /// Finds an existing cgroup again, from [`Cgroup::directories`] and [`Cgroup::unit`] of an earlier life.
    pub fn open(directories: Vec<PathBuf>, unit: Option<String>) -> Self {
        Self { directories, unit: unit.map(systemd::Unit::named) }
    }

    /// The name of the unit that it is, to be recorded.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_ref().map(|unit| unit.name.as_str())
    }

    /// The directories, to be recorded.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// To be called when init stands alone in it. Ends the process that kept a unit alive until then, and sets what could not
    /// be set before: a limit of one process, or of none, which runc takes for one.
    pub fn settle(&self, resources: &Resources) -> Result<()> {
        self.unit.as_ref().map_or(Ok(()), systemd::Unit::settle)?;
        let host = Host::get()?;
        let late = late_pids_max(resources).map(|limit| Write::new("pids.max", limit));
        write::apply(late.as_slice(), |controller| self.directory_of(host, controller))
    }

    /// What a new process needs to be born in the cgroup.
    pub fn placement(&self) -> Result<Placement> {
        self.place(Path::to_owned)
    }

    /// What a further process needs: as [`Cgroup::placement`], or beside `init` where on v2 the container has handed its
    /// controllers on and moved into a cgroup below.
    pub fn placement_beside(&self, init: i32) -> Result<Placement> {
        self.place(|path| v2::beside(init, path).unwrap_or_else(|| path.to_owned()))
    }

    fn place(&self, unified: impl Fn(&Path) -> PathBuf) -> Result<Placement> {
        let mut placement = Placement::default();
        for (hierarchy, path) in self.parts(Host::get()?) {
            if hierarchy.is_v2 {
                placement.unified = Some(open_fd(&unified(path), OFlags::PATH | OFlags::DIRECTORY)?);
            } else {
                placement.tasks.push(open_fd(&path.join("tasks"), OFlags::WRONLY)?);
                placement.directories.push(path.to_owned());
            }
        }
        Ok(placement)
    }

    /// The directories that a process joins by itself: [`Placement::directories`].
    pub fn joined(&self) -> Result<Vec<PathBuf>> {
        let v1 = self.parts(Host::get()?).filter(|(hierarchy, _)| !hierarchy.is_v2);
        Ok(v1.map(|(_, path)| path.to_owned()).collect())
    }

    /// What /sys/fs/cgroup shows in the container. The cgroup2 of a hybrid host is left out, as runc leaves it out.
    pub fn hierarchies(&self) -> Vec<Hierarchy> {
        let Ok(host) = Host::get() else { return Vec::new() };
        let shown = self.parts(host).filter(|(hierarchy, _)| hierarchy.is_v2 == (host.version == Version::V2));
        shown
            .map(|(hierarchy, path)| {
                let name = match host.version {
                    Version::V1 => hierarchy.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    Version::V2 => String::new(),
                };
                Hierarchy { links: links(hierarchy, &name), name, host: path.to_owned() }
            })
            .collect()
    }

    /// Every process in it and below it.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.membership()?.map_or(Ok(Vec::new()), processes::pids)
    }

    /// Sends `signal` to all of them; SIGKILL through `cgroup.kill` or a loop that ends when nobody is left to signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Some(directory) = self.membership()? else { return Ok(()) };
        if signal != SIGKILL {
            return processes::signal(directory, signal).map(drop);
        }
        let host = Host::get()?;
        let unified = self.parts(host).find(|(hierarchy, _)| hierarchy.is_v2).map(|(_, path)| path);
        let killed = unified.map(processes::kill_v2).transpose()?.unwrap_or(false);
        if killed && host.version == Version::V2 {
            return Ok(());
        }
        // On a hybrid host a process may be in one hierarchy and not in the other.
        processes::kill_each(directory, self.directory_of(host, "freezer"))
    }

    /// Removes it with all below it, after the last process has gone; waits for that a bounded time. What lies above stays,
    /// for it may be another container's too. Goes on past errors and reports the first.
    pub async fn remove(&self) -> Result<()> {
        let (host, deadline) = (Host::get()?, remove::deadline());
        let left = match &self.unit {
            Some(unit) => self.stop_unit(host, unit, deadline).await,
            None => false,
        };
        let mut first = Ok(());
        for (hierarchy, path) in self.parts(host).filter(|(hierarchy, _)| !(left && systemd::watches(hierarchy))) {
            first = first.and(remove::remove(path, hierarchy.is_v2, deadline).await);
        }
        first
    }

    /// What it has used, and all below it. Kind `NotFound` where somebody has removed it.
    pub fn stats(&self) -> Result<Stats> {
        let host = Host::get()?;
        match host.version {
            Version::V1 => {
                stats::read_v1(|controller| self.directory_of(host, controller)).map(|stats| Stats::V1(Box::new(stats)))
            }
            Version::V2 => stats::read_v2(self.membership()?).map(|stats| Stats::V2(Box::new(stats))),
        }
    }

    /// Changes what `resources` names, at once and for the processes that are in it: all of it, or on error nothing. For one
    /// caller at a time, and to be waited for to its end.
    ///
    /// Kind `Precondition` for a memory limit below present use where that was to be checked, `Unimplemented` for what this
    /// host has no file for, `System` with file, value and reason for a value that the kernel refuses, and with the unit's
    /// name for one that systemd refuses.
    pub async fn update(&self, resources: &Resources) -> Result<()> {
        let host = Host::get()?;
        let directory = |controller: &str| self.directory_of(host, controller);
        update::check(&resources.memory, directory("memory"), host.version)?;
        let resources = update::complete(resources, directory("cpu"), host.version);
        let unit = self.unit.as_ref();
        let change = update::Change::prepare(&resources, host.version, directory, unit)?;
        change.carry_out(directory, unit).await.map_err(|error| error.context(self.name()))
    }

    /// Begins to count who is killed for want of memory. None where memory is not accounted here.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        let host = Host::get()?;
        let watched = |directory: &&Path| host.version == Version::V1 || directory.join("memory.events").exists();
        let directory = self.directory_of(host, "memory").filter(watched);
        directory.map(|directory| OomWatch::new(directory, host.version, self.unit.is_some())).transpose()
    }

    /// Stops every process in it and below it, where it is. Waits a bounded time, and takes it back when that is over. Kind
    /// `NotFound` where the cgroup is gone.
    pub async fn freeze(&self) -> Result<()> {
        let (directory, version) = self.freezer()?;
        freezer::freeze(directory, version).await
    }

    /// Lets them all go on, frozen or not.
    pub fn thaw(&self) -> Result<()> {
        let (directory, version) = self.freezer()?;
        freezer::thaw(directory, version)
    }

    /// Kind `Precondition` where a new process would stand still in it.
    pub fn refuse_frozen(&self) -> Result<()> {
        let host = Host::get()?;
        let mut parts = self.parts(host).filter(|(hierarchy, _)| hierarchy.is_v2 || hierarchy.has("freezer"));
        parts.try_for_each(|(hierarchy, path)| {
            let version = if hierarchy.is_v2 { Version::V2 } else { Version::V1 };
            freezer::refuse_frozen(path, &hierarchy.path, version)
        })
    }

    fn freezer(&self) -> Result<(&Path, Version)> {
        let host = Host::get()?;
        let missing = || Error::new(Kind::Unimplemented, "the freezer cgroup is not mounted on this host");
        Ok((self.directory_of(host, "freezer").ok_or_else(missing)?, host.version))
    }

    /// Each directory with the hierarchy that it lies in.
    fn parts<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = (&'a Mounted, &'a Path)> {
        self.directories.iter().filter_map(|path| Some((host.hierarchy_of(path)?, path.as_path())))
    }

    fn directory_of<'a>(&'a self, host: &'a Host, controller: &str) -> Option<&'a Path> {
        let mut parts = self.parts(host);
        parts.find(|(hierarchy, _)| host.version == Version::V2 || hierarchy.has(controller)).map(|(_, path)| path)
    }

    /// Where its processes are counted: each joins all hierarchies, so any will do; runc takes the devices'.
    fn membership(&self) -> Result<Option<&Path>> {
        let host = Host::get()?;
        Ok(self.directory_of(host, "devices").or_else(|| self.parts(host).next().map(|(_, path)| path)))
    }

    fn name(&self) -> String {
        format!("cgroup {}", self.directories.first().map(|path| path.display().to_string()).unwrap_or_default())
    }

    /// Makes the directories and sets the values; what was made goes to `made`, parents first.
    fn make(&self, host: &Host, writes: &[Write], devices: &[DeviceRule], made: &mut Vec<PathBuf>) -> Result<()> {
        for (hierarchy, path) in self.parts(host) {
            if !make_directories(path, &hierarchy.path, made)? && self.unit.is_none() {
                refuse_populated(path)?;
            }
            if hierarchy.has("cpuset") {
                v1::inherit_cpuset(path, &hierarchy.path)?;
            }
            if host.version == Version::V2 {
                v2::enable_controllers(path, &hierarchy.path);
                device_filter::enforce(path, devices)?;
            }
        }
        write::apply(writes, |controller| self.directory_of(host, controller))
    }
}

/// The names by which programs look for controllers that are mounted together under `name`.
fn links(hierarchy: &Mounted, name: &str) -> Vec<String> {
    let controllers = hierarchy.controllers.split(',').filter(|controller| !controller.contains('='));
    controllers.filter(|controller| !controller.is_empty() && *controller != name).map(str::to_owned).collect()
}

/// Makes `directory` and what is missing above it, up to the hierarchy's `root`. Whether the directory itself is new.
fn make_directories(directory: &Path, root: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    let mkdir = |path: &Path| std::fs::DirBuilder::new().create(path);
    match mkdir(directory).map_err(|error| (error.kind(), error)) {
        Ok(()) => {
            made.push(directory.to_owned());
            Ok(true)
        }
        Err((std::io::ErrorKind::AlreadyExists, _)) => Ok(false),
        Err((std::io::ErrorKind::NotFound, error)) => {
            let parent = directory.parent().filter(|parent| parent.starts_with(root) && *parent != root);
            let parent = parent.ok_or_else(|| Error::io(format_args!("mkdir {}", directory.display()), &error))?;
            make_directories(parent, root, made)?;
            make_directories(directory, root, made)
        }
        Err((_, error)) => Err(Error::io(format_args!("mkdir {}", directory.display()), &error)),
    }
}

/// Another container's cgroup, or what is left of one, is not ours to limit, to kill and to remove.
fn refuse_populated(directory: &Path) -> Result<()> {
    let pids = processes::pids(directory)?;
    if pids.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    Err(Error::new(Kind::Exists, format!("{} has processes in it: {}", directory.display(), pids.join(", "))))
}

fn open_fd(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(format_args!("open {}", path.display()), Errno::from_raw(errno.raw_os_error())))
}

/// What init takes to be forked: its first stage is in the cgroup beside it. See [`Cgroup::settle`].
const STAGES: u64 = 2;

/// `pids.max`, the same on v1 and v2, with room for init's two stages.
fn pids_max(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "max".into(),
        Limit::At(limit) => limit.max(STAGES).to_string(),
    }
}

/// A limit too low for init's stages, to be set once they are over: `unified` wins, as everywhere.
fn late_pids_max(resources: &Resources) -> Option<String> {
    let low = |text: &str| text.trim().parse::<u64>().is_ok_and(|limit| limit < STAGES);
    match resources.unified.iter().rfind(|(file, _)| file == "pids.max") {
        Some((_, value)) => low(value).then(|| value.trim().to_owned()),
        // None at all, runc takes for one.
        None => matches!(resources.pids, Some(Limit::At(..STAGES))).then(|| "1".to_owned()),
    }
}

/// `rdma.max`, the same on v1 and v2.
fn rdma_max(rdma: &Rdma) -> Write {
    let part = |name: &str, value: Option<u32>| value.map_or(String::new(), |value| format!(" {name}={value}"));
    let (handles, objects) = (part("hca_handle", rdma.handles), part("hca_object", rdma.objects));
    Write::new("rdma.max", format!("{}{handles}{objects}", rdma.device))
}

#[cfg(test)]
mod tests;
