//! The one harness of every test: private containerds to test on, images and specs to run, and a look at what a test
//! leaves behind.
//!
//! Reading order: [`containerd`] (a private daemon, any release), [`image`] (a busybox image made here, no network),
//! [`ctr`] (the command line), [`leftovers`] (nothing may stay behind); then, for tests that speak gRPC, [`suite`] (how a
//! test runs once per release), [`client`] (containers and execs as values),
//! [`spec`], [`stdio`] and [`events`].
//!
//! [`bundle`] runs single bundles through an OCI command line instead; [`cgroups`] reads what the kernel says of their limits,
//! and [`holder`] has namespaces to join. [`node`] runs shims alone, without a containerd, for what [`measure`]s them, [`strace`]s
//! them, or has [`mounts`] around them; [`readme`] has the parts of the README that a program writes. [`oracle`] asks the same of
//! real clients with runc and with this shim, and [`cri`] is what a kubelet talks to.
//!
//! Environment: `OCI` (the command line that runs bundles, ours by default), `RUNTIME` (default `io.containerd.myshim.v2`; the same tests pass on `io.containerd.runc.v2`), `SHIM` (the
//! binary to test), `LAB` (where further containerds live), `CONTAINERD` (which releases, such as `1.6,2.4`),
//! `CLIENTS_STATE` (the directory of a lab of clients that is up: `scripts/clients`),
//! `OOM_KILLS` (how many containers `containerd_resources` has killed for want of memory on each containerd),
//! `SLOWER` (how many times slower than usual the machine is: an emulated one is 5 to 20).

#![allow(clippy::missing_panics_doc, reason = "what a test does not expect is its end")]

pub mod bundle;
pub mod cgroups;
#[cfg(feature = "client")]
pub mod client;
pub mod containerd;
pub mod cri;
pub mod ctr;
#[cfg(feature = "client")]
pub mod events;
pub mod holder;
pub mod image;
pub mod leftovers;
pub mod measure;
pub mod mounts;
pub mod node;
#[cfg(feature = "client")]
pub mod oracle;
pub mod readme;
#[cfg(feature = "client")]
pub mod spec;
#[cfg(feature = "client")]
pub mod stdio;
pub mod strace;
#[cfg(feature = "client")]
pub mod suite;

/// The runtime under test, by containerd's name for it.
pub fn runtime() -> String {
    std::env::var("RUNTIME").unwrap_or_else(|_| "io.containerd.myshim.v2".to_owned())
}

/// Whether the runtime under test is the distribution's, on which the tests themselves are proven.
pub fn is_runc() -> bool {
    runtime() == "io.containerd.runc.v2"
}

/// How many times slower the machine is than those that the limits are made for.
pub fn slower() -> u32 {
    std::env::var("SLOWER").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Asks `done` every few milliseconds until it says yes, for at most `limit` (more on a slower machine); false when it never did. For what another
/// process brings about and nobody announces: a socket that appears, a process that ends.
pub fn wait_until(limit: std::time::Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() > limit * slower() {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The digest as lower-case hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    use sha2::Digest as _;
    let mut hex = String::new();
    for byte in sha2::Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
