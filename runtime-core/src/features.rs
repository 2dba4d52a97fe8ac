//! What this runtime can do, told before there is any container: the features object of the runtime spec's features.md.
//!
//! `-info` of the shim and `features` of the OCI command line print it. `config` says what it accepts; here is filled in
//! what is decided later, and taken away what libseccomp refuses of an accepted profile.

use config::container::{Seccomp, SeccompAction};
use serde_json::{Value, json};

use crate::cgroup::systemd::annotations;
use crate::plan::seccomp;
use crate::seccomp_flags;

/// The one flag that not every kernel has which we run on.
const WAIT_KILLABLE_RECV: &str = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";

/// The features object.
pub fn document() -> Value {
    let mut document = config::features::document();
    document["potentiallyUnsafeConfigAnnotations"] = json!([annotations::PREFIX]);
    let cgroup = &mut document["linux"]["cgroup"];
    cgroup["v1"] = json!(true);
    cgroup["v2"] = json!(true);
    // Of a user's systemd nothing is asked: the runtime is the machine's.
    cgroup["systemdUser"] = json!(false);
    if let Some(architectures) = document["linux"]["seccomp"]["archs"].as_array_mut() {
        architectures.retain(|name| name.as_str().is_some_and(compiles));
    }
    let known = document["linux"]["seccomp"]["knownFlags"].as_array().cloned().unwrap_or_default();
    let supported = known.into_iter().filter(|name| name != WAIT_KILLABLE_RECV || seccomp_flags::waits_killable());
    document["linux"]["seccomp"]["supportedFlags"] = supported.collect();
    document
}

/// libseccomp takes the architectures that it knows, and of these the ones with the machine's byte order.
fn compiles(architecture: &str) -> bool {
    let profile = Seccomp {
        default_action: SeccompAction::Allow,
        architectures: vec![architecture.to_owned()],
        flags: 0,
        rules: Vec::new(),
        listener: None,
    };
    seccomp::compile(&profile).is_ok()
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn only_what_libseccomp_takes_is_claimed() {
        let document = document();
        let claimed = document["linux"]["seccomp"]["archs"].as_array().unwrap();
        assert!(claimed.contains(&"SCMP_ARCH_X86_64".into()) && claimed.contains(&"SCMP_ARCH_AARCH64".into()));
        // Of the other byte order than any machine that this is built for.
        assert!(!claimed.contains(&"SCMP_ARCH_S390X".into()), "{claimed:?}");
    }

    #[test]
    fn the_flags_are_those_of_the_kernel() {
        let seccomp = document()["linux"]["seccomp"].take();
        let flags = |name| -> Vec<String> { serde_json::from_value(seccomp[name].clone()).unwrap() };
        let uname = rustix::system::uname();
        let release: Vec<u32> =
            uname.release().to_string_lossy().split('.').take(2).map(|part| part.parse().unwrap_or(0)).collect();
        let mut known = flags("knownFlags");
        known.retain(|flag| release >= vec![5, 19] || !flag.ends_with("WAIT_KILLABLE_RECV"));
        assert_eq!(flags("supportedFlags"), known);
        assert!(known.contains(&"SECCOMP_FILTER_FLAG_LOG".to_owned()));
    }
}
