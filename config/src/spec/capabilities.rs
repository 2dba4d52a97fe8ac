//! `process.capabilities`, config.md "Linux Process"; capabilities(7).
//!
//! An absent set is an empty one, and an absent object five of them: nothing is ever inherited from the runtime.

use std::collections::HashSet;

use oci_spec::runtime as oci;

use crate::container::Capabilities;
use crate::refuse::Refusal;

/// Resolves the five sets, and refuses those that capset(2) would refuse with a mere EPERM.
///
/// The ambient set is cut down to what is permitted and inheritable too, as the kernel does itself when either shrinks:
/// `runc spec` writes ambient capabilities without inheritable ones, which can never be raised.
pub(super) fn resolve(sets: Option<&oci::LinuxCapabilities>) -> Result<Capabilities, Refusal> {
    let Some(sets) = sets else { return Ok(Capabilities::default()) };
    let mut masks = Capabilities {
        bounding: mask(sets.bounding().as_ref()),
        effective: mask(sets.effective().as_ref()),
        inheritable: mask(sets.inheritable().as_ref()),
        permitted: mask(sets.permitted().as_ref()),
        ambient: mask(sets.ambient().as_ref()),
    };
    within(masks.effective, masks.permitted, "/effective", "permitted")?;
    // The bounding set is dropped first: after that, capset(2) adds nothing inheritable that is not in it.
    within(masks.inheritable, masks.bounding, "/inheritable", "bounding")?;
    masks.ambient &= masks.permitted & masks.inheritable;
    Ok(masks)
}

fn mask(set: Option<&HashSet<oci::Capability>>) -> u64 {
    set.into_iter().flatten().map(|capability| named(*capability).bitmask()).fold(0, |mask, bit| mask | bit)
}

fn named(capability: oci::Capability) -> caps::Capability {
    format!("CAP_{capability}")
        .parse()
        .expect("caps knows every capability that oci-spec does: a test goes through them")
}

fn within(set: u64, bounds: u64, pointer: &str, name: &str) -> Result<(), Refusal> {
    let beyond = set & !bounds;
    match caps::all()
        .into_iter()
        .filter(|capability| capability.bitmask() & beyond != 0)
        .min_by_key(caps::Capability::index)
    {
        Some(capability) => Err(Refusal::new(pointer, format!("{capability} is not in the {name} set"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn both_crates_know_all_41() {
        for capability in caps::all() {
            let name = format!("\"{capability}\"");
            assert_eq!(named(serde_json::from_str(&name).unwrap()), capability);
        }
        assert_eq!(caps::all().len(), 41);
    }
}
