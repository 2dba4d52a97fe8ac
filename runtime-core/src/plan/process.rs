//! `process`: config.md "Process", the same for init and exec.

use config::container::{Capabilities, Process};
use init::Step;
use init::sync::Point;

use crate::plan::{Facts, Plan, Source};

/// Where a program is looked for when the environment has no PATH: confstr(3) `_CS_PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// CAP_SYS_ADMIN, without which seccomp(2) wants no_new_privs.
const SYS_ADMIN: u64 = 1 << 21;

/// Descriptors 0, 1 and 2. Init's terminal is /dev/console besides.
pub(super) fn attach(plan: &mut Plan, process: &Process, init: bool) {
    let uid = process.user.uid;
    if process.terminal {
        let mount = init.then(|| plan.text("/dev/console"));
        plan.second(Step::OpenConsole { size: process.console_size, uid, mount });
    } else {
        let files = [0, 1, 2].map(|number| plan.source(Source::Stdio(number)));
        plan.second(Step::SetStdio { files, uid });
    }
}

/// Where it stands. It may have to be made, so before the root is read-only.
pub(super) fn settle(plan: &mut Plan, process: &Process, init: bool) {
    let path = plan.path(&process.cwd);
    plan.second(Step::WorkingDirectory { path, make: init });
}

/// Who it is, and on to execve.
///
/// With no_new_privileges the filter is loaded by the process as it will be. Without, loading wants CAP_SYS_ADMIN: it is kept
/// beside the process's own rights until the filter is in, so that after it only capset, prctl, sendmsg, read and execve are
/// called and a profile need allow no more than these.
pub(super) fn execute(plan: &mut Plan, process: &Process, facts: &Facts<'_>) {
    let known = u64::MAX >> (63 - facts.last_capability.min(63));
    let Capabilities { bounding, effective, inheritable, permitted, ambient } = process.capabilities;
    let [bounding, effective, inheritable, permitted, ambient] =
        [bounding, effective, inheritable, permitted, ambient].map(|mask| mask & known);
    let own = Step::Capabilities { effective, permitted, inheritable, ambient };
    let filter = facts.filter;

    // While it has the right to raise them, and once no file is opened any more: it may be allowed fewer than we hold.
    for limit in &process.rlimits {
        plan.second(Step::Rlimit { resource: limit.resource, soft: Some(limit.soft), hard: limit.hard });
    }
    plan.second(Step::BoundingSet { keep: bounding });
    identity(plan, process);
    match filter {
        Some(_) if !process.no_new_privileges => plan.second(Step::Capabilities {
            effective: effective | SYS_ADMIN,
            permitted: permitted | SYS_ADMIN,
            inheritable,
            ambient: 0,
        }),
        _ => plan.second(own),
    }
    if process.no_new_privileges {
        plan.second(Step::NoNewPrivileges);
    }
    vectors(plan, process, facts);
    plan.second(Step::CloseOnExec);
    if let Some(filter) = filter {
        plan.filter.clone_from(&filter.program);
        plan.second(Step::Seccomp { flags: filter.flags });
        if !process.no_new_privileges {
            plan.second(own);
        }
    }
    plan.second(Step::Sync { point: Point::Ready });
    plan.second(Step::Execute);
}

fn identity(plan: &mut Plan, process: &Process) {
    let user = &process.user;
    let start = plan.gids.len();
    plan.gids.extend(&user.additional_gids);
    let groups = Plan::span(start, plan.gids.len());
    plan.second(Step::Identity { uid: user.uid, gid: user.gid, groups });
    plan.second(Step::Umask { mask: user.umask });
}

/// The arguments, the environment and where the program may be.
fn vectors(plan: &mut Plan, process: &Process, facts: &Facts<'_>) {
    for arg in &process.args {
        let text = plan.text(arg);
        plan.args.push(text);
    }
    for entry in &process.env {
        let text = plan.text(entry);
        plan.env.push(text);
    }
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        let text = plan.text(format!("HOME={}", facts.home));
        plan.env.push(text);
    }
    let start = plan.candidates.len();
    for candidate in candidates(process) {
        let text = plan.text(candidate);
        plan.candidates.push(text);
    }
    let candidates = Plan::span(start, plan.candidates.len());
    plan.second(Step::FindExecutable { candidates });
}

/// A name with a slash is a path; any other is looked for in PATH (the last one set), like execvp(3).
fn candidates(process: &Process) -> Vec<String> {
    let Some(name) = process.args.first() else { return Vec::new() };
    if name.contains('/') {
        return vec![name.clone()];
    }
    let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let in_directory = |dir: &str| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") };
    path.split(':').map(in_directory).collect()
}
