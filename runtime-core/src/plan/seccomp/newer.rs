//! ENOSYS for system calls that are newer than the profile, as runc answers them.
//!
//! A profile lists the calls that its author knew; one that a newer kernel added gets the default action, usually EPERM.
//! But a C library that tries the newer call first goes on to the older one only after ENOSYS. So a few instructions stand
//! before libseccomp's program: a number above the highest one that the profile names, on an architecture that it is for,
//! is answered as a kernel would that does not have the call.

use config::container::{Seccomp, SeccompAction};
use init::Instruction;
use libseccomp::{ScmpArch, ScmpSyscall};

use super::bpf::{ARCHITECTURE, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, NUMBER, RETURN, instruction};
use super::by_number::Call;

/// `SECCOMP_RET_ERRNO` with ENOSYS.
const NO_SUCH_CALL: u32 = 0x0005_0026;

/// The bit that tells x32's numbers from x86-64's.
const X32: u32 = 0x4000_0000;

/// How far above its base a table of calls may reach: ARM's private calls begin there.
const REACH: u32 = 0x000f_0000;

/// What goes before the program of `profile`. Nothing where the default action lets newer calls through, or to a tracer, or
/// answers ENOSYS by itself.
pub(super) fn prologue(profile: &Seccomp, architectures: &[ScmpArch]) -> Vec<Instruction> {
    match profile.default_action {
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_) | SeccompAction::Errno(38) => Vec::new(),
        SeccompAction::Errno(_)
        | SeccompAction::KillThread
        | SeccompAction::KillProcess
        | SeccompAction::Trap
        | SeccompAction::Notify => architectures.iter().filter_map(|arch| block(profile, *arch)).flatten().collect(),
    }
}

/// The instructions for one architecture; for any other call the last one is followed by what comes next.
fn block(profile: &Seccomp, architecture: ScmpArch) -> Option<[Instruction; 6]> {
    let (audit, base) = numbering(architecture)?;
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let numbers = names.filter_map(|name| number(name, architecture, base));
    let last = numbers.max()?;
    Some([
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 0, 4, audit),
        instruction(LOAD, 0, 0, NUMBER),
        instruction(JUMP_GREATER, 0, 2, base + last),
        instruction(JUMP_GREATER_EQUAL, 1, 0, base + REACH),
        instruction(RETURN, 0, 0, NO_SUCH_CALL),
    ])
}

/// The number of a call above its table's base; none where this architecture does not have it.
fn number(name: &str, architecture: ScmpArch, base: u32) -> Option<u32> {
    let number = match ScmpSyscall::from_name_by_arch(name, architecture) {
        // Negative ones are libseccomp's own, for calls that exist elsewhere.
        Ok(call) => u32::try_from(call.as_raw_syscall()).ok()?,
        Err(_) => Call::number_on(name, architecture, base)?,
    };
    Some(number & !base).filter(|number| *number < REACH)
}

/// `AUDIT_ARCH_*` of linux/audit.h, and where the table begins. None for an architecture that is not known here.
pub(super) fn numbering(architecture: ScmpArch) -> Option<(u32, u32)> {
    let audit = match architecture {
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::X8664 => 0xc000_003e,
        ScmpArch::X32 => return Some((0xc000_003e, X32)),
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Loongarch64 => 0xc000_0102,
        ScmpArch::M68k => 0x0000_0004,
        ScmpArch::Mips => 0x0000_0008,
        ScmpArch::Mips64 => 0x8000_0008,
        ScmpArch::Mips64N32 => 0xa000_0008,
        ScmpArch::Mipsel => 0x4000_0008,
        ScmpArch::Mipsel64 => 0xc000_0008,
        ScmpArch::Mipsel64N32 => 0xe000_0008,
        ScmpArch::Parisc => 0x0000_000f,
        ScmpArch::Parisc64 => 0x8000_000f,
        ScmpArch::Ppc => 0x0000_0014,
        ScmpArch::Ppc64 => 0x8000_0015,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::S390 => 0x0000_0016,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::Sh => 0x4000_002a,
        ScmpArch::Sheb => 0x0000_002a,
        _ => return None,
    };
    Some((audit, 0))
}

/// Whether its table of calls begins at a number of thousands.
pub(super) fn is_mips(architecture: ScmpArch) -> bool {
    matches!(
        architecture,
        ScmpArch::Mips
            | ScmpArch::Mips64
            | ScmpArch::Mips64N32
            | ScmpArch::Mipsel
            | ScmpArch::Mipsel64
            | ScmpArch::Mipsel64N32
    )
}
