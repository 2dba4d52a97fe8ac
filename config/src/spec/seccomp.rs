//! `linux.seccomp`, config-linux.md "Seccomp"; seccomp(2), libseccomp's `seccomp_rule_add(3)`.

use nix::libc;
use oci_spec::runtime as oci;

use crate::container::{Seccomp, SeccompAction, SeccompCondition, SeccompOperator, SeccompRule};
use crate::refuse::{At, Refusal};

/// Where `errnoRet` is left out.
const DEFAULT_ERRNO: u32 = libc::EPERM.unsigned_abs();

/// `MAX_ERRNO` of the kernel: a filter's greater ones are cut down to it.
const MAX_ERRNO: u32 = 4095;

/// A system call has six arguments.
const MAX_INDEX: usize = 5;

pub(super) fn resolve(seccomp: &oci::LinuxSeccomp) -> Result<Seccomp, Refusal> {
    if seccomp.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()) {
        return Err(Refusal::unsupported("/listenerPath", "a seccomp listener is"));
    }
    if seccomp.listener_metadata().as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        return Err(Refusal::new("/listenerMetadata", "there is no listenerPath to send it to"));
    }
    let default = action(seccomp.default_action(), seccomp.default_errno_ret(), "/defaultAction", "/defaultErrnoRet")?;
    let architectures = seccomp.architectures().as_deref().unwrap_or_default();
    let rules = seccomp.syscalls().as_deref().unwrap_or_default().iter().enumerate();
    Ok(Seccomp {
        default_action: default,
        architectures: architectures.iter().map(ToString::to_string).collect(),
        flags: flags(seccomp.flags().as_deref()).at("/flags")?,
        rules: rules.map(|(index, call)| rule(call).at_index(index)).collect::<Result<_, _>>().at("/syscalls")?,
    })
}

/// `SECCOMP_FILTER_FLAG_*` bits.
///
/// Absent flags (not an empty list of them) mean `SPEC_ALLOW`, as in runc: without it kernels before 5.16 slow down every
/// filtered process by turning on the speculative store bypass mitigation.
fn flags(flags: Option<&[oci::LinuxSeccompFilterFlag]>) -> Result<u32, Refusal> {
    let Some(flags) = flags else { return Ok(bits(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW)) };
    flags.iter().enumerate().try_fold(0, |all, (index, flag)| {
        Ok(all
            | bits(match flag {
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                // The kernel takes it together with a listener only.
                oci::LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                    return Err(Refusal::unsupported(format!("/{index}"), "a seccomp listener is"));
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
    let conditions = call.args().as_deref().unwrap_or_default().iter().enumerate();
    Ok(SeccompRule {
        names: call.names().clone(),
        action: action(call.action(), call.errno_ret(), "/action", "/errnoRet")?,
        conditions: conditions
            .map(|(index, arg)| condition(arg).at_index(index))
            .collect::<Result<_, _>>()
            .at("/args")?,
    })
}

/// An action with its errno, which by the spec may only stand beside an action that has a use for one.
fn action(
    action: oci::LinuxSeccompAction,
    errno: Option<u32>,
    pointer: &str,
    errno_pointer: &str,
) -> Result<SeccompAction, Refusal> {
    let up_to = |max: u32| match errno.unwrap_or(DEFAULT_ERRNO) {
        errno if errno <= max => Ok(u16::try_from(errno).expect("no limit here is above 16 bits")),
        errno => Err(Refusal::new(errno_pointer, format!("{errno} is more than {max}"))),
    };
    let plain = match action {
        oci::LinuxSeccompAction::ScmpActErrno => return Ok(SeccompAction::Errno(up_to(MAX_ERRNO)?)),
        oci::LinuxSeccompAction::ScmpActTrace => return Ok(SeccompAction::Trace(up_to(u16::MAX.into())?)),
        oci::LinuxSeccompAction::ScmpActNotify => return Err(Refusal::unsupported(pointer, "a seccomp listener is")),
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
