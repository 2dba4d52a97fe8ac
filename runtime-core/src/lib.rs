//! Resolved values to kernel state: a container's plan, its two forks, its mounts, its cgroup. Knows nothing of
//! containerd; the shim and the `oci` command line both stand on it.
//!
//! Reading order: [`container`] (what callers use), [`plan`] (pure: what will be done), [`spawn`] (the parent's side of
//! the double fork), the `init` crate (the children's side), [`process`] (a running one), [`cgroup`], [`rootfs`].

pub mod cgroup;
pub mod container;
pub mod error;
pub mod plan;
pub mod process;
pub mod reaper;
pub mod rootfs;

pub use container::Container;
pub use error::{Error, Kind, Result};
pub use process::{Exit, Process, Stdio};
