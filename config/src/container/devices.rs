//! `linux.devices`, `linux.netDevices`. (config-linux.md#devices, #network-devices)

use std::path::PathBuf;

/// `linux.devices[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Absolute in the container.
    pub path: PathBuf,
    /// Character, block or fifo.
    pub kind: DeviceKind,
    /// Zero for a fifo.
    pub major: u32,
    /// Zero for a fifo.
    pub minor: u32,
    /// Permission bits (0666 where the spec leaves them out).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `linux.devices[].type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`, and `u`
    Character,
    /// `b`
    Block,
    /// `p`
    Fifo,
}

/// `linux.netDevices{}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; a `%d` in it stands for the first number that is free.
    pub name: String,
}
