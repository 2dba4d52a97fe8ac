//! `HOME` for an environment that has none: the user's directory by the container's own /etc/passwd, as runc and crun
//! give it and images expect it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// What a user without an entry gets.
const FALLBACK: &str = "/";

/// More than any real passwd file; the rest is not looked at.
const PASSWD_BYTES: u64 = 1 << 20;

/// The home directory of `uid` in the file system below `root` (a host path, or `/proc/PID/root`).
pub(crate) fn directory(root: &Path, uid: u32) -> String {
    let Some(file) = open_passwd(root) else { return FALLBACK.to_owned() };
    let mut text = Vec::new();
    let _ = std::fs::File::from(file).take(PASSWD_BYTES).read_to_end(&mut text);
    find(&String::from_utf8_lossy(&text), uid).unwrap_or(FALLBACK).to_owned()
}

/// Opened below the root whatever its links say, and read only if it is a regular file: a fifo there must not hold us up.
fn open_passwd(root: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&root, "etc/passwd", flags, Mode::empty(), resolve).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(file)
}

/// passwd(5): `name:password:uid:gid:gecos:directory:shell`.
fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (id == uid && !home.is_empty()).then_some(home)
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn home_is_the_sixth_field_of_the_users_line() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:\nnone:x:7:7:::\n";
        assert_eq!(find(passwd, 0), Some("/root"));
        assert_eq!(find(passwd, 33), Some("/var/www"));
        assert_eq!(find(passwd, 7), None);
        assert_eq!(find(passwd, 1), None);
    }
}
