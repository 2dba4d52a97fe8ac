//! One value for one cgroup file, and how a list of them is carried out.

use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Kind, Result};

/// A value to be written to a file of the cgroup, by one write(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// `memory.max`: what stands before the first dot names the controller.
    pub(super) file: String,
    pub(super) value: String,
    pub(super) missing: Missing,
}

/// What to do on a kernel that lacks the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The value cannot be honoured: an error.
    Refuse,
    /// What it asks for holds without the file.
    Skip,
    /// Another file has the same meaning.
    Instead(Box<Write>),
}

impl Write {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts, most of them temporary")]
    pub(super) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self { file: file.into(), value: value.to_string(), missing: Missing::Refuse }
    }

    #[must_use]
    pub(super) fn or_skip(self) -> Self {
        Self { missing: Missing::Skip, ..self }
    }

    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self { missing: Missing::Instead(Box::new(other)), ..self }
    }

    pub(super) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// Carries out `writes` in order; `directory` says where a controller's files are.
///
/// Some values bound each other (memory and memory with swap; quota, period and burst), and which must go first depends on
/// what the cgroup has now. What the kernel finds invalid is tried once more after all others: then it fits or is wrong.
pub(super) fn apply<'a>(writes: &[Write], directory: impl Fn(&str) -> Option<&'a Path>) -> Result<()> {
    apply_by(writes, directory, &mut put)
}

/// As [`apply`], by `set` in place of [`put`].
pub(super) fn apply_by<'a>(
    writes: &[Write],
    directory: impl Fn(&str) -> Option<&'a Path>,
    set: &mut dyn FnMut(&Path, &str) -> nix::Result<()>,
) -> Result<()> {
    let mut later = Vec::new();
    for write in writes {
        match carry_out(write, &directory, set)? {
            Err((_, Errno::EINVAL)) => later.push(write),
            done => done.map_err(refused)?,
        }
    }
    later.into_iter().try_for_each(|write| carry_out(write, &directory, set)?.map_err(refused))
}

fn refused((write, errno): (&Write, Errno)) -> Error {
    Error::sys(format_args!("write {} to {}", write.value, write.file), errno)
}

/// The outer error is final, the inner one is the kernel's answer to the value, and which file gave it.
fn carry_out<'a, 'w>(
    write: &'w Write,
    directory: &impl Fn(&str) -> Option<&'a Path>,
    set: &mut dyn FnMut(&Path, &str) -> nix::Result<()>,
) -> Result<std::result::Result<(), (&'w Write, Errno)>> {
    let answer = match directory(write.controller()) {
        Some(directory) => set(&directory.join(&write.file), &write.value),
        None => Err(Errno::ENOENT),
    };
    match (answer, &write.missing) {
        (Err(Errno::ENOENT), Missing::Skip) => Ok(Ok(())),
        (Err(Errno::ENOENT), Missing::Instead(other)) => carry_out(other, directory, set),
        (Err(Errno::ENOENT), Missing::Refuse) => {
            let text = format!("write {} to {}: not to be had on this host", write.value, write.file);
            Err(Error::new(Kind::Unimplemented, text))
        }
        (answer, _) => Ok(answer.map_err(|errno| (write, errno))),
    }
}

/// Writes `value` to an existing file, by one write(2).
pub(super) fn put(path: &Path, value: &str) -> nix::Result<()> {
    let opened = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let written = opened.and_then(|file| rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes())));
    written.map(drop).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_refused_skipped_or_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("io.weight"), "").unwrap();
        let run = |write: Write| apply(&[write], |controller| (controller == "io").then_some(scratch.path()));
        let error = run(Write::new("io.bfq.weight", 5)).unwrap_err();
        assert_eq!(error.to_string(), "write 5 to io.bfq.weight: not to be had on this host");
        assert_eq!(run(Write::new("rdma.max", 5)).unwrap_err().kind(), Kind::Unimplemented);
        run(Write::new("rdma.max", 5).or_skip()).unwrap();
        std::fs::create_dir(scratch.path().join("io.full")).unwrap();
        let error = run(Write::new("io.none", 5).or(Write::new("io.full", 6))).unwrap_err();
        assert!(error.to_string().starts_with("write 6 to io.full: EISDIR"), "the file that refused: {error}");
        run(Write::new("io.bfq.weight", 5).or(Write::new("io.weight", "default 7"))).unwrap();
        assert_eq!(std::fs::read_to_string(scratch.path().join("io.weight")).unwrap(), "default 7");
    }
}
