//! The promise that everything here rests on: no code of this crate can allocate or take a lock, because it refers to no
//! allocator and no threads. Looked up in the compiled crate itself.

use std::path::PathBuf;
use std::process::Command;

/// The newest compiled form of this crate beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let beside = std::fs::read_dir(test.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let ours = beside.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libinit-") && name.ends_with(".rlib")
    });
    ours.max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("libinit-*.rlib stands beside its tests")
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
