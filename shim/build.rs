//! Tells the program which commit it is built from, for `-v` and `-info`: `REVISION` where whoever builds it sets that, as a
//! package does, else what git says of the source. A source without a repository of its own, such as a tarball, has none; one
//! that is changed has `.m` behind it, as containerd's own programs have.
//!
//! It runs again when HEAD moves and when a source file changes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is made of, from the root of the workspace.
const SOURCES: [&str; 6] = ["Cargo.lock", "Cargo.toml", "config", "runtime-core", "shim/Cargo.toml", "shim/src"];

/// Of a source of which git knows nothing.
pub(crate) const UNKNOWN: &str = "unknown (built outside of a git repository)";

fn main() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let package = variable("CARGO_MANIFEST_DIR").map(PathBuf::from).expect("cargo sets it");
    let workspace = package.parent().expect("the package lies in the workspace");
    let compiler = Command::new(variable("RUSTC").expect("cargo sets it")).arg("--version").output();
    let compiler = compiler.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();

    println!("cargo:rerun-if-env-changed=REVISION");
    for path in head_files(workspace).into_iter().chain(SOURCES.map(|source| workspace.join(source))) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    println!("cargo:rustc-env=REVISION={}", variable("REVISION").unwrap_or_else(|| revision(workspace)));
    println!("cargo:rustc-env=COMPILER={}", compiler.strip_prefix("rustc ").unwrap_or(&compiler));
}

/// The commit that the source at `workspace` is of.
pub(crate) fn revision(workspace: &Path) -> String {
    // Another repository may have a tarball's content in it: it is none of its commits.
    let root = git(workspace, &["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let is_own = root.is_some_and(|root| root.canonicalize().ok() == workspace.canonicalize().ok());
    let Some(commit) = git(workspace, &["rev-parse", "HEAD"]).filter(|_| is_own) else { return UNKNOWN.to_owned() };
    let mut difference = vec!["status", "--porcelain", "--"];
    difference.extend(SOURCES);
    let changed = git(workspace, &difference).is_none_or(|files| !files.is_empty());
    if changed { commit + ".m" } else { commit }
}

/// The files of the repository that change when HEAD moves; none that is not there, or cargo would run this each time.
fn head_files(workspace: &Path) -> Vec<PathBuf> {
    let reference = git(workspace, &["symbolic-ref", "-q", "HEAD"]).unwrap_or_default();
    let names = ["HEAD", "logs/HEAD", "packed-refs", &reference].into_iter().filter(|name| !name.is_empty());
    let paths = names.filter_map(|name| git(workspace, &["rev-parse", "--git-path", name]));
    paths.map(|path| workspace.join(path)).filter(|path| path.exists()).collect()
}

/// What git prints; none where it fails, or is not there.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
