//! config.json and exec requests from outside: what is resolved, what is refused and how, and that nothing panics.

mod common;
mod features;
mod fields;
mod mutations;
mod refusals;
mod resolved;
mod samples;
