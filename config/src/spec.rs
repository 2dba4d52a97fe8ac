//! config.json field by field: `oci_spec` types to ours.
