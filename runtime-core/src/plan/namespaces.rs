//! Stage one: which cgroup and which namespaces. Runtime spec config-linux.md, "Namespaces".
//!
//! The order of joins is [`NamespaceKind`]'s: the user namespace first, for it gives the rights to the others; the mount
//! namespace last, for it takes the host's paths away. New ones are made after the joins, in one unshare(2), so that they
//! belong to the user namespace joined. The cgroup is joined before all: a new cgroup namespace has for its root the cgroup
//! that its maker is in, and the host's files are still the ones seen.

use std::path::PathBuf;

use config::container::{Namespace, NamespaceKind, Process};
use init::Step;
use init::step::Procfs;

use crate::plan::{Facts, Plan, Source};

/// The `CLONE_NEW*` bit of a kind (linux/sched.h).
pub(super) fn bit(kind: NamespaceKind) -> u32 {
    match kind {
        NamespaceKind::User => 0x1000_0000,
        NamespaceKind::Ipc => 0x0800_0000,
        NamespaceKind::Uts => 0x0400_0000,
        NamespaceKind::Network => 0x4000_0000,
        NamespaceKind::Pid => 0x2000_0000,
        NamespaceKind::Cgroup => 0x0200_0000,
        NamespaceKind::Time => 0x0000_0080,
        NamespaceKind::Mount => 0x0002_0000,
    }
}

/// Stage one of a container's init.
pub(super) fn enter(plan: &mut Plan, container: &config::Container, facts: &Facts<'_>) {
    join_cgroup(plan, container.process.oom_score_adj, facts.joins);
    separate(plan, &container.namespaces);
}

/// Joins and makes `namespaces`.
pub(super) fn separate(plan: &mut Plan, namespaces: &[Namespace]) {
    let mut new = 0;
    for Namespace { kind, path } in namespaces {
        match path {
            Some(path) => {
                let target = plan.source(Source::Namespace(path.clone()));
                plan.first(Step::JoinNamespaces { target, kinds: bit(*kind) });
            }
            None => new |= bit(*kind),
        }
    }
    if new != 0 {
        plan.first(Step::NewNamespaces { kinds: new });
    }
    if new & bit(NamespaceKind::Network) != 0 {
        plan.first(Step::LoopbackUp);
    }
}

/// Stage one of an exec: one setns(2) on init's pidfd moves it into all of the container's namespaces (5.8).
pub(super) fn join_container(plan: &mut Plan, process: &Process, namespaces: &[Namespace], facts: &Facts<'_>) {
    join_cgroup(plan, process.oom_score_adj, facts.joins);
    let kinds = namespaces.iter().fold(0, |kinds, namespace| kinds | bit(namespace.kind));
    if kinds != 0 {
        let target = plan.source(Source::Init);
        plan.first(Step::JoinNamespaces { target, kinds });
    }
}

/// Joins the cgroup and takes its score before there is a namespace in the way.
pub(super) fn join_cgroup(plan: &mut Plan, oom_score_adj: Option<i32>, directories: &[PathBuf]) {
    for (number, directory) in directories.iter().enumerate() {
        let (tasks, directory) = (plan.source(Source::Tasks(number)), plan.path(directory));
        plan.first(Step::JoinCgroup { tasks, directory });
    }
    if let Some(value) = oom_score_adj {
        let (path, value) = (plan.text("self/oom_score_adj"), plan.text(value.to_string()));
        plan.first(Step::WriteProc { procfs: Procfs::Host, path, value });
    }
}
