//! Limits too tight to get going: a clear error, an end in time, and nothing left.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::time::{Duration, Instant};

use serde_json::json;
use test_bundles::bundle::{Bundle, ours};

#[test]
fn files_fewer_than_are_open() {
    let mut bundle = Bundle::new("paths");
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 3, "hard": 3 }]);
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/late", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] }));
    bundle.probe(&["env", "HOME"]);
    assert_eq!(bundle.seen(), "/");
}

#[test]
fn no_process_at_all() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 1 });
    let ran = bundle.run();
    if ours() && ran.status != 0 {
        assert!(ran.stderr.contains("fork") && ran.stderr.contains("EAGAIN"), "{}", ran.stderr);
    }
}

#[test]
fn memory_too_little_to_start_with() {
    let mut refused = 0;
    for kib in (1..32).map(|step| step * 16) {
        let mut bundle = Bundle::new("cgroup");
        bundle.config["linux"]["resources"]["memory"] = json!({ "limit": kib * 1024 });
        let start = Instant::now();
        let ran = bundle.run();
        assert!(start.elapsed() < Duration::from_secs(30), "{kib} KiB: it hangs");
        if ran.status != 0 {
            refused += 1;
            // Once init runs its own program it is simply killed; before that it is the runtime that fails, and says why.
            let said = ran.stderr.contains("killed by signal 9") || ran.stderr.contains("ENOMEM");
            assert!(!ours() || ran.status == 137 || said, "{kib} KiB: {}", ran.stderr);
        }
    }
    assert!(refused > 0);
}
