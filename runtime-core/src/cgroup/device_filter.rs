//! Device rules on cgroup v2: there are no files for them, but a BPF program that the kernel asks about every open and mknod
//! of a device; Documentation/admin-guide/cgroup-v2.rst, "Device controller", and bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! Called when a cgroup is made and when its rules are changed. The program is assembled here, without a compiler or a
//! library: it goes through the rules from the last to the first and takes each kind of access (read, write, mknod) by the
//! first rule that speaks of it. A request for several is granted when all are. So a denied write stays denied to who opens
//! for reading and writing, where runc and crun ask for one rule that covers the whole request, and find an earlier one.
//!
//! ```text
//! r2 type   r3 access still to be granted   r4 major   r5 minor
//!
//! rule:    type, major, minor differ?   ── next rule
//!   allow  take its access from r3; something left?   ── next rule;   return 1
//!   deny   is none of its access in r3?               ── next rule;   return 0
//! end:     return what holds for all devices
//! ```

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use config::resources::{DeviceRule, DeviceSet};
use rustix::fs::OFlags;

use super::bpf::{self, Instruction};
use super::{devices, open_fd};
use crate::error::{Error, Result};

/// By this name the program is known among others of the cgroup.
const NAME: &CStr = c"myshim_devices";

const ALL: u32 = DeviceSet::MKNOD | DeviceSet::READ | DeviceSet::WRITE;
/// `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Puts `rules`, and the ones for default devices, in force for the cgroup at `directory`.
pub(super) fn enforce(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    Change::load(directory, rules)?.attach()
}

/// New rules for a cgroup, checked by the kernel and not in force yet.
#[derive(Debug)]
pub(super) struct Change {
    cgroup: OwnedFd,
    name: String,
    /// None where there is nothing to forbid, and was nothing before.
    program: Option<OwnedFd>,
    former: Option<OwnedFd>,
}

impl Change {
    /// Loads what `rules`, with the ones for default devices, mean for the cgroup at `directory`.
    pub(super) fn load(directory: &Path, rules: &[DeviceRule]) -> Result<Self> {
        let rules = devices::effective(rules);
        let name = directory.display().to_string();
        let failed = |what: &str, errno| Error::sys(format_args!("{what} the device filter of {name}"), errno);
        let cgroup = open_fd(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let former = bpf::attached(cgroup.as_fd(), NAME).map_err(|errno| failed("look for", errno))?;
        let former = former.into_iter().next();
        let needed = former.is_some() || !allows_all(&rules);
        let program = needed.then(|| bpf::load(&program(&rules), NAME)).transpose();
        let program = program.map_err(|errno| failed("load", errno))?;
        Ok(Self { cgroup, name, program, former })
    }

    /// Puts them in force. What was in force is replaced in one step: nobody meets a moment without rules.
    pub(super) fn attach(&self) -> Result<()> {
        let Some(program) = &self.program else { return Ok(()) };
        bpf::attach(self.cgroup.as_fd(), program.as_fd(), self.former.as_ref().map(AsFd::as_fd))
            .map_err(|errno| Error::sys(format_args!("attach the device filter of {}", self.name), errno))
    }
}

fn allows_all(rules: &[DeviceRule]) -> bool {
    matches!(rules, [DeviceRule { allow: true, device: None }])
}

/// The program of effective rules, of which the first is for all devices.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        // struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
        code::load(2, 1, 0),
        code::copy(3, 2),
        code::and(2, 0xffff),
        code::shift_right(3, 16),
        code::load(4, 1, 4),
        code::load(5, 1, 8),
    ];
    let (rest, devices) = rules.split_first().map_or((false, rules), |(first, devices)| (first.allow, devices));
    for rule in devices.iter().rev() {
        if let Some(set) = &rule.device {
            program.extend(block(rule.allow, set));
        }
    }
    program.extend(answer(rest));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [code::set(0, allow.into()), code::exit()]
}

/// The instructions of one rule. Those that find it does not decide jump over the rest.
fn block(allow: bool, set: &DeviceSet) -> Vec<Instruction> {
    let kind = if set.block { BLOCK } else { CHARACTER };
    let mut block = vec![code::unless_equal(2, kind)];
    block.extend(set.major.map(|major| code::unless_equal(4, major)));
    block.extend(set.minor.map(|minor| code::unless_equal(5, minor)));
    if set.access & ALL != ALL {
        if allow {
            block.extend([code::and(3, !set.access), code::unless_equal(3, 0)]);
        } else {
            block.extend([code::copy(1, 3), code::and(1, set.access), code::if_equal(1, 0)]);
        }
    }
    block.extend(answer(allow));
    let length = block.len();
    for (at, instruction) in block.iter_mut().enumerate().filter(|(_, instruction)| code::is_jump(**instruction)) {
        instruction.offset = i16::try_from(length - at - 1).expect("a rule has fewer than ten instructions");
    }
    block
}

/// The few instructions in use, all on 32-bit numbers, which jumps compare unsigned (Linux 5.1); a jump's way is filled in
/// once it is known.
mod code {
    use super::Instruction;

    pub(super) const LOAD: u8 = 0x61;
    pub(super) const COPY: u8 = 0xbc;
    pub(super) const SET: u8 = 0xb4;
    pub(super) const AND: u8 = 0x54;
    pub(super) const SHIFT_RIGHT: u8 = 0x74;
    pub(super) const IF_EQUAL: u8 = 0x16;
    pub(super) const UNLESS_EQUAL: u8 = 0x56;
    pub(super) const EXIT: u8 = 0x95;

    fn new(code: u8, to: u8, from: u8, immediate: u32) -> Instruction {
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        Instruction { code, registers, offset: 0, immediate: immediate.cast_signed() }
    }

    pub(super) fn load(to: u8, from: u8, offset: i16) -> Instruction {
        Instruction { offset, ..new(LOAD, to, from, 0) }
    }

    pub(super) fn copy(to: u8, from: u8) -> Instruction {
        new(COPY, to, from, 0)
    }

    pub(super) fn set(to: u8, value: u32) -> Instruction {
        new(SET, to, 0, value)
    }

    pub(super) fn and(to: u8, mask: u32) -> Instruction {
        new(AND, to, 0, mask)
    }

    pub(super) fn shift_right(to: u8, bits: u32) -> Instruction {
        new(SHIFT_RIGHT, to, 0, bits)
    }

    pub(super) fn if_equal(register: u8, value: u32) -> Instruction {
        new(IF_EQUAL, register, 0, value)
    }

    pub(super) fn unless_equal(register: u8, value: u32) -> Instruction {
        new(UNLESS_EQUAL, register, 0, value)
    }

    pub(super) fn exit() -> Instruction {
        new(EXIT, 0, 0, 0)
    }

    pub(super) fn is_jump(instruction: Instruction) -> bool {
        matches!(instruction.code, IF_EQUAL | UNLESS_EQUAL)
    }
}

#[cfg(test)]
mod tests;
