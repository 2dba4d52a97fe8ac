//! A pod without a pause container: its namespaces are held by open files, and nothing runs for them.
//!
//! ```text
//! shim ──clone3──▶ stage one ──▶ stage two   joins and makes the namespaces, sets their names and sysctls
//!   ├──open──▶ /proc/PID/ns/{ipc,uts,net,pid,user}
//!   └── each container joins them as /proc/SHIM/fd/N
//! ```
//!
//! Why by open files, and not by bind mounts as a network namespace is held in /run/netns: they go with the one who holds
//! them, so that a shim that is killed leaves no mount behind. And not by moving the shim itself into them, though
//! `/proc/SHIM/ns` would then be right: what the shim does for the host (hooks, loggers, devices to be moved) would happen in
//! the pod's network.
//!
//! A pid namespace cannot be held by a file: it ends with its first process (pid_namespaces(7)). Where the containers share
//! one, and only there, stage two stays, in a cgroup of its own below the pod's (see [`crate::plan`], `sandbox`, and
//! `init::Step::Stay`). It is recorded in the bundle as a container's init is, and [`destroy`] finds it there.
//!
//! A user namespace owns the pod's other ones. It is new, or the one that owns the network that was made for the pod.
//!
//! Called by the shim's sandbox service. What a pod's cgroup may use is not ours to set: the kubelet makes that cgroup, with
//! the pod's resources and overhead, before a sandbox is asked for.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use config::Resources;
use config::container::{CgroupPath, Namespace, NamespaceKind};
use init::sync::Point;
use nix::libc::SIGKILL;

use crate::cgroup::stats::Stats;
use crate::cgroup::{Cgroup, Driver, Placement};
use crate::container::{end, remove_cgroup};
use crate::error::{Error, Kind, Result};
use crate::namespaces::Part;
use crate::plan::{Plan, Stay};
use crate::process::Process;
use crate::spawn::{self, Handover};
use crate::state::{self, State};

mod files;
mod members;

pub use members::{Member, Members, destroy};

/// What pause containers have: nobody's memory is won by ending them.
const SPARED: i32 = -998;

/// The sandbox of one pod.
#[derive(Debug)]
pub struct Sandbox {
    bundle: PathBuf,
    shared: Arc<Shared>,
    init: Option<(Rc<Process>, Cgroup)>,
    parent: Option<CgroupPath>,
}

/// What the containers share. The namespaces are there for as long as somebody has this.
#[derive(Debug)]
pub struct Shared {
    /// In the form in which a container's config.json is read with it. Paths lead to open files of this process.
    pub pod: config::Pod,
    _files: Vec<OwnedFd>,
}

impl Sandbox {
    /// Makes the pod's files and namespaces. On error nothing is left.
    pub async fn create(spec: &config::Sandbox) -> Result<Self> {
        let files = files::make(spec)?;
        let made = if spec.has(NamespaceKind::Pid) { with_init(spec).await } else { without_init(spec).await };
        let (init, held) = made.inspect_err(|_| files::take_back(spec))?;
        let pod = config::Pod {
            pid: init.as_ref().map_or(0, |(init, _)| init.pid().unsigned_abs()),
            namespaces: held.iter().map(path).collect(),
            host_pid: spec.host_pid,
            files: files.mounts,
            shared_memory: files.shared_memory,
        };
        let files = held.into_iter().map(|(_, file)| file).collect();
        Ok(Self {
            bundle: spec.bundle.clone(),
            shared: Arc::new(Shared { pod, _files: files }),
            init,
            parent: spec.parent.clone(),
        })
    }

    /// What containers are given.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The first process of the pid namespace, where the containers share one.
    pub fn init(&self) -> Option<&Rc<Process>> {
        self.init.as_ref().map(|(init, _)| init)
    }

    /// Lets the first process become what it stays. Kind `Precondition` when called twice.
    pub async fn start(&self) -> Result<()> {
        match self.init() {
            Some(init) => init.start().await,
            None => Ok(()),
        }
    }

    /// Ends what runs for the pod and takes back what was made for it, but for plain files in the bundle; the namespaces go
    /// with the last [`Shared`]. Goes on past errors and reports the first.
    pub async fn stop(self) -> Result<()> {
        let mut outcome = Ok(());
        if let Some((init, cgroup)) = &self.init {
            // It may have ended by itself.
            let _ = init.signal(SIGKILL);
            outcome = outcome.and(init.wait().await.map(drop));
            outcome = outcome.and(remove_cgroup(cgroup).await);
            outcome = outcome.and(State::remove(&self.bundle).map(drop));
        }
        outcome.and(files::unmount(&self.bundle))
    }

    /// What the whole pod has used. Kind `Precondition` where it has no cgroup of its own.
    pub fn stats(&self) -> Result<Stats> {
        let none = || Error::new(Kind::Precondition, "the pod has no cgroup of its own: it named no cgroup parent");
        Cgroup::locate(self.parent.as_ref().ok_or_else(none)?, Driver::Cgroupfs)?.stats()
    }
}

/// Namespaces that somebody holds.
type Held = Vec<(NamespaceKind, OwnedFd)>;

/// As containers find it, and whoever else wants to enter: by a path that names this process, not its reader.
fn path((kind, file): &(NamespaceKind, OwnedFd)) -> Namespace {
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Namespace { kind: *kind, path: Some(path.into()) }
}

async fn without_init(spec: &config::Sandbox) -> Result<(Option<(Rc<Process>, Cgroup)>, Held)> {
    if spec.namespaces.is_empty() {
        return Ok((None, Vec::new()));
    }
    let (process, held) = fork(spec, None, &Placement::default()).await?;
    end(&process).await;
    Ok((None, held))
}

async fn with_init(spec: &config::Sandbox) -> Result<(Option<(Rc<Process>, Cgroup)>, Held)> {
    let resources = Resources::default();
    let cgroup = Cgroup::create(&spec.cgroup, &resources, Driver::choose(false, &spec.cgroup, &[])).await?;
    match stay(spec, &cgroup, &resources).await {
        Ok((init, held)) => Ok((Some((Rc::new(init), cgroup)), held)),
        Err(error) => {
            if let Err(left) = remove_cgroup(&cgroup).await.and(State::remove(&spec.bundle)) {
                log::warn!("undo a failed sandbox: {left}");
            }
            Err(error)
        }
    }
}

/// Recorded before it is forked, so that a shim that dies in between leaves a cgroup that can be found.
async fn stay(spec: &config::Sandbox, cgroup: &Cgroup, resources: &Resources) -> Result<(Process, Held)> {
    let unit = cgroup.unit().map(str::to_owned);
    let mut record = State { cgroup: cgroup.directories().to_vec(), unit, ..State::default() };
    record.write(&spec.bundle)?;
    let placement = cgroup.placement()?;
    let root = files::root(&spec.bundle);
    let stay = Stay { root: &root, joins: &placement.directories, oom_score_adj: spared()? };
    let (init, held) = fork(spec, Some(&stay), &placement).await?;
    record.pid = init.pid();
    record.start_time = state::start_time(init.pid()).unwrap_or_default();
    if let Err(error) = record.write(&spec.bundle).and_then(|()| cgroup.settle(resources)) {
        end(&init).await;
        return Err(error);
    }
    Ok((init, held))
}

/// The score that a pause container has, where we may give it: without CAP_SYS_RESOURCE nobody may lower one (proc(5)), and
/// the sandbox keeps ours.
fn spared() -> Result<Option<i32>> {
    let sets = rustix::thread::capabilities(None)
        .map_err(|errno| Error::sys("capget", nix::errno::Errno::from_raw(errno.raw_os_error())))?;
    Ok(sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE).then_some(SPARED))
}

/// Forks the pod's process and opens the namespaces that it is in.
async fn fork(spec: &config::Sandbox, stay: Option<&Stay<'_>>, placement: &Placement) -> Result<(Process, Held)> {
    let (entered, _owner) = entered(spec)?;
    let plan = Plan::sandbox(&entered, stay)?;
    let part = Part { namespaces: &entered.namespaces, mappings: &spec.mappings, offsets: &[], uid: 0, stdio: None };
    let handover = Handover { stdio: None, preserved: &[], placement, init: None, agent: None };
    let at = async |point, pid| match point {
        Point::Namespaces => part.perform(pid),
        Point::Root | Point::Ready => Ok(()),
    };
    let (process, _) = spawn::spawn(&plan, &handover, at).await?;
    let held = spec.namespaces.iter().map(|namespace| hold(process.pid(), namespace.kind)).collect();
    match held {
        Ok(held) => Ok((process, held)),
        Err(error) => {
            end(&process).await;
            Err(error)
        }
    }
}

/// Where a network namespace was made for a pod with a user namespace, CRI has made that one with it, for nobody has a right in a
/// network that does not belong to it: the pod's is the network's owner. Gives `spec` with a path for it, and what keeps that
/// path a right one.
fn entered(spec: &config::Sandbox) -> Result<(config::Sandbox, Option<OwnedFd>)> {
    let mut entered = spec.clone();
    let network = spec.namespaces.iter().find(|namespace| namespace.kind == NamespaceKind::Network);
    let user = entered.namespaces.iter_mut().find(|namespace| namespace.kind == NamespaceKind::User);
    let (Some(network), Some(user)) = (network.and_then(|network| network.path.as_deref()), user) else {
        return Ok((entered, None));
    };
    let failed = |errno| Error::sys(format_args!("open the user namespace of {}", network.display()), errno);
    let owner = config::sandbox::owner(network).map_err(failed)?;
    user.path = Some(format!("/proc/self/fd/{}", owner.as_raw_fd()).into());
    Ok((entered, Some(owner)))
}

fn hold(pid: i32, kind: NamespaceKind) -> Result<(NamespaceKind, OwnedFd)> {
    let path = Path::new("/proc").join(pid.to_string()).join("ns").join(kind.file_name());
    let file = std::fs::File::open(&path).map_err(|error| Error::io(format!("open {}", path.display()), &error))?;
    Ok((kind, file.into()))
}
