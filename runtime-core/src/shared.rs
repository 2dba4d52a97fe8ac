//! The [`Board`] in memory that is shared with forked children, on which they and the kernel write what the parent reads.

use std::ops::Deref;
use std::ptr::{self, NonNull};

use init::sync::Board;
use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Mapped memory comes in pages; one is enough.
const BYTES: usize = 4096;
const _: () = assert!(size_of::<Board>() <= BYTES);

/// All 0 at first; the same for us and for all who are forked while it is there.
#[derive(Debug)]
pub(crate) struct Shared {
    at: NonNull<Board>,
}

impl Shared {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: new memory wherever there is room, so nobody else's is touched.
        let at =
            unsafe { mmap_anonymous(ptr::null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) }?;
        NonNull::new(at.cast()).map(|at| Self { at }).ok_or(Errno::NOMEM)
    }
}

impl Deref for Shared {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: mapped, aligned and zeroed by the kernel, until drop; all of it is atomic, and zeros are valid.
        unsafe { self.at.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: ours since `new`, and no borrow outlives us.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), BYTES) };
    }
}
