//! What the specification knows and this runtime cannot do: refused by its pointer, so that nobody believes it done.
//!
//! A field leaves this file in the change that makes it work.

use oci_spec::runtime as oci;

use crate::refuse::Refusal;

/// Fields of config.json itself and of `linux`.
pub(super) fn in_spec(spec: &oci::Spec) -> Result<(), Refusal> {
    refuse_if(spec.vm().is_some(), "/vm", "virtual machines are")?;
    match spec.linux() {
        Some(linux) => in_linux(linux),
        None => Ok(()),
    }
}

/// Intel RDT stays here until there is a machine to prove it on. The file protocol is short, but what makes it right is what the
/// kernel says to it (how many groups there are, which schemata it takes, what a group that is full answers), and directories
/// that stand in for a resctrl would only say what we believe.
fn in_linux(linux: &oci::Linux) -> Result<(), Refusal> {
    refuse_if(linux.intel_rdt().is_some(), "/linux/intelRdt", "Intel RDT is")
}

fn refuse_if(given: bool, pointer: &str, what: &str) -> Result<(), Refusal> {
    if given { Err(Refusal::unsupported(pointer, what)) } else { Ok(()) }
}
