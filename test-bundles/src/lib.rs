#![doc = "x"]
pub mod bundle;
