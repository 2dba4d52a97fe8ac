//! Stands in for `regex`, which `oci-spec` asks for all of, to check one short string: the tables of Unicode and the machinery
//! for speed are a tenth of the shim, and every pod maps them. `regex-lite` is by the same authors, with the same interface.
//! See `[patch.crates-io]` in the workspace's Cargo.toml.

pub use regex_lite::*;
