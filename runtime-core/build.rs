//! Gives the code that compiles seccomp profiles a name, which is a part of the key of what is cached
//! (`src/plan/seccomp/cache.rs`): another version must not find the programs of this one.
//!
//! And sees to it that the libseccomp which is linked was compiled for the same C library.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let mut files = vec![PathBuf::from("src/plan/seccomp.rs")];
    for entry in fs::read_dir("src/plan/seccomp")? {
        files.push(entry?.path());
    }
    files.sort();
    let libseccomp = PathBuf::from(env::var_os("LIBSECCOMP_LIB_PATH").unwrap_or_default());
    // The versions of the crates that know the system calls, and the library, where it is a file that we are told of.
    files.extend(
        [PathBuf::from("../Cargo.lock"), libseccomp.join("libseccomp.a")].into_iter().filter(|file| file.exists()),
    );
    println!("cargo::rerun-if-changed=src/plan/seccomp");
    let mut hash = DefaultHasher::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        fs::read(file)?.hash(&mut hash);
    }
    println!("cargo::rustc-env=SECCOMP_COMPILER={:016x}", hash.finish());

    println!("cargo::rerun-if-env-changed=LIBSECCOMP_LIB_PATH");
    if libseccomp.ends_with("target/seccomp/host") && env::var_os("TARGET") != env::var_os("HOST") {
        println!("cargo::error=LIBSECCOMP_LIB_PATH is the libseccomp of this machine's C library: see `make build`");
    }
    Ok(())
}
