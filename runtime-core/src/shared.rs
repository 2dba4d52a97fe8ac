//! What forked children have in common with us: the [`Board`], on which they and the kernel write what the parent reads, and
//! behind it all that they are given to read. It is all they have of us beside the program itself and its stack (see `heap`).

use std::cell::Cell;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU8;

use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use init::sync::Board;

/// Each table begins at a multiple of this, which is enough for all that a plan holds.
const ALIGNMENT: usize = 16;

/// Zeros at first; the same memory for us and for all who are forked while it is there.
#[derive(Debug)]
pub struct Shared {
    at: NonNull<Board>,
    bytes: usize,
    /// Up to where it was given out.
    used: Cell<usize>,
}

impl Shared {
    /// With room for `tables` of `bytes` in all.
    pub fn new(tables: usize, bytes: usize) -> Result<Self> {
        let bytes = size_of::<Board>() + bytes + tables * ALIGNMENT;
        // SAFETY: new memory wherever there is room, so nobody else's is touched.
        let at =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) }?;
        let at = NonNull::new(at.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { at, bytes, used: Cell::new(size_of::<Board>()) })
    }

    /// A copy of `items`. Panics where there is no room left.
    pub fn hold<T: Copy>(&self, items: &[T]) -> &[T] {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let to = self.take(size_of_val(items)).cast::<T>();
        // SAFETY: `take` gave out as many bytes, aligned, to nobody else; once written they are only read.
        unsafe {
            ptr::copy_nonoverlapping(items.as_ptr(), to.as_ptr(), items.len());
            std::slice::from_raw_parts(to.as_ptr(), items.len())
        }
    }

    /// `length` zeros that a child may write to. Panics where there is no room left.
    pub fn zeros(&self, length: usize) -> &[AtomicU8] {
        // SAFETY: as above; zeroed by the kernel, and an atomic is written to through a shared reference.
        unsafe { std::slice::from_raw_parts(self.take(length).cast::<AtomicU8>().as_ptr(), length) }
    }

    fn take(&self, bytes: usize) -> NonNull<u8> {
        let start = self.used.get().next_multiple_of(ALIGNMENT);
        self.used.set(start + bytes);
        assert!(self.used.get() <= self.bytes, "whoever made this has counted what it will hold");
        // SAFETY: inside of what was mapped.
        unsafe { self.at.cast::<u8>().add(start) }
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
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}
