//! A path in a buffer of fixed size, to be cut at its slashes: what stands for a `PathBuf` where there is no allocator.

use core::ffi::CStr;

use rustix::io::Errno;

/// PATH_MAX of linux/limits.h, with its NUL.
pub(super) const PATH_BYTES: usize = 4096;

/// At least one byte behind the path is NUL.
pub(super) struct PathBuffer {
    bytes: [u8; PATH_BYTES],
    len: usize,
}

/// Where a component lies in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Component {
    /// Its first byte.
    pub(super) start: usize,
    /// Behind its last byte.
    pub(super) end: usize,
}

impl PathBuffer {
    pub(super) fn new(path: &CStr) -> Result<Self, Errno> {
        Self::joined([path.to_bytes(), b"", b""])
    }

    /// The parts one after the other.
    fn joined(parts: [&[u8]; 3]) -> Result<Self, Errno> {
        let mut joined = Self { bytes: [0; PATH_BYTES], len: 0 };
        for part in parts {
            let end = joined.len.saturating_add(part.len());
            // The last byte stays NUL.
            let place = joined.bytes.get_mut(joined.len..end).filter(|_| end < PATH_BYTES);
            for (to, from) in place.ok_or(Errno::NAMETOOLONG)?.iter_mut().zip(part) {
                *to = *from;
            }
            joined.len = end;
        }
        Ok(joined)
    }

    /// The first component that begins at or after `from`; none at the end of the path.
    pub(super) fn component(&self, from: usize) -> Option<Component> {
        let rest = self.bytes.get(from..self.len)?;
        let start = from.checked_add(rest.iter().position(|b| *b != b'/')?)?;
        let component = self.bytes.get(start..self.len)?;
        let length = component.iter().position(|b| *b == b'/').unwrap_or(component.len());
        Some(Component { start, end: start.checked_add(length)? })
    }

    /// Where the last component starts, trailing slashes not counted.
    pub(super) fn last_component(&self) -> Option<usize> {
        let path = self.bytes.get(..self.len)?;
        let end = path.iter().rposition(|b| *b != b'/')?.checked_add(1)?;
        let slash = path.get(..end)?.iter().rposition(|b| *b == b'/');
        Some(slash.map_or(0, |at| at.saturating_add(1)))
    }

    /// Gives `f` the path up to `end`, NUL-terminated.
    pub(super) fn with_prefix<T>(&mut self, end: usize, f: impl FnOnce(&CStr) -> Result<T, Errno>) -> Result<T, Errno> {
        self.with_part(Component { start: 0, end }, f)
    }

    /// Gives `f` a part of the path, NUL-terminated.
    pub(super) fn with_part<T>(
        &mut self,
        Component { start, end }: Component,
        f: impl FnOnce(&CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let byte = self.bytes.get_mut(end).ok_or(Errno::NAMETOOLONG)?;
        let kept = core::mem::replace(byte, 0);
        let part = self.bytes.get(start..).and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok());
        let result = part.ok_or(Errno::INVAL).and_then(f);
        if let Some(byte) = self.bytes.get_mut(end) {
            *byte = kept;
        }
        result
    }

    /// The path with what a link in the place of `component` says: an absolute one takes the place of all before it, too.
    pub(super) fn replaced(&self, component: Component, target: &CStr) -> Result<Self, Errno> {
        let target = target.to_bytes();
        let start = if target.starts_with(b"/") { 0 } else { component.start };
        let before = self.bytes.get(..start).ok_or(Errno::INVAL)?;
        Self::joined([before, target, self.bytes.get(component.end..self.len).ok_or(Errno::INVAL)?])
    }

    /// Its parent directory's path; of `/`, the same.
    pub(super) fn cut_last(&mut self) {
        let len = self.last_component().unwrap_or(0).saturating_sub(1).max(1);
        self.len = len.min(self.len);
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, PATH_BYTES, PathBuffer};

    fn whole(path: &mut PathBuffer, expected: &core::ffi::CStr) {
        let len = path.len();
        assert_eq!(path.with_prefix(len, |found| Ok(found == expected)), Ok(true));
    }

    #[test]
    fn a_path_is_cut_at_its_slashes() {
        let mut path = PathBuffer::new(c"/a//bc/d/").unwrap();
        let component = |start, end| Some(Component { start, end });
        assert_eq!(path.component(0), component(1, 2));
        assert_eq!(path.component(2), component(4, 6));
        assert_eq!(path.component(6), component(7, 8));
        assert_eq!(path.component(8), None);
        assert_eq!(path.last_component(), Some(7));
        assert_eq!(path.with_prefix(6, |prefix| Ok(prefix == c"/a//bc")), Ok(true));
        assert_eq!(path.with_part(Component { start: 4, end: 6 }, |part| Ok(part == c"bc")), Ok(true));
        assert_eq!(PathBuffer::new(c"///").unwrap().last_component(), None);
        assert_eq!(PathBuffer::new(c"x").unwrap().last_component(), Some(0));
    }

    #[test]
    fn parents_are_cut_off_down_to_the_root() {
        let mut path = PathBuffer::new(c"/a/bc").unwrap();
        for expected in [c"/a", c"/", c"/"] {
            path.cut_last();
            whole(&mut path, expected);
        }
    }

    #[test]
    fn what_a_link_says_takes_its_place() {
        let path = PathBuffer::new(c"/etc/link/below").unwrap();
        let link = Component { start: 5, end: 9 };
        whole(&mut path.replaced(link, c"../run").unwrap(), c"/etc/../run/below");
        whole(&mut path.replaced(link, c"/run").unwrap(), c"/run/below");
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut long = [b'a'; PATH_BYTES];
        *long.last_mut().unwrap() = 0;
        let longest = core::ffi::CStr::from_bytes_with_nul(&long).unwrap();
        let path = PathBuffer::new(longest).unwrap();
        assert_eq!(path.replaced(Component { start: 0, end: 1 }, c"bc").err(), Some(rustix::io::Errno::NAMETOOLONG));
        whole(&mut path.replaced(Component { start: 0, end: PATH_BYTES - 1 }, c"b").unwrap(), c"b");
    }
}
