//! Rules for system calls that are newer than libseccomp: by number, before libseccomp's program.
//!
//! libseccomp takes only the names that it knows. A kernel may be newer, and then a rule that forbids a call would do nothing
//! at all. The crate `syscalls` knows more of them. libseccomp takes a number for the native architecture alone, for it finds
//! the other ones' by the name; but a 64-bit process can make the call as a 32-bit one, too. So the rules for such calls are
//! written here, for each architecture of the profile. Since Linux 5.1 a new call has one number on all of them.
//!
//! ```text
//!    architecture?  number?  ──▶ conditions of the first rule ──▶ its action
//!                                        └─▶ those of the next one ... ──▶ the default action
//! ```

use std::str::FromStr;

use config::container::{Seccomp, SeccompAction, SeccompCondition, SeccompOperator, SeccompRule};
use init::Instruction;
use libseccomp::{ScmpArch, ScmpSyscall};
use syscalls::Sysno;

use super::bpf::{
    AND, ARCHITECTURE, ARGUMENTS, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, NUMBER, RETURN,
    instruction, returned,
};
use super::{alternatives, newer};

/// From this number on a call has the same one on all architectures: pidfd_send_signal(2)'s.
const COMMON: u32 = 424;

/// What is known of a system call by its name.
pub(super) enum Call {
    /// libseccomp knows it, on this architecture or on another one.
    Named(ScmpSyscall),
    /// It is newer than libseccomp, and this is its number on the native architecture.
    Numbered(u32),
    /// Nobody here knows it.
    Unknown,
}

impl Call {
    pub(super) fn of(name: &str) -> Self {
        if let Ok(call) = ScmpSyscall::from_name(name) {
            return Self::Named(call);
        }
        let number = Sysno::from_str(name).ok().and_then(|call| u32::try_from(call.id()).ok());
        number.map_or(Self::Unknown, Self::Numbered)
    }

    /// The number on `architecture`, counted from `base`, of a call that libseccomp does not know.
    pub(super) fn number_on(name: &str, architecture: ScmpArch, base: u32) -> Option<u32> {
        // MIPS counts the common ones from a base of its own, and no machine that this is built for runs its programs.
        let is_common = |number| number >= COMMON && !newer::is_mips(architecture);
        match Self::of(name) {
            Self::Numbered(number) if architecture == ScmpArch::native() || is_common(number) => Some(base | number),
            _ => None,
        }
    }
}

/// What goes before the program of `profile`, which these instructions leave for all other calls.
pub(super) fn rules(profile: &Seccomp, architectures: &[ScmpArch]) -> Vec<Instruction> {
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let mut numbered: Vec<&str> =
        names.map(String::as_str).filter(|name| matches!(Call::of(name), Call::Numbered(_))).collect();
    numbered.sort_unstable();
    numbered.dedup();
    architectures.iter().flat_map(|architecture| block(profile, *architecture, &numbered)).collect()
}

/// The instructions for one architecture; none where it has none of the calls.
fn block(profile: &Seccomp, architecture: ScmpArch, names: &[&str]) -> Vec<Instruction> {
    let Some((audit, base)) = newer::numbering(architecture) else { return Vec::new() };
    let calls = names.iter().filter_map(|name| {
        let number = Call::number_on(name, architecture, base)?;
        Some(if_equal(number, call(profile, name)))
    });
    let calls: Vec<Instruction> = calls.flatten().collect();
    if calls.is_empty() {
        return calls;
    }
    let block = [vec![instruction(LOAD, 0, 0, NUMBER)], calls].concat();
    [vec![instruction(LOAD, 0, 0, ARCHITECTURE)], if_equal(audit, block)].concat()
}

/// `then` where what was loaded is `value`; else what follows it.
fn if_equal(value: u32, then: Vec<Instruction>) -> Vec<Instruction> {
    // A conditional jump reaches 255 instructions.
    let over = u32::try_from(then.len()).expect("a profile's rules for one call are few");
    [vec![instruction(JUMP_EQUAL, 1, 0, value), instruction(JUMP, 0, 0, over)], then].concat()
}

/// What becomes of the call `name`. As libseccomp has it, a rule without conditions stands for all rules of its call.
fn call(profile: &Seccomp, name: &str) -> Vec<Instruction> {
    let is_for_it = |rule: &&SeccompRule| rule.action != profile.default_action && rule.names.iter().any(|n| n == name);
    let rules: Vec<&SeccompRule> = profile.rules.iter().filter(is_for_it).collect();
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return vec![answer(rule.action)];
    }
    let conditional = rules.iter().flat_map(|rule| alternatives(&rule.conditions).map(|all| under(all, rule.action)));
    conditional.flatten().chain([answer(profile.default_action)]).collect()
}

fn answer(action: SeccompAction) -> Instruction {
    instruction(RETURN, 0, 0, returned(action))
}

/// `action` where all of `conditions` hold; else what follows it.
fn under(conditions: &[SeccompCondition], action: SeccompAction) -> Vec<Instruction> {
    // From its end: a condition that does not hold leads behind all of it.
    conditions.iter().rev().fold(vec![answer(action)], |rest, condition| {
        let behind = u8::try_from(rest.len()).expect("six instructions for each of six arguments");
        [compare(condition, behind), rest].concat()
    })
}

/// Goes on behind itself where `condition` holds, and else as many instructions further. (64 bits, as two words)
fn compare(condition: &SeccompCondition, behind: u8) -> Vec<Instruction> {
    let SeccompCondition { index, operator, value, value_two } = *condition;
    let equal = |mask, value, yes, no| equal(index, mask, value, yes, no);
    let greater = |code, yes, no| greater(index, code, value, yes, no);
    match operator {
        SeccompOperator::Equal => equal(u64::MAX, value, 0, behind),
        SeccompOperator::NotEqual => equal(u64::MAX, value, behind, 0),
        SeccompOperator::MaskedEqual => equal(value, value_two, 0, behind),
        SeccompOperator::Greater => greater(JUMP_GREATER, 0, behind),
        SeccompOperator::LessOrEqual => greater(JUMP_GREATER, behind, 0),
        SeccompOperator::GreaterOrEqual => greater(JUMP_GREATER_EQUAL, 0, behind),
        SeccompOperator::Less => greater(JUMP_GREATER_EQUAL, behind, 0),
    }
}

/// Whether the argument's bits under `mask` are `value`: skips `yes` or `no` instructions.
fn equal(index: u32, mask: u64, value: u64, yes: u8, no: u8) -> Vec<Instruction> {
    let ([high_mask, low_mask], [high_value, low_value]) = (words(mask), words(value));
    let [high, low] = places(index);
    vec![
        instruction(LOAD, 0, 0, high),
        instruction(AND, 0, 0, high_mask),
        instruction(JUMP_EQUAL, 0, 3 + no, high_value),
        instruction(LOAD, 0, 0, low),
        instruction(AND, 0, 0, low_mask),
        instruction(JUMP_EQUAL, yes, no, low_value),
    ]
}

/// Whether the argument is greater than `value`, or as great where `code` says so: skips `yes` or `no` instructions.
fn greater(index: u32, code: u16, value: u64, yes: u8, no: u8) -> Vec<Instruction> {
    let [high_value, low_value] = words(value);
    let [high, low] = places(index);
    vec![
        instruction(LOAD, 0, 0, high),
        instruction(JUMP_GREATER, 3 + yes, 0, high_value),
        instruction(JUMP_EQUAL, 0, 2 + no, high_value),
        instruction(LOAD, 0, 0, low),
        instruction(code, yes, no, low_value),
    ]
}

/// The high word and the low one.
fn words(value: u64) -> [u32; 2] {
    let word = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("it is masked");
    [word(value >> 32), word(value)]
}

/// Where an argument's high word lies in `struct seccomp_data`, and its low one.
fn places(index: u32) -> [u32; 2] {
    let at = ARGUMENTS + 8 * index;
    if cfg!(target_endian = "little") { [at + 4, at] } else { [at, at + 4] }
}
