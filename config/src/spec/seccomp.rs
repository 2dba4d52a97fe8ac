//! `linux.seccomp`, config-linux.md "Seccomp"; seccomp(2), libseccomp's `seccomp_rule_add(3)`.

use nix::libc;
use oci_spec::runtime as oci;

use crate::container::{Seccomp, SeccompAction, SeccompCondition, SeccompListener, SeccompOperator, SeccompRule};
use crate::refuse::{At, Refusal};
use crate::spec::paths;

/// Where `errnoRet` is left out.
const DEFAULT_ERRNO: u32 = libc::EPERM.unsigned_abs();

/// `MAX_ERRNO` of the kernel: a filter's greater ones are cut down to it.
const MAX_ERRNO: u32 = 4095;

/// A system call has six arguments.
const MAX_INDEX: usize = 5;

pub(super) fn resolve(seccomp: &oci::LinuxSeccomp) -> Result<Seccomp, Refusal> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret(), "/defaultErrnoRet")?;
    if default == SeccompAction::Notify {
        return Err(Refusal::new("/defaultAction", "SCMP_ACT_NOTIFY would hold up the runtime itself"));
    }
    let architectures = seccomp.architectures().as_deref().unwrap_or_default();
    let rules = seccomp.syscalls().as_deref().unwrap_or_default().iter().enumerate();
    let rules = rules.map(|(index, call)| rule(call).at_index(index)).collect::<Result<Vec<_>, _>>().at("/syscalls")?;
    let listener = listener(seccomp, rules.iter().any(|rule| rule.action == SeccompAction::Notify))?;
    Ok(Seccomp {
        default_action: default,
        architectures: architectures.iter().map(ToString::to_string).collect(),
        flags: flags(seccomp.flags().as_deref(), listener.is_some()).at("/flags")?,
        rules,
        listener,
    })
}

/// `listenerPath` and `listenerMetadata`. A path that no rule has a use for is ignored, as the spec says.
fn listener(seccomp: &oci::LinuxSeccomp, used: bool) -> Result<Option<SeccompListener>, Refusal> {
    let path = seccomp.listener_path().as_deref().filter(|path| !path.as_os_str().is_empty());
    let metadata = seccomp.listener_metadata().clone().filter(|metadata| !metadata.is_empty());
    match path {
        None if metadata.is_some() => Err(Refusal::new("/listenerMetadata", "there is no listenerPath to send it to")),
        None if used => Err(Refusal::new("/listenerPath", "missing: SCMP_ACT_NOTIFY needs somebody to notify")),
        Some(path) if used => Ok(Some(SeccompListener { path: paths::absolute(path).at("/listenerPath")?, metadata })),
        None | Some(_) => Ok(None),
    }
}

/// `SECCOMP_FILTER_FLAG_*` bits.
///
/// Absent flags (not an empty list of them) mean `SPEC_ALLOW`, as in runc: without it kernels before 5.16 slow down every
/// filtered process by turning on the speculative store bypass mitigation.
fn flags(flags: Option<&[oci::LinuxSeccompFilterFlag]>, has_listener: bool) -> Result<u32, Refusal> {
    let Some(flags) = flags else { return Ok(bits(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW)) };
    flags.iter().enumerate().try_fold(0, |all, (index, flag)| {
        Ok(all
            | bits(match flag {
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if has_listener => {
                    libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
                }
                // The kernel would say EINVAL.
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                    return Err(Refusal::new(format!("/{index}"), "is for filters with SCMP_ACT_NOTIFY only"));
                }
            }))
    })
}

fn bits(flag: libc::c_ulong) -> u32 {
    u32::try_from(flag).expect("seccomp(2) takes its flags as an unsigned int")
}

fn rule(call: &oci::LinuxSyscall) -> Result<SeccompRule, Refusal> {
    if call.names().is_empty() {
        return Err(Refusal::new("/names", "missing: a rule is for at least one system call"));
    }
    let action = action(call.action(), call.errno_ret(), "/errnoRet")?;
    // By write(2) the runtime is told which descriptor the agent is to have: it would wait for an agent that is not there yet.
    let write = call.names().iter().position(|name| name == "write");
    if let (SeccompAction::Notify, Some(index)) = (action, write) {
        return Err(Refusal::new(format!("/names/{index}"), "SCMP_ACT_NOTIFY would hold up the runtime itself"));
    }
    let conditions = call.args().as_deref().unwrap_or_default().iter().enumerate();
    Ok(SeccompRule {
        names: call.names().clone(),
        action,
        conditions: conditions
            .map(|(index, arg)| condition(arg).at_index(index))
            .collect::<Result<_, _>>()
            .at("/args")?,
    })
}

/// An action with its errno, which by the spec may only stand beside an action that has a use for one.
fn action(action: oci::LinuxSeccompAction, errno: Option<u32>, errno_pointer: &str) -> Result<SeccompAction, Refusal> {
    let up_to = |max: u32| match errno.unwrap_or(DEFAULT_ERRNO) {
        errno if errno <= max => Ok(u16::try_from(errno).expect("no limit here is above 16 bits")),
        errno => Err(Refusal::new(errno_pointer, format!("{errno} is more than {max}"))),
    };
    let plain = match action {
        oci::LinuxSeccompAction::ScmpActErrno => return Ok(SeccompAction::Errno(up_to(MAX_ERRNO)?)),
        oci::LinuxSeccompAction::ScmpActTrace => return Ok(SeccompAction::Trace(up_to(u16::MAX.into())?)),
        oci::LinuxSeccompAction::ScmpActNotify => SeccompAction::Notify,
        oci::LinuxSeccompAction::ScmpActKill | oci::LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        oci::LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        oci::LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        oci::LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        oci::LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
    };
    match errno {
        None => Ok(plain),
        Some(_) => Err(Refusal::new(errno_pointer, format!("{action} returns no errno"))),
    }
}

fn condition(arg: &oci::LinuxSeccompArg) -> Result<SeccompCondition, Refusal> {
    let index = match u32::try_from(arg.index()) {
        Ok(index) if arg.index() <= MAX_INDEX => index,
        _ => return Err(Refusal::new("/index", format!("{} is not 0 to {MAX_INDEX}", arg.index()))),
    };
    let operator = match arg.op() {
        oci::LinuxSeccompOperator::ScmpCmpNe => SeccompOperator::NotEqual,
        oci::LinuxSeccompOperator::ScmpCmpLt => SeccompOperator::Less,
        oci::LinuxSeccompOperator::ScmpCmpLe => SeccompOperator::LessOrEqual,
        oci::LinuxSeccompOperator::ScmpCmpEq => SeccompOperator::Equal,
        oci::LinuxSeccompOperator::ScmpCmpGe => SeccompOperator::GreaterOrEqual,
        oci::LinuxSeccompOperator::ScmpCmpGt => SeccompOperator::Greater,
        oci::LinuxSeccompOperator::ScmpCmpMaskedEq => SeccompOperator::MaskedEqual,
    };
    Ok(SeccompCondition { index, operator, value: arg.value(), value_two: arg.value_two().unwrap_or(0) })
}
