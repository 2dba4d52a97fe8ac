//! `linux.seccomp` compiled to the BPF program that seccomp(2) loads; runtime spec config-linux.md, "Seccomp".
//!
//! Called by the planner, in the parent: the child only hands the finished program to the kernel. libseccomp does the work,
//! for it knows every architecture's system calls and splits 64-bit comparisons; it takes 9 to 25 ms for the profile that
//! clients send, so [`compile_cached`] does it once per profile and node. Before its program stand a few instructions of ours: what
//! a profile cannot know, system calls newer than itself, is answered by `newer`, and rules for calls newer than libseccomp
//! are written by `by_number`. And since every process loads it, its list of numbers is made into ranges: see `ranges`.

use std::io::{Read, Seek};
use std::path::Path;
use std::str::FromStr;

use config::container::{Seccomp, SeccompAction, SeccompCondition, SeccompOperator, SeccompRule};
use init::Instruction;
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext};
use nix::errno::Errno;

use crate::error::{Error, Kind, Result};
use crate::{heap, memory_file};

use self::bpf::is_stricter;
use self::by_number::Call;

mod bpf;
mod by_number;
mod cache;
mod newer;
mod ranges;
mod verdict;

/// `BPF_MAXINSNS`: the kernel takes no longer program.
const LONGEST_PROGRAM: usize = 4096;

/// What seccomp(2) is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program: 1 to 4096 instructions.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

impl Filter {
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: loading it gives a descriptor, for an agent to answer calls by.
    pub const NEW_LISTENER: u32 = 1 << 3;
}

/// Compiles `profile`. Kind `Invalid` for a profile that libseccomp refuses.
pub fn compile(profile: &Seccomp) -> Result<Filter> {
    let list = list(profile)?;
    let program = ranges::by_ranges(&list).unwrap_or(list);
    if program.len() > LONGEST_PROGRAM {
        return Err(too_long(program.len()));
    }
    Ok(Filter { program, flags: flags(profile) })
}

/// The program that asks for one call after the other.
fn list(profile: &Seccomp) -> Result<Vec<Instruction>> {
    let default = scmp_action(profile.default_action);
    let mut context = ScmpFilterContext::new(default).map_err(|error| refused("seccomp default action", &error))?;
    let mut architectures = vec![ScmpArch::native()];
    for name in &profile.architectures {
        let known = ScmpArch::from_str(name).and_then(|arch| context.add_arch(arch).map(|_| arch));
        let architecture = known.map_err(|error| refused(format!("seccomp architecture {name}"), &error))?;
        if architecture != ScmpArch::Native && !architectures.contains(&architecture) {
            architectures.push(architecture);
        }
    }
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default_action) {
        add_rule(&mut context, rule)?;
    }
    let ours = [newer::prologue(profile, &architectures), by_number::rules(profile, &architectures)];
    Ok([ours.concat(), export(&context)?].concat())
}

/// `SECCOMP_FILTER_FLAG_*`: the profile's, and what a listener needs.
fn flags(profile: &Seccomp) -> u32 {
    const TSYNC: u32 = 1 << 0;
    const NEW_LISTENER: u32 = Filter::NEW_LISTENER;
    const TSYNC_ESRCH: u32 = 1 << 4;
    match (&profile.listener, profile.flags & TSYNC) {
        (None, _) => profile.flags,
        (Some(_), 0) => profile.flags | NEW_LISTENER,
        // What the call returns would otherwise be either a descriptor or a thread.
        (Some(_), _) => profile.flags | NEW_LISTENER | TSYNC_ESRCH,
    }
}

/// As [`compile`], with finished programs kept in the directory `cache` (made, 0700, where missing), one file a profile.
///
/// What is found there counts only if nobody but us can have written it and it is whole; whatever is wrong with the cache
/// is logged and costs a compilation, nothing else.
pub fn compile_cached(profile: &Seccomp, cache: &Path) -> Result<Filter> {
    warn_of_unknown(profile);
    let key = cache::key(profile);
    match cache::load(cache, &key) {
        Ok(Some(program)) => return Ok(Filter { program, flags: flags(profile) }),
        Ok(None) => {}
        Err(error) => log::warn!("seccomp cache: {error}"),
    }
    let filter = compile(profile)?;
    // libseccomp has taken a megabyte, which this pod would keep for life.
    heap::trim();
    if let Err(error) = cache::store(cache, &key, &filter.program) {
        log::warn!("seccomp cache: {error}");
    }
    Ok(filter)
}

/// Says which rules do nothing, where a client would think that they forbid something: nobody here knows their calls' names, and
/// a kernel may have them. (Those of a list of what is allowed are left out in silence: it forbids what it does not name.)
fn warn_of_unknown(profile: &Seccomp) {
    let stricter = profile.rules.iter().filter(|rule| is_stricter(rule.action, profile.default_action));
    for name in stricter.flat_map(|rule| &rule.names).filter(|name| matches!(Call::of(name), Call::Unknown)) {
        log::warn!("seccomp: system call {name:?} is not known here, left out: the default action is taken for it");
    }
}

/// Adds a rule for each name that libseccomp knows, on the native architecture or on another one.
fn add_rule(context: &mut ScmpFilterContext, rule: &SeccompRule) -> Result<()> {
    let action = scmp_action(rule.action);
    for name in &rule.names {
        let Call::Named(call) = Call::of(name) else { continue };
        for conditions in alternatives(&rule.conditions) {
            let comparisons: Vec<ScmpArgCompare> = conditions.iter().map(comparison).collect();
            context
                .add_rule_conditional(action, call, &comparisons)
                .map_err(|error| refused(format!("seccomp rule for {name}"), &error))?;
        }
    }
    Ok(())
}

/// The sets of conditions of which one must hold as a whole.
///
/// libseccomp takes one comparison an argument. Where a rule has more, each condition becomes a rule of its own, so that any
/// one is enough: this is what runc makes of such a profile, and profiles are written for it.
fn alternatives(conditions: &[SeccompCondition]) -> impl Iterator<Item = &[SeccompCondition]> {
    let count_of = |index| conditions.iter().filter(|condition| condition.index == index).count();
    let one_by_one = conditions.iter().any(|condition| count_of(condition.index) > 1);
    let (together, single) = if one_by_one { (None, conditions) } else { (Some(conditions), &[][..]) };
    together.into_iter().chain(single.chunks(1))
}

fn scmp_action(action: SeccompAction) -> ScmpAction {
    match action {
        SeccompAction::KillThread => ScmpAction::KillThread,
        SeccompAction::KillProcess => ScmpAction::KillProcess,
        SeccompAction::Trap => ScmpAction::Trap,
        SeccompAction::Errno(errno) => ScmpAction::Errno(errno.into()),
        SeccompAction::Trace(message) => ScmpAction::Trace(message),
        SeccompAction::Log => ScmpAction::Log,
        SeccompAction::Allow => ScmpAction::Allow,
        SeccompAction::Notify => ScmpAction::Notify,
    }
}

fn comparison(condition: &SeccompCondition) -> ScmpArgCompare {
    let (operator, datum) = match condition.operator {
        SeccompOperator::NotEqual => (ScmpCompareOp::NotEqual, condition.value),
        SeccompOperator::Less => (ScmpCompareOp::Less, condition.value),
        SeccompOperator::LessOrEqual => (ScmpCompareOp::LessOrEqual, condition.value),
        SeccompOperator::Equal => (ScmpCompareOp::Equal, condition.value),
        SeccompOperator::GreaterOrEqual => (ScmpCompareOp::GreaterEqual, condition.value),
        SeccompOperator::Greater => (ScmpCompareOp::Greater, condition.value),
        SeccompOperator::MaskedEqual => (ScmpCompareOp::MaskedEqual(condition.value), condition.value_two),
    };
    ScmpArgCompare::new(condition.index, operator, datum)
}

/// Through a memfd: the crate offers libseccomp's export to memory only where pkg-config finds that library.
fn export(context: &ScmpFilterContext) -> Result<Vec<Instruction>> {
    let mut file = memory_file::create(c"seccomp")
        .map_err(|errno| Error::sys("memfd_create", Errno::from_raw(errno.raw_os_error())))?;
    context.export_bpf(&file).map_err(|error| refused("seccomp export", &error))?;
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|error| Error::io("read the seccomp program", &error))?;
    instructions(&bytes).ok_or_else(|| too_long(bytes.len() / Instruction::SIZE))
}

fn too_long(length: usize) -> Error {
    Error::new(Kind::Invalid, format!("seccomp: {length} instructions, the kernel takes {LONGEST_PROGRAM}"))
}

/// None where `bytes` are no program that the kernel might take.
fn instructions(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (chunks, rest) = bytes.as_chunks();
    let fits = rest.is_empty() && !chunks.is_empty() && chunks.len() <= LONGEST_PROGRAM;
    fits.then(|| chunks.iter().copied().map(Instruction::from_bytes).collect())
}

fn refused(what: impl std::fmt::Display, error: &SeccompError) -> Error {
    Error::new(Kind::Invalid, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
