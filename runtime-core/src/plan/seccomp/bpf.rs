//! The words of classic BPF that seccomp programs are made of: linux/bpf_common.h, linux/seccomp.h.

use config::container::SeccompAction;
use init::Instruction;

/// Loads a word of the call, at the offset that the instruction names.
pub(super) const LOAD: u16 = 0x20;
/// Goes on as many instructions further.
pub(super) const JUMP: u16 = 0x05;
/// Compares what was loaded.
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
/// Whether they have a bit in common.
pub(super) const JUMP_SET: u16 = 0x45;
/// Masks what was loaded.
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
/// Six of 64 bits.
pub(super) const ARGUMENTS: u32 = 16;

/// One instruction: what it does, how many it skips where its comparison holds and where not, its operand.
pub(super) const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// What a program returns for `action`: `SECCOMP_RET_*`.
pub(super) fn returned(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::KillThread => 0x0000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 | u32::from(errno),
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace(message) => 0x7ff0_0000 | u32::from(message),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

/// Whether the kernel, given two programs' answers, would take `action` and not `other` (kernel/seccomp.c, `seccomp_run_filters`).
pub(super) fn is_stricter(action: SeccompAction, other: SeccompAction) -> bool {
    /// `SECCOMP_RET_ACTION_FULL`.
    const ACTION: u32 = 0xffff_0000;
    let rank = |action| (returned(action) & ACTION).cast_signed();
    rank(action) < rank(other)
}
