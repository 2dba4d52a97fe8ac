//! Device nodes, fifos and symbolic links: what /dev is made of. Each is made in an opened directory by its bare name, and
//! what is there already is looked at, never trusted.

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::ops::Work;
use crate::step::Text;

impl Work<'_> {
    pub(super) fn make_node(
        &mut self,
        path: Text,
        mode: u32,
        (major, minor): (u32, u32),
        (uid, gid): (u32, u32),
    ) -> Result<(), Errno> {
        let kind = FileType::from_raw_mode(mode);
        let permissions = Mode::from_raw_mode(mode);
        let number = makedev(major, minor);
        self.in_parent(path, |parent, name| {
            match mknodat(parent, name, kind, permissions, number) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    let same = FileType::from_raw_mode(there.st_mode) == kind && there.st_rdev == number;
                    return if same { Ok(()) } else { Err(Errno::EXIST) };
                }
                Err(errno) => return Err(errno),
            }
            // The name was made a moment ago in a directory that nobody else can write before the program runs.
            chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
            chmodat(parent, name, permissions, AtFlags::empty())
        })
    }

    pub(super) fn make_link(&mut self, target: Text, path: Text) -> Result<(), Errno> {
        let target = self.str(target)?;
        self.in_parent(path, |parent, name| match symlinkat(target, parent, name) {
            Err(Errno::EXIST) => {
                unlinkat(parent, name, AtFlags::empty())?;
                symlinkat(target, parent, name)
            }
            done => done,
        })
    }
}
