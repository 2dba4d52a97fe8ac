//! Stage one: which cgroup and which namespaces. Runtime spec config-linux.md, "Namespaces".
//!
//! The one order that serves every combination:
//!
//! ```text
//! cgroup, oom_score_adj, hard limits   the host's files are seen; later it has no right to more than it has
//! no groups                            a user namespace may forbid to drop them
//! join ipc, uts, network, pid, cgroup, time, mount
//! join user, or make a new one         with a new time namespace that has offsets
//! wait for the parent                  it writes maps and offsets (`namespaces` beside this directory)
//! become root, id 0, in it             what is made from here on is the mapped root's
//! make all other new ones              in one unshare(2): they belong to the user namespace
//! ```
//!
//! The user namespace is joined last. Whoever made the others, root of the runtime's own user namespace may join them, for it has
//! rights in all that lie within it; as root of the container's it could join only those that belong to that. (A runtime that is
//! not root would have to take it first. This one is root, as containerd is; newuidmap(1) is not called.) Becoming root needs
//! the maps, and goes before the rest is made: a new mqueue belongs to whom its maker is then. The mount namespace is the last
//! of the others, for it takes the host's paths away. Offsets can be written until a time namespace has its first process, which
//! is stage two; by the parent, for a process that hides itself may not write them.
//!
//! The cgroup is joined before all: a new cgroup namespace has for its root the cgroup that its maker is in.

use std::path::PathBuf;

use config::container::{Namespace, NamespaceKind, Process};
use init::setting::Setting;
use init::step::Procfs;
use init::sync::Point;
use init::{Span, Step};

use crate::plan::{Facts, Plan, Source};

/// As many CPUs as a kernel can be built for: within the cgroup's cpuset a process may run anywhere, whatever its runtime was
/// confined to. Since 6.2 the kernel keeps a mask that a process inherited over the change of cgroup, so it is set anew.
const ANY_CPU: [u64; 128] = [u64::MAX; 128];

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
    let has_user = container.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
    prepare(plan, &container.process, facts, (None, Some(&ANY_CPU)), has_user);
    separate(plan, &container.namespaces, !container.time_offsets.is_empty());
}

/// Joins and makes `namespaces`.
pub(super) fn separate(plan: &mut Plan, namespaces: &[Namespace], has_offsets: bool) {
    let has_user = namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
    let mut new = 0;
    for Namespace { kind, path } in namespaces {
        match path {
            Some(path) => {
                let target = plan.source(Source::Namespace(path.clone()));
                plan.push(Step::JoinNamespaces { target, kinds: bit(*kind) });
                if *kind == NamespaceKind::Pid {
                    plan.pid_namespace = Some(target);
                }
            }
            None => new |= bit(*kind),
        }
    }
    let time = if has_offsets { bit(NamespaceKind::Time) } else { 0 };
    let waits = new & (bit(NamespaceKind::User) | time);
    if waits != 0 {
        plan.push(Step::NewNamespaces { kinds: waits });
    }
    if waits != 0 || has_user {
        plan.push(Step::Sync { point: Point::Namespaces });
    }
    if has_user {
        plan.push(ROOT);
    }
    new &= !waits;
    if new != 0 {
        plan.push(Step::NewNamespaces { kinds: new });
    }
    if new & bit(NamespaceKind::Network) != 0 {
        plan.push(Step::LoopbackUp);
    }
}

/// Stage one of an exec: one setns(2) on init's pidfd moves it into all of the container's namespaces (5.8).
pub(super) fn join_container(plan: &mut Plan, process: &Process, namespaces: &[Namespace], facts: &Facts<'_>) {
    let affinity = process.exec_cpu_affinity.as_ref();
    // On v2 it is born in its cgroup, and nothing of it runs before.
    let initial = affinity.and_then(|cpus| cpus.initial.as_deref()).filter(|_| !facts.joins.is_empty());
    // After an initial set, the spec leaves an absent final one to the kernel.
    let any: Option<&[u64]> = if initial.is_none() { Some(&ANY_CPU) } else { None };
    let last = affinity.and_then(|cpus| cpus.last.as_deref()).or(any);
    let kinds = namespaces.iter().fold(0, |kinds, namespace| kinds | bit(namespace.kind));
    let has_user = kinds & bit(NamespaceKind::User) != 0;
    prepare(plan, process, facts, (initial, last), has_user);
    if kinds != 0 {
        let target = plan.source(Source::Init);
        plan.push(Step::JoinNamespaces { target, kinds });
    }
    if has_user {
        plan.push(Step::Sync { point: Point::Namespaces });
        plan.push(ROOT);
    }
}

fn run_on(plan: &mut Plan, cpus: &[u64]) {
    let cpus = plan.set(cpus);
    plan.push(Step::Set(Setting::Affinity(cpus)));
}

/// Root without groups, in the runtime's user namespace or, later, in the container's.
pub(super) const ROOT: Step = Step::Identity { uid: 0, gid: 0, groups: Span { start: 0, len: 0 } };

/// What has to be done with the rights and the files of the host: it joins the cgroup between two sets of CPUs.
fn prepare(
    plan: &mut Plan,
    process: &Process,
    facts: &Facts<'_>,
    (initial, last): (Option<&[u64]>, Option<&[u64]>),
    leaves_rights: bool,
) {
    if let Some(cpus) = initial {
        run_on(plan, cpus);
    }
    join_cgroup(plan, process.oom_score_adj, facts.joins);
    if let Some(cpus) = last {
        run_on(plan, cpus);
    }
    if leaves_rights {
        for limit in &process.rlimits {
            plan.push(Step::Rlimit { resource: limit.resource, soft: None, hard: limit.hard });
        }
        plan.push(ROOT);
    }
}

/// Joins the cgroup and takes its score before there is a namespace in the way.
pub(super) fn join_cgroup(plan: &mut Plan, oom_score_adj: Option<i32>, directories: &[PathBuf]) {
    for (number, directory) in directories.iter().enumerate() {
        let (tasks, directory) = (plan.source(Source::Tasks(number)), plan.path(directory));
        plan.push(Step::JoinCgroup { tasks, directory });
    }
    if let Some(value) = oom_score_adj {
        let (path, value) = (plan.text("self/oom_score_adj"), plan.text(value.to_string()));
        plan.push(Step::WriteProc { procfs: Procfs::Host, path, value });
    }
}
