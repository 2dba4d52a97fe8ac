//! A number in memory that is shared with forked children, where the kernel writes a pid at the moment of a fork.

use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicI32;

use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Mapped memory comes in pages.
const BYTES: usize = 4096;

/// 0 at first; the same for us and for all who are forked while it is there.
#[derive(Debug)]
pub(crate) struct Shared {
    at: NonNull<AtomicI32>,
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
    type Target = AtomicI32;

    fn deref(&self) -> &AtomicI32 {
        // SAFETY: mapped, aligned and zeroed by the kernel, until drop; changed elsewhere only as one word at a time.
        unsafe { self.at.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: ours since `new`, and no borrow outlives us.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), BYTES) };
    }
}
