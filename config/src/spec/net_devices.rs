//! `linux.netDevices`, config-linux.md "Network Devices": devices of the host's that move into the container.

use std::collections::HashMap;

use oci_spec::runtime as oci;

use crate::container::{Namespace, NamespaceKind, NetDevice};
use crate::refuse::{At, Refusal, token};
use crate::spec::namespaces::has_own;

/// `IFNAMSIZ` of linux/if.h, less the NUL.
const LONGEST: usize = 15;

/// Resolves to devices in the order of their names on the host.
pub(super) fn resolve(
    devices: Option<&HashMap<String, oci::LinuxNetDevice>>,
    namespaces: &[Namespace],
) -> Result<Vec<NetDevice>, Refusal> {
    // Sorted, so that of several faults always the same one is told.
    let mut given: Vec<_> = devices.into_iter().flatten().collect();
    given.sort_unstable_by_key(|(host, _)| *host);
    if !given.is_empty() && !has_own(namespaces, NamespaceKind::Network) {
        return Err(Refusal::new("", "needs a network namespace other than the runtime's"));
    }
    given.into_iter().map(|(host, device)| resolve_one(host, device).at(&token(host))).collect()
}

fn resolve_one(host: &str, device: &oci::LinuxNetDevice) -> Result<NetDevice, Refusal> {
    valid(host)?;
    let name = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
    valid(name).at("/name")?;
    // What the kernel takes for a template has one `%d` and no other `%`.
    if name != host && name.replacen("%d", "", 1).contains('%') {
        return Err(Refusal::new("/name", format!("{name:?}: a template has one %d and no other %")));
    }
    Ok(NetDevice { host: host.to_owned(), name: name.to_owned() })
}

/// The kernel's rule: net/core/dev.c, `dev_valid_name`.
fn valid(name: &str) -> Result<(), Refusal> {
    let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\x0b';
    if name.is_empty() || name.len() > LONGEST || matches!(name, "." | "..") || name.contains(bad) {
        return Err(Refusal::new("", format!("{name:?} is not the name of a network device")));
    }
    Ok(())
}
