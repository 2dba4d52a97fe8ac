//! Bytes to validated values: `config.json` and runtime options in, resolved [`Container`], [`Process`] and [`Options`]
//! out. Changes nothing on the machine, and knows nothing of containerd; of the machine it only looks at the files that the
//! configuration names as namespaces, and at what is to be bound over /proc.
//!
//! Every default is filled in here and every refusal is made here, with the JSON pointer of the field at fault, so that
//! what comes out can be carried out as it stands. `oci-spec` is used inside this crate only: its types are what a user
//! may write, ours are what a runtime must do.
//!
//! Read [`container`] first (the shapes), then [`bundle`] (the way in), then `spec` (field by field).

pub mod bundle;
pub mod container;
pub mod features;
pub mod id;
pub mod ids;
mod json;
pub mod options;
pub mod pod;
pub mod refuse;
pub mod resources;
pub mod sandbox;
mod spec;

pub use bundle::Bundle;
pub use container::{Container, Process};
pub use id::ContainerId;
pub use options::Options;
pub use pod::Pod;
pub use refuse::Refusal;
pub use resources::Resources;
pub use sandbox::{Sandbox, SandboxRequest};
