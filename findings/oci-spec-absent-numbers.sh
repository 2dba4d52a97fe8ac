#!/bin/bash
# The crate oci-spec 0.10.0 reads some members of config.json otherwise than the runtime specification 1.3 has them. Each input
# here is valid by the specification's JSON schema, but for the last, which the schema refuses and the crate takes:
#
#   "pids": {}                              no limit is named; read as the limit 0
#   "hugepageLimits"[].limit 2^64-1         the schema says uint64; refused, for the crate has an i64
#   "rlimits"[] without "hard"              a required member; read as 0, a limit of nothing
#
# So a runtime that takes what the crate gives it lets such a container have one process, or no open file.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"

[dependencies]
oci-spec = { version = "=0.10.0", default-features = false, features = ["runtime"] }
serde_json = "=1.0.145"
TOML
cat >"$dir/src/main.rs" <<'RUST'
use oci_spec::runtime::{LinuxHugepageLimit, LinuxResources, PosixRlimit};

fn main() {
    let resources: LinuxResources = serde_json::from_str(r#"{"pids": {}}"#).unwrap();
    println!("pids: {:?}", resources.pids().map(|pids| pids.limit()));
    let huge = r#"{"pageSize": "2MB", "limit": 18446744073709551615}"#;
    println!("hugepage limit: {}", serde_json::from_str::<LinuxHugepageLimit>(huge).unwrap_err());
    let limit: PosixRlimit = serde_json::from_str(r#"{"type": "RLIMIT_NOFILE", "soft": 1024}"#).unwrap();
    println!("hard: {}", limit.hard());
}
RUST
seen=$(cd "$dir" && CARGO_TARGET_DIR="$dir/target" cargo run --quiet)
expected='pids: Some(0)
hugepage limit: invalid value: integer `18446744073709551615`, expected i64 at line 1 column 49
hard: 0'
echo "$seen"
[ "$seen" = "$expected" ] || { echo "oci-spec 0.10.0 did something else than before" >&2; exit 1; }
