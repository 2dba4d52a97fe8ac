//! `hostname` and `domainname`, config.md: names that belong to a UTS namespace, `uts_namespaces(7)`.
//!
//! Setting one without a UTS namespace of the container's own would rename the host.

use crate::container::{Namespace, NamespaceKind};
use crate::refuse::Refusal;
use crate::spec::namespaces;

/// `__NEW_UTS_LEN` of the kernel: sethostname(2) takes no more.
const LONGEST: usize = 64;

pub(crate) fn resolve(name: Option<&str>, namespaces: &[Namespace]) -> Result<Option<String>, Refusal> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.len() > LONGEST {
        return Err(Refusal::new("", format!("longer than {LONGEST} bytes")));
    }
    if !namespaces::has_own(namespaces, NamespaceKind::Uts) {
        return Err(Refusal::new("", "needs a uts namespace other than the runtime's"));
    }
    Ok(Some(name.to_owned()))
}
