//! The words of classic BPF that seccomp programs are made of: linux/bpf_common.h, linux/seccomp.h.

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

/// One instruction: what it does, how many it skips where its comparison holds and where not, its operand.
pub(super) const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}
