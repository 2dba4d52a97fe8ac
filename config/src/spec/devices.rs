//! `linux.devices`, config-linux.md "Devices"; mknod(2).

use std::path::PathBuf;

use nix::libc::S_IFMT;
use oci_spec::runtime as oci;

use crate::container::{Device, DeviceKind};
use crate::ids;
use crate::refuse::{At, Refusal};
use crate::spec::paths;

/// The greatest numbers that the kernel's device number holds: 12 bits of major, 20 of minor.
const MAJOR_MAX: u32 = (1 << 12) - 1;
const MINOR_MAX: u32 = (1 << 20) - 1;

/// Where the spec leaves `fileMode` out it does not say what then; this is what runtimes agree on.
const DEFAULT_MODE: u32 = 0o666;

pub(super) fn resolve(devices: &[oci::LinuxDevice]) -> Result<Vec<Device>, Refusal> {
    devices.iter().enumerate().map(|(index, device)| one(device).at_index(index)).collect()
}

fn one(device: &oci::LinuxDevice) -> Result<Device, Refusal> {
    let kind = match device.typ() {
        oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => DeviceKind::Character,
        oci::LinuxDeviceType::B => DeviceKind::Block,
        oci::LinuxDeviceType::P => DeviceKind::Fifo,
        oci::LinuxDeviceType::A => return Err(Refusal::new("/type", "no one device is of type a")),
    };
    let (major, minor) = match kind {
        DeviceKind::Fifo => (0, 0),
        DeviceKind::Character | DeviceKind::Block => {
            (number(device.major(), MAJOR_MAX).at("/major")?, number(device.minor(), MINOR_MAX).at("/minor")?)
        }
    };
    Ok(Device {
        path: path(device).at("/path")?,
        kind,
        major,
        minor,
        mode: mode(device.file_mode()).at("/fileMode")?,
        uid: ids::real(device.uid().unwrap_or(0)).at("/uid")?,
        gid: ids::real(device.gid().unwrap_or(0)).at("/gid")?,
    })
}

fn path(device: &oci::LinuxDevice) -> Result<PathBuf, Refusal> {
    let path = paths::clean(&paths::absolute(device.path())?);
    if path.parent().is_none() {
        return Err(Refusal::new("", "names the root directory"));
    }
    Ok(path)
}

fn number(number: i64, max: u32) -> Result<u32, Refusal> {
    match u32::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Refusal::new("", format!("{number} is not 0 to {max}"))),
    }
}

/// Permission bits. The type bits of a stat(2) result are let pass, for some clients copy it whole.
fn mode(mode: Option<u32>) -> Result<u32, Refusal> {
    let mode = mode.unwrap_or(DEFAULT_MODE) & !S_IFMT;
    if mode > 0o7777 {
        return Err(Refusal::new("", format!("{mode} has more than permission bits")));
    }
    Ok(mode)
}
