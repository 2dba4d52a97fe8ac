#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]
//! All the code that runs between clone and execve, and nothing else.
//!
//! ```text
//! parent (runtime-core/spawn) ──clone3──▶ stage one ──clone3(CLONE_PARENT)──▶ stage two ──execve──▶ the user's program
//!                                         joins the cgroup                    a session of its own,
//!                                         and the namespaces                  waits for `go`
//!                                              └── builds the root, pivots, drops rights: in either ──┘
//! ```
//!
//! Two forks, because `setns` and `unshare` of a pid namespace move only children, and an existing pid namespace cannot be
//! entered by clone (pid_namespaces(7)). CLONE_PARENT makes stage two the runtime's own child, which waits for it by pidfd.
//!
//! Stage one is not in a pid namespace that it joins, so processes there cannot see it. Where there are such processes (an exec,
//! a pod that shares one), stage one does everything that needs rights or sees the host: what a container can see, stop or trace
//! has its own root and no more than its own rights. In a new pid namespace there is nobody else, and stage two does it, because a
//! procfs shows the namespace of its maker.
//!
//! One fork would do for an exec: the runtime could set the pid namespace of its children while it forks. Tried, it costs 9 % less
//! CPU, and has all of this in the container's sight. Stage two in stage one's memory, as with vfork(2), saves 3 %.
//!
//! The contract of this crate: no allocator, no locks, no panics, system calls only. A forked child of a program with
//! threads may do no more than that (signal-safety(7)), and here the compiler keeps it so: the crate is `no_std` without
//! `alloc`, and every byte that a child reads was laid out by the parent in a [`Program`] before the fork.
//!
//! Reading order: [`step`] (what can be done), `run` (the two stages), `ops` (how each step is done), [`sync`] (what is told to
//! the parent), `sys` (system calls that rustix lacks; the only unsafe code beside `launch` and `keep`).
//! Apart from all that stand the processes of [`keep`](keep()), which do nothing; there is one in a user namespace, too.

pub mod setting;
pub mod step;
pub mod sync;

mod keep;
mod ops;
mod run;
#[allow(unsafe_code)] // system calls; each function says what it relies on
mod sys;

pub use keep::{keep, keep_user_namespace};

/// Stage one forks stage two by clone(2) with this first argument. A plan checks that its seccomp filter allows that call.
pub const FORK_FLAGS: u64 = sys::SIBLING;
pub use run::{Launched, launch};
pub use step::{Descriptor, Instruction, Pair, Program, Span, Step, Text};
