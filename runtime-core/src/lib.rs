//! Resolved values to kernel state: a container's plan, its two forks, its mounts, its cgroup. Knows nothing of
//! containerd; the shim and the `oci` command line both stand on it.
//!
//! Reading order: [`container`] (what callers use), [`plan`] (pure: what will be done), `spawn` (the parent's side of
//! the double fork), the `init` crate (the children's side), [`process`] (a running one), [`cgroup`], [`rootfs`],
//! [`sandbox`] (a pod without a pause container).

pub mod cgroup;
pub mod container;
pub mod error;
pub mod features;
pub mod plan;
pub mod process;
pub mod reaper;
pub mod rootfs;
pub mod sandbox;

mod agent;
mod capabilities;
mod handed;
#[allow(unsafe_code)] // an allocator, which tells the kernel what is to become of its pages
pub mod heap;
mod hooks;
mod ids;
mod kept;
mod kernel;
mod locked;
mod memory_file;
mod namespaces;
mod net_device;
mod own;
#[allow(unsafe_code)] // one wait that fills in one structure
mod peek;
#[allow(unsafe_code)] // one system call that takes numbers
mod pidfd;
#[allow(unsafe_code)] // one system call that fails
mod seccomp_flags;
#[allow(unsafe_code)] // maps memory of its own, and gives it out piece by piece
pub mod shared;
mod spawn;
mod state;
mod subject;
pub mod timing;
#[allow(unsafe_code)] // keeps by type what tokio asks as a promise
pub mod watch;

pub use container::Container;
pub use error::{Error, Kind, Result};
pub use process::{Descriptors, Exit, Process, Stdio};
pub use sandbox::Sandbox;
pub use timing::Timing;
