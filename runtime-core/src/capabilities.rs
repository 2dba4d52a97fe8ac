//! Which capabilities a container's processes can have. config.md "Linux Process": those that the kernel has not, or that the
//! runtime cannot grant because it has not got them itself, are left out with a warning; a container does without.

use std::sync::OnceLock;

use caps::CapSet;
use config::container::{Capabilities, Namespace, NamespaceKind};

use crate::kernel;

/// A mask of them: in a user namespace of the container's all that the kernel knows, else what the runtime may pass on.
pub(crate) fn grantable(namespaces: &[Namespace]) -> u64 {
    if namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User) { known() } else { own() }
}

/// Tells which of `sets` are not in `grantable`. `place` is the pointer to the process.
pub(crate) fn warn(sets: &Capabilities, grantable: u64, place: &str) {
    let Capabilities { bounding, effective, inheritable, permitted, ambient } = *sets;
    let denied = (bounding | effective | inheritable | permitted | ambient) & !grantable;
    if denied == 0 {
        return;
    }
    for capability in caps::all().into_iter().filter(|capability| capability.bitmask() & denied != 0) {
        log::warn!("{place}/capabilities: {capability} cannot be granted by this runtime, left out");
    }
}

fn known() -> u64 {
    u64::MAX >> (63 - kernel::last_capability().min(63))
}

fn own() -> u64 {
    static OWN: OnceLock<u64> = OnceLock::new();
    *OWN.get_or_init(|| {
        let mask = |set| caps::read(None, set).ok().map(|set| set.iter().fold(0, |mask, one| mask | one.bitmask()));
        match (mask(CapSet::Permitted), mask(CapSet::Bounding)) {
            (Some(permitted), Some(bounding)) => permitted & bounding,
            // The kernel will say it.
            _ => known(),
        }
    })
}
