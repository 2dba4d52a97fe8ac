//! The process in which a pod's namespaces come into being. It goes as soon as they are held elsewhere, or, where the
//! containers share a pid namespace, stays as its first process.
//!
//! One that stays can be looked at by every container of the pod, and by a privileged one through `/proc/1/root`. So it stands
//! on an empty read-only root, is nobody, has no rights and holds no file.

use std::path::{Path, PathBuf};

use config::container::{Namespace, NamespaceKind, PropagationKind};
use config::ids::{IdMaps, host_of};
use init::step::{Attributes, Procfs, Root, Way};
use init::sync::Point;
use init::{Descriptor, Step};

use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, Source, mounts, namespaces};

/// Who a process is that needs to be nobody in particular; the user of Kubernetes' pause image.
const NOBODY: u32 = 65535;

/// `MOUNT_ATTR_RDONLY`, `NOSUID`, `NODEV`, `NOEXEC`
const INERT: Attributes = Attributes { set: 1 | 2 | 4 | 8, clear: 0 };

/// How the process stays.
#[derive(Debug, Clone, Copy)]
pub struct Stay<'a> {
    /// An empty directory on the host.
    pub root: &'a Path,
    /// The v1 cgroup directories that it joins, as [`crate::plan::Facts::joins`].
    pub joins: &'a [PathBuf],
    /// How much it is spared when memory runs out; none leaves the runtime's.
    pub oom_score_adj: Option<i32>,
}

impl Plan {
    /// The plan of a sandbox's process. Names and sysctls are set from within, when all namespaces are there.
    pub fn sandbox(sandbox: &config::Sandbox, stay: Option<&Stay<'_>>) -> Result<Self> {
        let mut plan = Self::default();
        let mut own = sandbox.namespaces.clone();
        if let Some(stay) = stay {
            namespaces::join_cgroup(&mut plan, stay.oom_score_adj, stay.joins);
            own.push(Namespace { kind: NamespaceKind::Mount, path: None });
        }
        namespaces::separate(&mut plan, &own, false);
        plan.fork();
        plan.push(Step::NewSession { terminal: false });
        if let Some(name) = &sandbox.hostname {
            let name = plan.text(name);
            plan.push(Step::Hostname { name });
        }
        // The host's procfs is at hand, and a user namespace may make none where it shares a pid namespace.
        let procfs = if sandbox.has(NamespaceKind::User) { Procfs::Host } else { Procfs::Own };
        for (path, value) in &sandbox.sysctl {
            let (path, value) = (plan.text(format!("sys/{path}")), plan.text(value));
            plan.push(Step::WriteProc { procfs, path, value });
        }
        if let Some(stay) = stay {
            let (slash, path) = (plan.text("/"), plan.path(stay.root));
            let propagation = mounts::flag(PropagationKind::Slave);
            plan.push(Step::HostPropagation { path: slash, kind: propagation, recursive: true });
            let tree = sandbox.has(NamespaceKind::User).then(|| plan.root_of_the_host(stay.root, propagation));
            plan.push(Step::OpenRoot { path, root: tree.map_or(Root::Mounted, Root::Tree) });
            plan.push(Step::EnterRoot { way: Way::Pivot });
            plan.renounce(&sandbox.mappings)?;
        }
        plan.push(Step::Sync { point: Point::Ready });
        if stay.is_some() {
            plan.push(Step::Stay);
        }
        plan.checked()
    }

    /// The root, opened by the parent: root of the pod's user namespace may not walk to it.
    fn root_of_the_host(&mut self, root: &Path, propagation: u64) -> Descriptor {
        let (path, recursive, nofollow, idmap, changes) = (root.to_owned(), false, false, None, Vec::new());
        self.source(Source::Tree { path, recursive, nofollow, propagation, idmap, changes })
    }

    /// Gives up what a process can give up. `mappings` are those of its user namespace; none without one.
    fn renounce(&mut self, mappings: &IdMaps) -> Result<()> {
        let unmapped = |map| host_of(map, NOBODY).is_none();
        if !mappings.is_empty() && (unmapped(&mappings.uids) || unmapped(&mappings.gids)) {
            let text = format!("id {NOBODY}, of the process that stays, is not mapped in the user namespace");
            return Err(Error::new(Kind::Invalid, text));
        }
        let path = self.text("/");
        self.push(Step::WorkingDirectory { path, make: false });
        self.push(Step::SetAttributes { path, attributes: INERT, recursive: false });
        self.push(Step::BoundingSet { keep: 0 });
        let groups = Self::span(self.gids.len(), self.gids.len());
        self.push(Step::Identity { uid: NOBODY, gid: NOBODY, groups });
        self.push(Step::Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 });
        self.push(Step::NoNewPrivileges);
        Ok(())
    }
}
