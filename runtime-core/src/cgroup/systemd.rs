//! The systemd driver: the container's cgroup is a unit, a transient scope (or slice) that systemd makes when asked over D-Bus;
//! systemd.scope(5), org.freedesktop.systemd1(5). Called by `Cgroup`, for which the rest is as with directories made here.
//!
//! systemd makes no scope without a process ("Scope has no PIDs. Refusing.") and stops one when its cgroup gets empty, and init
//! is to be born in its cgroup, with every limit set before. So a process of ours that does nothing, the keeper, is what the
//! scope is started with; it leaves when init is in:
//!
//! ```text
//! shim ──fork──▶ keeper                                   tied to the shim's life; invisible to its reaper
//!      ──StartTransientUnit(PIDs=keeper, limits)──▶ systemd   makes the directory, moves the keeper, says JobRemoved
//!      ──writes──▶ files of the cgroup                    what systemd has no property for, and exact values
//!      ──clone3(CLONE_INTO_CGROUP)──▶ init
//!      ──SIGKILL──▶ keeper                                [`Unit::settle`]
//! ```
//!
//! Starting the scope with init's own first process, as runc does, would be one process less, and would have systemd move it
//! (slow, and after its birth), and every error of systemd's come in the middle of a fork. A create that fails, is dropped or
//! killed takes its keeper along, and systemd collects the empty scope by itself: nothing is left without a word to it.
//!
//! After Delete the unit is gone: the processes are killed and waited for by the files, then the empty unit is stopped. Where
//! systemd does not answer in time, its own directory is left for it: it looks there when it is back and collects the unit. To
//! remove the directory under it would leave the unit active for ever, for the event that tells of the end is the file's.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::container::CgroupPath;
use config::resources::{DeviceRule, Resources};
use tokio::time::{Instant, sleep, timeout};

use super::host::{self, Host, Mounted};
use super::write::{Write, put};
use super::{Cgroup, path, refuse_populated, remove};
use crate::error::{Error, Kind, Result};
use crate::kept::Kept;
use bus::{Bus, Failure};
pub(super) use properties::{Property, of_update as properties_of_update};

pub(crate) mod annotations;
mod bus;
mod properties;

/// Exists where systemd is the init system: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// Of a scope for a container without `cgroupsPath`.
const PREFIX: &str = "myshim";
/// How long systemd may take to start a unit: as long as runc and crun give it.
const STARTING: Duration = Duration::from_secs(30);
/// How long it may take to stop an empty one.
const STOPPING: Duration = Duration::from_secs(5);
/// How long it may take to hear of new values.
const TELLING: Duration = Duration::from_secs(5);
/// Between attempts to reach a systemd that executes itself anew and has closed its sockets meanwhile.
const AWAY: Duration = Duration::from_millis(50);

/// Whether systemd is the init system here, and so the one who makes cgroups.
pub(super) fn is_running() -> bool {
    Path::new(BOOTED).is_dir()
}

/// The slice and the name of the unit that `path` names, and the directories that it has or would have.
pub(super) fn locate(host: &Host, path: &CgroupPath) -> Result<(String, String, Vec<PathBuf>)> {
    if !is_running() {
        let text = "the systemd cgroup driver is asked for, and systemd is not running here";
        return Err(Error::new(Kind::Unimplemented, text));
    }
    let (slice, prefix, name) = unit_of(path)?;
    let unit = path::unit(&prefix, &name);
    let directories = path::directories(host, &CgroupPath::Systemd { slice: slice.clone(), prefix, name })?;
    Ok((slice, unit, directories))
}

/// A unit of ours.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    keeper: RefCell<Option<Keeper>>,
    /// The file and the value of a limit on processes that is one too high while the keeper is among them.
    pids_max: RefCell<Option<(PathBuf, String)>>,
}

impl Cgroup {
    /// Has systemd make the unit that `path` names, with what `resources` and `annotations` ask for, and sets `writes` in it.
    /// Kinds as in [`Cgroup::create`]. On error nothing is left; nor when the future is dropped, soon after.
    pub(super) async fn create_unit(
        host: &Host,
        path: &CgroupPath,
        resources: &Resources,
        writes: Vec<Write>,
        annotations: &[(String, String)],
    ) -> Result<Self> {
        let (slice, name, directories) = locate(host, path)?;
        Self { directories: directories.clone(), unit: None }.refuse_frozen()?;
        directories.iter().try_for_each(|directory| refuse_populated(directory))?;
        let mut properties = properties::of_unit(&slice, &name);
        properties::set(&mut properties, properties::of_resources(resources, &writes)?);
        properties::set(&mut properties, annotations::properties(annotations)?);
        let cgroup = Self::start_unit(host, &name, properties, directories).await?;
        let made = cgroup.set_unit(host, writes, resources.devices.as_deref().unwrap_or_default());
        if made.is_err()
            && let Err(error) = cgroup.remove().await
        {
            log::warn!("{error}");
        }
        made.map_err(|error| error.context(cgroup.name())).map(|()| cgroup)
    }

    async fn start_unit(
        host: &Host,
        name: &str,
        mut properties: Vec<Property>,
        directories: Vec<PathBuf>,
    ) -> Result<Self> {
        let mut unit = Unit::named(name.to_owned());
        if is_slice(name) {
            // It stays without a process.
            start(name, &properties, None).await?;
            return Ok(Self { directories, unit: Some(unit) });
        }
        let keeper = Keeper::fork()?;
        properties.push(("PIDs".into(), vec![keeper.0.pid().unsigned_abs()].into()));
        start(name, &properties, Some(&keeper)).await?;
        let directories = keeper.directories(host)?;
        unit.keeper = RefCell::new(Some(keeper));
        Ok(Self { directories, unit: Some(unit) })
    }

    /// Stops the unit, after its last process has gone. Whether that failed, so that systemd's directory is left to it.
    pub(super) async fn stop_unit(&self, host: &Host, unit: &Unit, deadline: Instant) -> bool {
        unit.keeper.take();
        let mut unified = self.parts(host).filter(|(hierarchy, _)| hierarchy.is_v2);
        if let Some((_, path)) = unified.next()
            && let Err(error) = remove::until_unpopulated(path, deadline).await
        {
            log::debug!("{error}");
        }
        let stopped = unit.stop().await;
        if let Err(error) = &stopped {
            log::warn!("{error}: its cgroup is left for systemd to remove");
        }
        stopped.is_err()
    }

    /// What the files can and systemd cannot.
    fn set_unit(&self, host: &Host, mut writes: Vec<Write>, devices: &[DeviceRule]) -> Result<()> {
        if let Some(unit) = &self.unit
            && let Some(directory) = self.directory_of(host, "pids")
        {
            unit.make_room(directory, &mut writes);
        }
        self.make(host, &writes, devices, &mut Vec::new())
    }
}

impl Unit {
    pub(super) fn named(name: String) -> Self {
        Self { name, keeper: RefCell::default(), pids_max: RefCell::default() }
    }

    /// Gives the keeper room in a limit on processes, until it goes.
    fn make_room(&self, directory: &Path, writes: &mut [Write]) {
        if self.keeper.borrow().is_none() {
            return;
        }
        if let Some(write) = writes.iter_mut().rfind(|write| write.file == "pids.max")
            && let Ok(limit) = write.value.trim().parse::<u64>()
        {
            let raised = limit.saturating_add(1).to_string();
            let value = std::mem::replace(&mut write.value, raised);
            self.pids_max.replace(Some((directory.join(&write.file), value)));
        }
    }

    /// To be called when init is in: the keeper goes, and the limits are the container's alone.
    pub(super) fn settle(&self) -> Result<()> {
        self.keeper.take();
        let Some((file, value)) = self.pids_max.take() else { return Ok(()) };
        put(&file, &value).map_err(|errno| Error::sys(format_args!("write {value} to {}", file.display()), errno))
    }

    /// Tells systemd values, which until it is stopped it takes for its own. When this returns `Took` it has also done with
    /// them what it does. An error is systemd's refusal.
    pub(super) async fn tell(&self, properties: &[Property]) -> Result<Told> {
        let what = format!("set properties of systemd unit {}", self.name);
        let told = timeout(TELLING, async {
            let bus = Bus::open().await?;
            bus.set(&self.name, properties).await?;
            bus.ping().await
        });
        match told.await {
            Ok(Ok(())) => Ok(Told::Took),
            Ok(Err(failure @ Failure::Lost(_))) => Ok(Told::NoAnswer(failure.error(&what))),
            Ok(Err(failure)) => Err(failure.error(&what)),
            Err(_) => Ok(Told::NoAnswer(no_answer(&what, TELLING))),
        }
    }

    /// Stops the empty unit and waits until that is done. One that is not there is stopped.
    pub(super) async fn stop(&self) -> Result<()> {
        let what = format!("stop systemd unit {}", self.name);
        let stopped = timeout(STOPPING, async {
            let bus = Bus::open().await?;
            bus.stop(&self.name).await?;
            // A unit that has failed, and may stay by an annotation's will.
            let _ = bus.reset_failed(&self.name).await;
            Ok(())
        });
        match stopped.await {
            Ok(stopped) => stopped.map_err(|failure: Failure| failure.error(&what)),
            Err(_) => Err(no_answer(&what, STOPPING)),
        }
    }
}

/// What became of values that systemd was told.
#[derive(Debug)]
pub(super) enum Told {
    /// It has taken them.
    Took,
    /// It is away or slow; it may still take them.
    NoAnswer(Error),
}

/// Whether it is in this hierarchy that systemd watches for a unit's end.
pub(super) fn watches(hierarchy: &Mounted) -> bool {
    hierarchy.is_v2 || hierarchy.controllers == "name=systemd"
}

/// Starts a unit and waits until it is up. A unit of that name that has failed is reset, once; a systemd that goes away in the
/// middle is asked again.
async fn start(name: &str, properties: &[Property], keeper: Option<&Keeper>) -> Result<()> {
    let what = format!("start systemd unit {name}");
    let mut reset = false;
    let started = timeout(STARTING, async {
        loop {
            match Box::pin(start_once(name, properties, &mut reset)).await {
                Ok(()) => return Ok(()),
                Err(Failure::Lost(why)) => log::debug!("{what}: {why}: once more"),
                // It was asked before its answer was lost.
                Err(failure) if failure.unit_exists() && keeper.is_some_and(|keeper| keeper.is_in(name)) => {
                    return Ok(());
                }
                Err(failure) => return Err(failure.error(&what)),
            }
            sleep(AWAY).await;
        }
    });
    started.await.unwrap_or_else(|_| Err(no_answer(&what, STARTING)))
}

async fn start_once(name: &str, properties: &[Property], reset: &mut bool) -> std::result::Result<(), Failure> {
    let bus = Bus::open().await?;
    match bus.start(name, properties).await {
        Err(failure) if failure.unit_exists() && !std::mem::replace(reset, true) => {
            bus.reset_failed(name).await?;
            bus.start(name, properties).await
        }
        done => done,
    }
}

fn no_answer(what: &str, time: Duration) -> Error {
    Error::new(Kind::System, format!("{what}: no answer within {} s", time.as_secs()))
}

/// Slice, prefix and name of the unit.
fn unit_of(path: &CgroupPath) -> Result<(String, String, String)> {
    match path {
        CgroupPath::Systemd { slice, prefix, name } => Ok((slice.clone(), prefix.clone(), name.clone())),
        // No path: the container's id.
        CgroupPath::Relative(id) if id.components().count() == 1 => {
            Ok(("system.slice".into(), PREFIX.into(), id.to_string_lossy().into_owned()))
        }
        CgroupPath::Relative(path) | CgroupPath::Absolute(path) => Err(Error::new(
            Kind::Invalid,
            format!("cgroup path {}: the systemd cgroup driver needs the form slice:prefix:name", path.display()),
        )),
    }
}

fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some()
}

/// The process that keeps a scope until init is in it. It ends when this is dropped.
#[derive(Debug)]
struct Keeper(Kept);

impl Keeper {
    fn fork() -> Result<Self> {
        Kept::fork().map(Self)
    }

    /// Where systemd has put it, for each hierarchy of `host`: its own word for where the unit is.
    fn directories(&self, host: &Host) -> Result<Vec<PathBuf>> {
        let table = self.table()?;
        let unit = host.hierarchies.iter().filter(|hierarchy| watches(hierarchy)).find_map(|hierarchy| {
            let mut lines = host::lines(&table);
            lines.find(|(controllers, _)| *controllers == hierarchy.controllers).map(|(_, path)| path)
        });
        let unit = unit.map(|path| CgroupPath::Absolute(path.trim_start_matches('/').into()));
        let unit = unit.ok_or_else(|| Error::new(Kind::System, "systemd has no cgroup hierarchy of its own here"))?;
        path::directories(host, &unit)
    }

    fn is_in(&self, unit: &str) -> bool {
        self.table().is_ok_and(|table| host::lines(&table).any(|(_, path)| Path::new(path).ends_with(unit)))
    }

    fn table(&self) -> Result<String> {
        let file = format!("/proc/{}/cgroup", self.0.pid());
        std::fs::read_to_string(&file).map_err(|error| Error::io(format_args!("read {file}"), &error))
    }
}

#[cfg(test)]
mod tests;
