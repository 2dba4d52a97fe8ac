//! `HOME` for an environment that has none: the user's directory by the container's own /etc/passwd, as runc and crun give
//! it and images expect it.
//!
//! Read here and not in the parent, for the file is the image's, or whatever the container has mounted there: it may be a
//! device whose opening does something, or lie on a file system (FUSE) that never answers. Here, the container's device
//! rules hold already, and who waits is a child that can be killed.

use core::sync::atomic::{AtomicU8, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, ResolveFlags, fstat};
use rustix::io::Errno;

use crate::ops::{Work, paths};

const PASSWD: &core::ffi::CStr = c"/etc/passwd";

/// More than any real passwd file has; the rest is not looked at.
const PASSWD_BYTES: usize = 1 << 20;

/// passwd(5): `name:password:uid:gid:gecos:directory:shell`, counted from 0.
const UID: u32 = 2;
const DIRECTORY: u32 = 5;

impl Work<'_> {
    /// Puts `uid`'s home directory behind the `HOME=` of the environment: `/` for a user without an entry.
    pub(super) fn home(&mut self, uid: u32) {
        let mut search = Search::new(uid, self.program.home);
        let found = self.open_passwd().is_ok_and(|file| read(&file, &mut search));
        if !found {
            search.store(0, b'/');
            search.store(1, 0);
        }
    }

    /// Looked at before it is opened, and again when it is: only a regular file is read.
    fn open_passwd(&mut self) -> Result<OwnedFd, Errno> {
        let regular = |file: &OwnedFd| {
            let is_one = FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::RegularFile;
            if is_one { Ok(()) } else { Err(Errno::INVAL) }
        };
        let root = self.root()?;
        regular(&paths::open_in(root, PASSWD, OFlags::empty())?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = paths::look_up(root, PASSWD, flags, ResolveFlags::IN_ROOT)?;
        regular(&file)?;
        Ok(file)
    }
}

/// Whether the directory was found.
#[inline(never)]
fn read(file: &OwnedFd, search: &mut Search<'_>) -> bool {
    let mut buffer = [0_u8; 4096];
    let mut seen: usize = 0;
    while seen < PASSWD_BYTES {
        let Ok(length @ 1..) = rustix::io::read(file, &mut buffer) else { break };
        seen = seen.saturating_add(length);
        if buffer.iter().take(length).any(|byte| search.feed(*byte)) {
            return true;
        }
    }
    // The last line may lack its end.
    search.feed(b'\n')
}

/// Where in a passwd file we are. Its first line with the user's id and a directory is the one.
struct Search<'a> {
    uid: u32,
    home: &'a [AtomicU8],
    /// Which field of the line the next byte is of.
    field: u32,
    /// The line's id so far; none where that is no number.
    id: Option<u32>,
    /// Whether the id has a digit.
    digits: bool,
    /// How many bytes of the directory were seen.
    length: usize,
}

impl<'a> Search<'a> {
    fn new(uid: u32, home: &'a [AtomicU8]) -> Self {
        Self { uid, home, field: 0, id: Some(0), digits: false, length: 0 }
    }

    /// Takes the next byte; whether the directory is found, and stored.
    fn feed(&mut self, byte: u8) -> bool {
        match byte {
            b':' | b'\n' if self.is_found() => {
                self.store(self.length, 0);
                return true;
            }
            b'\n' => *self = Self::new(self.uid, self.home),
            b':' => self.field = self.field.saturating_add(1),
            _ if self.field == UID => {
                let digit = char::from(byte).to_digit(10);
                self.id = self.id.and_then(|id| id.checked_mul(10)?.checked_add(digit?));
                self.digits = true;
            }
            _ if self.field == DIRECTORY && self.is_the_users() => {
                self.store(self.length, byte);
                self.length = self.length.saturating_add(1);
            }
            _ => {}
        }
        false
    }

    fn is_the_users(&self) -> bool {
        self.digits && self.id == Some(self.uid)
    }

    /// One that is empty or does not fit is none.
    fn is_found(&self) -> bool {
        self.field == DIRECTORY && self.is_the_users() && (1..self.home.len()).contains(&self.length)
    }

    fn store(&self, at: usize, byte: u8) {
        if let Some(place) = self.home.get(at) {
            place.store(byte, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Search;

    /// The directory of `uid` and its length; none where nothing is found.
    fn find(passwd: &[u8], uid: u32) -> Option<([u8; 16], usize)> {
        let home = [const { AtomicU8::new(b'x') }; 16];
        let mut search = Search::new(uid, &home);
        if !passwd.iter().chain(b"\n").any(|byte| search.feed(*byte)) {
            return None;
        }
        let bytes = home.each_ref().map(|byte| byte.load(Ordering::Relaxed));
        let length = bytes.iter().position(|byte| *byte == 0).unwrap();
        Some((bytes, length))
    }

    fn check(passwd: &[u8], uid: u32, expected: Option<&str>) {
        let found = find(passwd, uid);
        let found = found.as_ref().map(|(bytes, length)| &bytes[..*length]);
        assert_eq!(found, expected.map(str::as_bytes), "{uid}");
    }

    #[test]
    fn home_is_the_sixth_field_of_the_users_line() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\n\nempty:x:::::\nweb:x:33:33::/var/www:\nnone:x:7:7:::\n\
            long:x:8:8::/0123456789abcdef:\nother:x:8:8::/other:\nbig:x:4294967329:0::/big:\nlast:x:9:9::/last";
        check(passwd, 0, Some("/root"));
        check(passwd, 33, Some("/var/www"));
        check(passwd, 7, None);
        check(passwd, 8, Some("/other"));
        check(passwd, 9, Some("/last"));
        check(passwd, 1, None);
        check(b"", 0, None);
        check(b"a:b:-0:c:d:/e:\nf:g:0:h:i:/fifteen-bytes.:", 0, Some("/fifteen-bytes."));
        check(b"f:g:0:h:i:/sixteen-bytes..:", 0, None);
    }
}
