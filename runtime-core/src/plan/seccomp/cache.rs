//! Compiled programs on disk, shared by all pods of the node.
//!
//! A program read from here decides what a container may do, so a file counts only from a directory that is ours alone, as
//! a file that is ours alone, with a checksum over profile and program. Files are written without a name and linked when
//! whole: a reader sees all or nothing, and a writer that dies leaves nothing.
//!
//! ```text
//! <cache>/<key in hex>:  "seccomp" 0  instruction × n  sha256(key, instructions)
//!                        8 bytes      8 × n bytes      32 bytes
//! ```

use std::fs::{DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use config::container::Seccomp;
use libseccomp::ScmpVersion;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use sha2::{Digest, Sha256};

use super::{Instruction, LONGEST_PROGRAM, instructions};
use crate::error::{Error, Kind, Result};

/// Begins each file.
const MAGIC: [u8; 8] = *b"seccomp\0";

/// Names all of the code that makes a program of a profile, this file and the crates it uses included: see build.rs.
const COMPILER: &str = env!("SECCOMP_COMPILER");
const CHECKSUM: usize = 32;

/// Names a profile together with all that its program depends on.
pub(super) struct Key([u8; 32]);

impl Key {
    fn file_name(&self) -> String {
        self.0.iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
    }
}

/// The key of `profile` under the code that compiles it and libseccomp's version, on this architecture.
///
/// Not the kernel's: what libseccomp compiles does not depend on it, and the directory is gone when another one boots. Not
/// the flags and the listener either, which are no part of the program: pods with one profile and an agent each share it.
pub(super) fn key(profile: &Seccomp) -> Key {
    let Seccomp { default_action, architectures, rules, flags: _, listener: _ } = profile;
    let mut hash = Canonical(Sha256::new());
    MAGIC.hash(&mut hash);
    COMPILER.hash(&mut hash);
    std::env::consts::ARCH.hash(&mut hash);
    // An unknown version is a version of its own.
    let version = ScmpVersion::current().map(|version| (version.major, version.minor, version.micro)).ok();
    version.hash(&mut hash);
    (default_action, architectures, rules).hash(&mut hash);
    Key(hash.0.finalize().into())
}

/// The program of `key`; none where there is no such file.
pub(super) fn load(cache: &Path, key: &Key) -> Result<Option<Vec<Instruction>>> {
    let Some(directory) = open_directory(cache)? else { return Ok(None) };
    let name = key.file_name();
    let path = cache.join(&name);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(&directory, name.as_str(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(Error::sys(format_args!("open {}", path.display()), errno)),
    };
    let loaded = read_program(file, key).map_err(|error| error.context(path.display()));
    if loaded.is_err() {
        // So that the next one finds a good file: [`store`] never replaces.
        let _ = unlinkat(&directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    loaded.map(Some)
}

/// Keeps `program` under `key`. A file that another process put there meanwhile stays.
pub(super) fn store(cache: &Path, key: &Key, program: &[Instruction]) -> Result<()> {
    let failed = |step: &'static str| move |errno| Error::sys(format_args!("{step} {}", cache.display()), errno);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(cache)
        .map_err(|error| Error::io(format_args!("mkdir {}", cache.display()), &error))?;
    let Some(directory) = open_directory(cache)? else { return Ok(()) };
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let mut file =
        File::from(openat(&directory, ".", flags, Mode::from_bits_truncate(0o600)).map_err(failed("open in"))?);
    let body: Vec<u8> = program.iter().flat_map(|instruction| instruction.to_bytes()).collect();
    let bytes = [MAGIC.as_slice(), &body, &checksum(key, &body)].concat();
    file.write_all(&bytes).map_err(|error| Error::io(format_args!("write in {}", cache.display()), &error))?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(AT_FDCWD, unnamed.as_str(), &directory, key.file_name().as_str(), AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failed("link in")(errno)),
    }
}

fn open_directory(cache: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = match open(cache, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(Error::sys(format_args!("open {}", cache.display()), errno)),
    };
    let status = fstat(&directory).map_err(|errno| Error::sys(format_args!("stat {}", cache.display()), errno))?;
    if !is_ours_alone(&status) {
        return Err(Error::new(Kind::System, format!("{}: not ours alone", cache.display())));
    }
    Ok(Some(directory))
}

fn is_ours_alone(status: &FileStat) -> bool {
    let shared = Mode::from_bits_truncate(status.st_mode).intersects(Mode::S_IRWXG | Mode::S_IRWXO);
    status.st_uid == nix::unistd::geteuid().as_raw() && !shared
}

fn read_program(file: OwnedFd, key: &Key) -> Result<Vec<Instruction>> {
    let wrong = |what: &str| Error::new(Kind::System, what);
    let status = fstat(&file).map_err(|errno| Error::sys("stat", errno))?;
    if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG || !is_ours_alone(&status) {
        return Err(wrong("not a file that is ours alone"));
    }
    let longest = MAGIC.len() + LONGEST_PROGRAM * Instruction::SIZE + CHECKSUM;
    let mut bytes = Vec::with_capacity(usize::try_from(status.st_size).unwrap_or_default().min(longest) + 1);
    // One byte more than can be right, so that a file that is too long is seen to be.
    File::from(file).take(longest as u64 + 1).read_to_end(&mut bytes).map_err(|error| Error::io("read", &error))?;
    let body = bytes.strip_prefix(&MAGIC).ok_or_else(|| wrong("not of this version"))?;
    let (body, sum) = body.split_last_chunk::<CHECKSUM>().ok_or_else(|| wrong("too short"))?;
    if *sum != checksum(key, body) {
        return Err(wrong("checksum mismatch"));
    }
    instructions(body).ok_or_else(|| wrong("not a program"))
}

fn checksum(key: &Key, body: &[u8]) -> [u8; CHECKSUM] {
    Sha256::new().chain_update(key.0).chain_update(body).finalize().into()
}

/// Feeds a value's `Hash` into SHA-256. `Hash` is injective for these types (lengths and ends are hashed too), which is all
/// that a key needs; another compiler may hash otherwise and finds an empty cache.
struct Canonical(Sha256);

impl Hasher for Canonical {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken whole, as 32 bytes")
    }
}
