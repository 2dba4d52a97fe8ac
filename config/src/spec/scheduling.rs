//! `process.scheduler`, `process.ioPriority` and `process.execCPUAffinity` (config.md "Linux Process"), and
//! `linux.memoryPolicy` and `linux.personality` (config-linux.md), which every process of a container has.
//!
//! sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2), personality(2).

use nix::libc;
use oci_spec::runtime as oci;

use crate::container::{CpuAffinity, MemoryPolicy, Scheduler};
use crate::refuse::{At, Refusal};
use crate::spec::lists;

/// Nice values: sched(7).
const NICE: std::ops::RangeInclusive<i32> = -20..=19;

/// Priorities within a class of ioprio_set(2).
const IO_PRIORITY: std::ops::RangeInclusive<i64> = 0..=7;

/// `IOPRIO_CLASS_SHIFT`, linux/ioprio.h.
const IO_CLASS_SHIFT: u32 = 13;

/// `PER_LINUX32`, linux/personality.h.
const LINUX32: u32 = 8;

/// `scheduler`. What the kernel would ignore for a policy is refused: nobody is to believe it at work.
pub(super) fn scheduler(scheduler: &oci::Scheduler) -> Result<Scheduler, Refusal> {
    use oci::LinuxSchedulerPolicy as Policy;
    let policy = *scheduler.policy();
    let number = match policy {
        Policy::SchedOther => libc::SCHED_OTHER,
        Policy::SchedFifo => libc::SCHED_FIFO,
        Policy::SchedRr => libc::SCHED_RR,
        Policy::SchedBatch => libc::SCHED_BATCH,
        Policy::SchedIdle => libc::SCHED_IDLE,
        Policy::SchedDeadline => libc::SCHED_DEADLINE,
        Policy::SchedIso => return Err(Refusal::new("/policy", "SCHED_ISO is reserved, and no kernel has it")),
    };
    let only = |given: bool, policies: &[Policy], pointer: &str| {
        if given && !policies.contains(&policy) {
            return Err(Refusal::new(pointer, format!("has no meaning for {policy}")));
        }
        Ok(())
    };
    let nice = scheduler.nice().unwrap_or(0);
    if !NICE.contains(&nice) {
        return Err(Refusal::new("/nice", format!("{nice} is not {} to {}", NICE.start(), NICE.end())));
    }
    let priority = scheduler.priority().unwrap_or(0);
    let times = [*scheduler.runtime(), *scheduler.deadline(), *scheduler.period()].map(Option::unwrap_or_default);
    only(priority != 0, &[Policy::SchedFifo, Policy::SchedRr], "/priority")?;
    for (time, pointer) in times.iter().zip(["/runtime", "/deadline", "/period"]) {
        only(*time != 0, &[Policy::SchedDeadline], pointer)?;
    }
    let [runtime, deadline, period] = times;
    Ok(Scheduler {
        policy: u32::try_from(number).expect("policies are small numbers"),
        nice,
        priority: u32::try_from(priority)
            .map_err(|_| Refusal::new("/priority", format!("{priority} is less than nothing")))?,
        flags: scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | scheduler_flag(*flag)),
        runtime,
        deadline,
        period,
    })
}

/// `SCHED_FLAG_*`, linux/sched.h.
fn scheduler_flag(flag: oci::LinuxSchedulerFlag) -> u64 {
    match flag {
        oci::LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        oci::LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        oci::LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        oci::LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        oci::LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        oci::LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        oci::LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// `ioPriority`: class and priority in one number.
pub(super) fn io_priority(priority: &oci::LinuxIOPriority) -> Result<u32, Refusal> {
    let class: u32 = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority.priority()) {
        Ok(level) if IO_PRIORITY.contains(&priority.priority()) => Ok(class << IO_CLASS_SHIFT | level),
        _ => {
            let (least, most) = (IO_PRIORITY.start(), IO_PRIORITY.end());
            Err(Refusal::new("/priority", format!("{} is not {least} to {most}", priority.priority())))
        }
    }
}

/// `execCPUAffinity`.
pub(super) fn affinity(affinity: &oci::ExecCPUAffinity) -> Result<CpuAffinity, Refusal> {
    let set = |list: Option<&String>, pointer| list.map(|list| bits(list, pointer)).transpose();
    Ok(CpuAffinity {
        initial: set(affinity.initial().as_ref(), "/initial")?,
        last: set(affinity.cpu_affinity_final().as_ref(), "/final")?,
    })
}

fn bits(list: &str, pointer: &str) -> Result<Vec<u64>, Refusal> {
    lists::words(list).map_err(|reason| Refusal::new(pointer, reason))
}

/// `linux.memoryPolicy`.
pub(super) fn memory_policy(policy: &oci::LinuxMemoryPolicy) -> Result<MemoryPolicy, Refusal> {
    use oci::MemoryPolicyModeType as Mode;
    let mode = policy.mode();
    let nodes = policy.nodes().as_deref().filter(|nodes| !nodes.is_empty());
    // linux/mempolicy.h, and which modes want nodes and which take none.
    let (number, wanted) = match mode {
        Mode::MpolDefault => (0, Some(false)),
        Mode::MpolPreferred => (1, None),
        Mode::MpolBind => (2, Some(true)),
        Mode::MpolInterleave => (3, Some(true)),
        Mode::MpolLocal => (4, Some(false)),
        Mode::MpolPreferredMany => (5, Some(true)),
        Mode::MpolWeightedInterleave => (6, Some(true)),
    };
    match (nodes, wanted) {
        (None, Some(true)) => return Err(Refusal::new("/nodes", format!("missing: {mode} is about some"))),
        (Some(_), Some(false)) => return Err(Refusal::new("/nodes", format!("{mode} takes none"))),
        _ => {}
    }
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| flags | memory_flag(*flag));
    Ok(MemoryPolicy { mode: number | flags, nodes: nodes.map_or(Ok(Vec::new()), |nodes| bits(nodes, "/nodes"))? })
}

/// `MPOL_F_*`, linux/mempolicy.h.
fn memory_flag(flag: oci::MemoryPolicyFlagType) -> u32 {
    match flag {
        oci::MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        oci::MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        oci::MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    }
}

/// `linux.personality`. The spec has no flag that is supported.
pub(super) fn personality(personality: &oci::LinuxPersonality) -> Result<u32, Refusal> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Refusal::new("/0", format!("the specification knows no flag {flag}"))).at("/flags");
    }
    Ok(match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        oci::LinuxPersonalityDomain::PerLinux32 => LINUX32,
    })
}
