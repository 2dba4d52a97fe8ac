//! `process`, config.md "Process": the same for a container's init and for an exec request.

use std::collections::HashSet;

use nix::sys::resource::Resource;
use oci_spec::runtime as oci;

use crate::container::{Process, Rlimit, User};
use crate::ids;
use crate::refuse::{At, Refusal};
use crate::spec::{capabilities, paths, scheduling};

/// The spec leaves the default to the runtime; this is everyone's.
const DEFAULT_UMASK: u32 = 0o022;

/// Resolves one process. Pointers are relative to it.
pub(crate) fn resolve(process: &oci::Process) -> Result<Process, Refusal> {
    let terminal = process.terminal().unwrap_or(false);
    Ok(Process {
        terminal,
        // Without a terminal the spec wants it ignored.
        console_size: process.console_size().filter(|_| terminal).map(console_size).transpose().at("/consoleSize")?,
        cwd: paths::absolute(process.cwd()).at("/cwd")?,
        args: args(process.args().as_deref()).at("/args")?,
        env: env(process.env().as_deref().unwrap_or_default()).at("/env")?,
        user: user(process.user()).at("/user")?,
        capabilities: capabilities::resolve(process.capabilities().as_ref()).at("/capabilities")?,
        rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default()).at("/rlimits")?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: oom_score_adj(process.oom_score_adj()).at("/oomScoreAdj")?,
        apparmor_profile: filled(process.apparmor_profile().as_ref()),
        selinux_label: filled(process.selinux_label().as_ref()),
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose().at("/scheduler")?,
        io_priority: process.io_priority().as_ref().map(scheduling::io_priority).transpose().at("/ioPriority")?,
        exec_cpu_affinity: process
            .exec_cpu_affinity()
            .as_ref()
            .map(scheduling::affinity)
            .transpose()
            .at("/execCPUAffinity")?,
        personality: None,
        memory_policy: None,
    })
}

/// A text that says something.
pub(super) fn filled(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

/// (rows, columns) as `struct winsize` of `ioctl_tty(2)` holds them.
fn console_size(size: oci::Box) -> Result<(u16, u16), Refusal> {
    let fit = |cells: u64, pointer: &str| {
        u16::try_from(cells).map_err(|_| Refusal::new(pointer, format!("{cells} is more than {}", u16::MAX)))
    };
    Ok((fit(size.height(), "/height")?, fit(size.width(), "/width")?))
}

fn args(args: Option<&[String]>) -> Result<Vec<String>, Refusal> {
    match args {
        None | Some([]) => Err(Refusal::new("", "missing: the first one is the program to execute")),
        Some(args) => Ok(args.to_vec()),
    }
}

/// Each name once, in order: of a repeated name the last entry stays, in its own place, as runc has it. A program would find
/// the first one (getenv(3)), which is not the one that the client has added last.
pub(super) fn env(env: &[String]) -> Result<Vec<String>, Refusal> {
    fn name(variable: &str) -> Option<&str> {
        variable.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty())
    }
    if let Some(index) = env.iter().position(|variable| name(variable).is_none()) {
        return Err(Refusal::new(format!("/{index}"), format!("{:?} is not NAME=value", env[index])));
    }
    let mut names = HashSet::with_capacity(env.len());
    let mut kept: Vec<String> = env.iter().rev().filter(|variable| names.insert(name(variable))).cloned().collect();
    kept.reverse();
    Ok(kept)
}

fn user(user: &oci::User) -> Result<User, Refusal> {
    let umask = user.umask().unwrap_or(DEFAULT_UMASK);
    if umask > 0o777 {
        return Err(Refusal::new("/umask", format!("{umask} has more than permission bits")));
    }
    let additional_gids = user.additional_gids().iter().flatten().enumerate();
    let additional_gids = additional_gids.map(|(index, gid)| ids::real(*gid).at_index(index)).collect::<Result<_, _>>();
    Ok(User {
        uid: ids::real(user.uid()).at("/uid")?,
        gid: ids::real(user.gid()).at("/gid")?,
        umask,
        additional_gids: additional_gids.at("/additionalGids")?,
    })
}

/// `proc_pid_oom_score_adj(5)` takes no more.
fn oom_score_adj(score: Option<i32>) -> Result<Option<i32>, Refusal> {
    match score {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Refusal::new("", format!("{score} is not -1000 to 1000")))
        }
        score => Ok(score),
    }
}

/// Each resource once. The specification forbids to name one twice, but nerdctl does so: the last counts, as with runc and crun.
fn rlimits(rlimits: &[oci::PosixRlimit]) -> Result<Vec<Rlimit>, Refusal> {
    let mut list: Vec<Rlimit> = Vec::with_capacity(rlimits.len());
    for (index, rlimit) in rlimits.iter().enumerate() {
        let resource = resource(rlimit.typ()) as u32;
        let (soft, hard) = (rlimit.soft(), rlimit.hard());
        if let Some(earlier) = list.iter().position(|other| other.resource == resource) {
            log::warn!("/process/rlimits/{index}: a second {}: the last one counts", rlimit.typ());
            list.remove(earlier);
        }
        if soft > hard {
            return Err(Refusal::new(format!("/{index}/soft"), format!("{soft} is more than the hard limit {hard}")));
        }
        list.push(Rlimit { resource, soft, hard });
    }
    Ok(list)
}

/// getrlimit(2); the numbers differ between architectures.
fn resource(limit: oci::PosixRlimitType) -> Resource {
    match limit {
        oci::PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        oci::PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        oci::PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        oci::PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        oci::PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        oci::PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        oci::PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        oci::PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        oci::PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        oci::PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        oci::PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        oci::PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        oci::PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        oci::PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        oci::PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        oci::PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}
