//! Mount points out of /proc/self/mountinfo; `proc_pid_mountinfo(5)`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount points strictly below `path` (absolute, without links), in the table's order: a mount follows what carries it.
pub(super) fn points_below(table: &[u8], path: &Path) -> Vec<PathBuf> {
    options_below(table, path).into_iter().map(|(point, _)| point).collect()
}

/// The same with the options of each mount, those of its file system left out.
pub(crate) fn options_below(table: &[u8], path: &Path) -> Vec<(PathBuf, String)> {
    let below = |(point, _): &(PathBuf, String)| point != path && point.starts_with(path);
    table.split(|&byte| byte == b'\n').filter_map(mount).filter(below).collect()
}

/// The options of the mount with this number.
pub(crate) fn options_of(table: &[u8], mount: u64) -> Option<String> {
    let is_it = |line: &&[u8]| line.starts_with(format!("{mount} ").as_bytes());
    Some(self::mount(table.split(|&byte| byte == b'\n').find(is_it)?)?.1)
}

fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|&byte| byte == b' ').skip(4);
    let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    Some((point, String::from_utf8_lossy(fields.next()?).into_owned()))
}

/// Space, tab, newline and backslash are written as three octal digits: `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if byte == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_counts() {
        let table = b"31 23 0:28 / /a rw - tmpfs tmpfs rw\n32 31 0:29 / /a/b\\040c rw - tmpfs tmpfs rw\n\
            33 31 0:30 / /a/b\\040c/d\\134e rw - tmpfs tmpfs rw\n34 31 0:31 / /ab rw - tmpfs tmpfs rw\nbroken\n";
        let points = points_below(table, Path::new("/a"));
        assert_eq!(points, [Path::new("/a/b c"), Path::new("/a/b c/d\\e")]);
        assert_eq!(options_of(table, 32).as_deref(), Some("rw"));
        assert_eq!(options_of(table, 3), None);
        let options = options_below(table, Path::new("/a/b c"));
        assert_eq!(options, [(Path::new("/a/b c/d\\e").to_owned(), "rw".to_owned())]);
    }
}
