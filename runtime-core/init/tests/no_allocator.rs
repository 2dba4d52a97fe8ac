//! The promise that everything here rests on: no code of this crate can allocate or take a lock, because it refers to no
//! allocator and no threads. Looked up in the compiled crate itself.

use std::path::PathBuf;
use std::process::Command;

/// The newest compiled form of this crate beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let beside = std::fs::read_dir(test.parent().expect("it is in a directory")).expect("which can be read");
    let ours = beside.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libinit-") && path.extension().is_some_and(|extension| extension == "rlib")
    });
    let built = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    ours.max_by_key(built).expect("libinit-*.rlib stands beside its tests")
}

#[test]
fn no_symbol_of_an_allocator_or_of_threads() {
    let nm = Command::new("nm").arg("--undefined-only").arg(library()).output().expect("nm, of binutils");
    let symbols = String::from_utf8_lossy(&nm.stdout);
    assert!(symbols.contains("memcpy"), "nm printed no symbols that a Rust crate always has: {symbols}");
    let forbidden = ["__rust_alloc", "__rust_realloc", "__rdl_alloc", "5alloc", "pthread_"];
    let found: Vec<_> = symbols.lines().filter(|line| forbidden.iter().any(|word| line.contains(word))).collect();
    assert!(found.is_empty(), "{found:#?}");
}
