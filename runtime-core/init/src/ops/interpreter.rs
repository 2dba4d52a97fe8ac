//! Why execve(2) says ENOENT of a program that is there: the interpreter is missing that a script's first line names, or that a
//! dynamic executable has in its PT_INTERP header (elf(5)). The kernel does not tell the two apart, and the user looks for a
//! file that is in plain sight. Typical: a script with CR LF line ends, and a program of glibc in an image of musl.
//!
//! Looked for once execve has failed, so that it costs nothing where all is well. A seccomp filter may refuse to open anything
//! by then, or end the process for it: the failure itself was noted before. It is not the parent that looks: the file is the
//! image's, and may lie on a file system (FUSE) that never answers. A child can be killed.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::pread;

use super::identity::may_execute;
use crate::ops::Failure;
use crate::sync::DETAIL_BYTES;

/// As much of a script as the kernel looks at: `BINPRM_BUF_SIZE`, linux/binfmts.h. No interpreter of an ELF file has a name as
/// long.
const NAME_BYTES: usize = 256;

/// How often an interpreter may be a script itself: `exec_binprm` of fs/exec.c.
const DEEPEST: u32 = 5;

/// Enough for an ELF header and the program headers behind it, where linkers put them: one read for most programs. Of headers
/// elsewhere as many are looked at; PT_INTERP has to come before all that is loaded.
const HEAD_BYTES: usize = 1024;

/// elf.h
const PT_INTERP: u64 = 3;

/// What a name is the interpreter of.
enum Of {
    Script,
    Elf,
}

/// What execve(2) of `path` fails with for its interpreter's sake; the detail is the interpreter's name. None where all is well,
/// and where nothing can be said.
pub(super) fn failure(path: &CStr) -> Option<Failure> {
    trace(path, DEEPEST)
}

#[inline(never)]
fn trace(path: &CStr, deeper: u32) -> Option<Failure> {
    let mut buffer = [0; NAME_BYTES];
    let of = read(path, &mut buffer)?;
    let name = CStr::from_bytes_until_nul(&buffer).ok()?;
    match (may_execute(name), of) {
        (Err(errno), _) => {
            let mut detail = [0; DETAIL_BYTES];
            detail.iter_mut().zip(name.to_bytes()).for_each(|(to, from)| *to = *from);
            Some(Failure { errno, detail })
        }
        (Ok(()), Of::Script) => trace(name, deeper.checked_sub(1)?),
        (Ok(()), Of::Elf) => None,
    }
}

/// Puts the interpreter of the program at `path` into `name`, with a NUL behind it. It was a regular file a moment ago; a fifo in
/// its place is neither waited for nor read.
fn read(path: &CStr, name: &mut [u8; NAME_BYTES]) -> Option<Of> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).ok()?;
    let mut head = [0; HEAD_BYTES];
    pread(&file, &mut head, 0).ok()?;
    if let Some(line) = head.get(..NAME_BYTES)?.strip_prefix(b"#!") {
        script(line, name)?;
        Some(Of::Script)
    } else if head.starts_with(b"\x7fELF") {
        elf(&file, &head, name)?;
        Some(Of::Elf)
    } else {
        None
    }
}

/// The name in a script's first line, `line` being what follows `#!`. As fs/binfmt_script.c reads it: one that does not end
/// within the head is none.
fn script(line: &[u8], name: &mut [u8]) -> Option<()> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line.get(line.iter().position(|byte| !is_blank(byte))?..)?;
    let end = line.iter().position(|byte| is_blank(byte) || matches!(byte, b'\n' | 0))?;
    let found = line.get(..end).filter(|found| !found.is_empty())?;
    name.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
    Some(())
}

/// Where the fields lie that we need, and how many bytes each has.
struct Layout {
    table: (usize, usize),
    entries: (usize, usize),
    entry_bytes: usize,
    offset: (usize, usize),
    size: (usize, usize),
}

/// `Elf32_Ehdr` and `Elf32_Phdr`, elf.h.
const ELF_32: Layout = Layout { table: (28, 4), entries: (44, 2), entry_bytes: 32, offset: (4, 4), size: (16, 4) };

/// `Elf64_Ehdr` and `Elf64_Phdr`, elf.h.
const ELF_64: Layout = Layout { table: (32, 8), entries: (56, 2), entry_bytes: 56, offset: (8, 8), size: (32, 8) };

/// The name in the PT_INTERP of an ELF file that begins with `head`.
fn elf(file: &OwnedFd, head: &[u8], name: &mut [u8]) -> Option<()> {
    const CLASS: usize = 4;
    let layout = match head.get(CLASS)? {
        1 => ELF_32,
        2 => ELF_64,
        _ => return None,
    };
    let (place, count) = (number(head, layout.table)?, usize::try_from(number(head, layout.entries)?).ok()?);
    let start = usize::try_from(place).ok()?;
    let end = start.checked_add(count.checked_mul(layout.entry_bytes)?)?;
    let mut elsewhere = [0; HEAD_BYTES];
    let table = if let Some(table) = head.get(start..end) {
        table
    } else {
        pread(file, &mut elsewhere, place).ok()?;
        &elsewhere
    };
    let mut entries = table.chunks_exact(layout.entry_bytes).take(count);
    let entry = entries.find(|entry| number(entry, (0, 4)) == Some(PT_INTERP))?;
    let length = usize::try_from(number(entry, layout.size)?).ok()?;
    // It ends with a NUL.
    let name = name.get_mut(..length)?;
    pread(file, name, number(entry, layout.offset)?).ok()?;
    Some(())
}

/// A field of `size` bytes at `at`, in the machine's own order: the kernel executes no other file.
fn number(bytes: &[u8], (at, size): (usize, usize)) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    match size {
        2 => Some(u16::from_ne_bytes(field.try_into().ok()?).into()),
        4 => Some(u32::from_ne_bytes(field.try_into().ok()?).into()),
        _ => Some(u64::from_ne_bytes(field.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES, script};

    #[test]
    fn a_scripts_interpreter_is_what_the_kernel_takes_for_it() {
        for (line, expected) in [
            (&b"/bin/sh\nrest"[..], Some(&b"/bin/sh"[..])),
            (b" \t/bin/sh -e\n", Some(b"/bin/sh")),
            (b"/bin/sh\r\n", Some(b"/bin/sh\r")),
            (b"/usr/bin/env\tsh\n", Some(b"/usr/bin/env")),
            (b"/bin/sh\0", Some(b"/bin/sh")),
            (b"\n/bin/sh\n", None),
            (b"  \n", None),
            (b"", None),
            (b"/no/end", None),
        ] {
            let mut name = [0; NAME_BYTES];
            let found = script(line, &mut name).map(|()| core::ffi::CStr::from_bytes_until_nul(&name).unwrap());
            assert_eq!(found.map(core::ffi::CStr::to_bytes), expected, "{line:?}");
        }
    }
}
