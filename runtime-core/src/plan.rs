//! A resolved container compiled, purely, into what will be done (D1).

pub mod seccomp;
