//! What a finished program says of a call: a small interpreter of classic BPF. The planner asks it whether a process under this
//! filter can still do what leads to its program.

use init::Instruction;
use syscalls::Sysno;

use super::Filter;
use super::bpf::{
    AND, ARCHITECTURE, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, JUMP_SET, LOAD, NUMBER, RETURN,
};

/// `SECCOMP_RET_LOG` and `SECCOMP_RET_ALLOW`, linux/seccomp.h: after both the call is made.
const LOGGED: u32 = 0x7ffc_0000;
const ALLOWED: u32 = 0x7fff_0000;

/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`: linux/audit.h.
const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// What a program is shown: `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) nr: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    /// A call of this machine's own; arguments that are not given are 0.
    pub(super) fn native(number: Sysno, given: &[u64]) -> Self {
        let mut args = [0; 6];
        args.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        Self { arch: NATIVE, nr: u32::try_from(number.id()).unwrap_or(u32::MAX), args }
    }

    /// The word at an offset; none where a program has no business.
    fn word(&self, offset: u32) -> Option<u32> {
        const ARGUMENTS: u32 = 16;
        let half = |value: u64| {
            let is_low = offset.is_multiple_of(8) == cfg!(target_endian = "little");
            u32::try_from(if is_low { value & u64::from(u32::MAX) } else { value >> 32 }).ok()
        };
        match offset {
            NUMBER => Some(self.nr),
            ARCHITECTURE => Some(self.arch),
            _ => half(*self.args.get(usize::try_from(offset.checked_sub(ARGUMENTS)? / 8).ok()?)?),
        }
    }
}

impl Filter {
    /// Whether it lets this machine's own call `number` through. False where it cannot be told.
    pub(crate) fn allows(&self, number: Sysno, args: &[u64]) -> bool {
        matches!(verdict(&self.program, &Call::native(number, args)), Some((LOGGED | ALLOWED, _)))
    }
}

/// What `program` returns, and after how many instructions. None for one that the kernel would not take.
pub(super) fn verdict(program: &[Instruction], call: &Call) -> Option<(u32, usize)> {
    let (mut next, mut word) = (0_usize, 0);
    // Jumps only go forward.
    for steps in 1..=program.len() {
        let Instruction { code, jt, jf, k } = *program.get(next)?;
        let mut skip = |count: u32| next = next.saturating_add(count as usize);
        skip(1);
        let mut branch = |taken: bool| skip(if taken { jt } else { jf }.into());
        match code {
            LOAD => word = call.word(k)?,
            JUMP => skip(k),
            JUMP_EQUAL => branch(word == k),
            JUMP_GREATER => branch(word > k),
            JUMP_GREATER_EQUAL => branch(word >= k),
            JUMP_SET => branch(word & k != 0),
            AND => word &= k,
            RETURN => return Some((k, steps)),
            _ => return None,
        }
    }
    None
}
