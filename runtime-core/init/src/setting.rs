//! Attributes of the process that a step sets by one system call each: how it is scheduled, where its memory lies, and what it
//! takes the kernel for. Made by the planner, as every step.

use crate::step::Span;

/// An attribute of the process that one system call of its own sets, and that stays over execve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// sched_setattr(2)
    Scheduler(Scheduler),
    /// ioprio_set(2)
    IoPriority(u32),
    /// sched_setaffinity(2); its span is of [`Program::words`](crate::Program::words).
    Affinity(Span),
    /// personality(2)
    Personality(u32),
    /// set_mempolicy(2)
    MemoryPolicy {
        /// `MPOL_*`, flags included.
        mode: u32,
        /// Into [`Program::words`](crate::Program::words).
        nodes: Span,
    },
}

/// linux/sched/types.h `struct sched_attr`, version 1 (5.3: utilization clamps, of which the runtime spec says nothing).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// Of this structure.
    pub size: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
    /// Utilization clamps.
    pub clamps: [u32; 2],
}

impl Scheduler {
    /// Its size in the kernel's form.
    pub const SIZE: u32 = 56;
}
