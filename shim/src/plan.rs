//! `plan BUNDLE`: prints what would be done for a bundle's container, step by step and in the words of error messages, and
//! does none of it. For people: no containerd is needed, and no right but to read.

use std::path::Path;

use config::{Bundle, ContainerId};
use runtime_core::{Error, Kind, Result, container};

/// Prints the plan of the bundle at `path`. The directory's name stands for the container's id.
#[inline(never)]
pub(crate) fn plan(path: Option<&str>) -> Result<()> {
    let path = path.ok_or_else(|| Error::new(Kind::Invalid, "plan: name a bundle directory"))?;
    let bundle = Path::new(path).canonicalize().map_err(|e| Error::io(format!("open bundle {path}"), &e))?;
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let spec = Bundle::read(&bundle, &ContainerId::new(name)?)?;
    let lines = container::explain(&spec)?;
    crate::print(format!("{}\n", lines.join("\n")).as_bytes())
}
