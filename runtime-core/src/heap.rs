//! The heap, which no child has any use for: all that it reads lies in memory of its own (see `shared`). And what of it, and
//! of the stack, nobody has any use for while nothing is done.
//!
//! A fork marks every page of the parent's for copying, and the parent then pays a fault for each that it writes to: some
//! sixty of them an exec, as much as the rest of the fork. So the heap stays behind, MADV_DONTFORK of madvise(2), for as
//! long as a fork of ours takes and no longer: a fork by others, as std's for a hook, needs it. And what is not in a child
//! cannot be read there by anybody in its container.
//!
//! For that it has to lie in one place: [`Heap`] is an allocator, dlmalloc, whose pages follow each other. A program that
//! does not make it its `#[global_allocator]` has forks that copy its heap, and nothing else is different.
//!
//! It is the heap of one thread (D4) and has no lock: in a profile of an exec the lock took more than dlmalloc did. Another thread
//! that asks for memory ends the program.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlmalloc::{Allocator, Dlmalloc};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect};

const PAGE: usize = 4096;
/// More than any of our work takes of the stack. The kernel keeps far more below a stack free of all else (128 MB, mmap(2)).
const STACK: usize = 64 * PAGE;

/// How far the heap can grow: addresses, which cost nothing until they are made accessible.
const LIMIT: usize = 1 << 30;

/// Where it lies, once something was allocated, and how much of it dlmalloc has.
static START: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);

static HEAP: OfOneThread = OfOneThread(UnsafeCell::new(Dlmalloc::new_with_allocator(Arena)));

/// Whose it is: where that thread has its `MARK`, once it has allocated something.
static OWNER: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Is in another place for each thread.
    static MARK: u8 = const { 0 };
}

/// The allocator.
#[derive(Debug)]
pub struct Heap;

/// What only the owner may look at.
struct OfOneThread(UnsafeCell<Dlmalloc<Arena>>);

/// Where dlmalloc's memory comes from: one row of pages, which grows and shrinks at its end.
struct Arena;

/// Does `work`, whose forks have no heap.
pub(crate) fn stays_behind<T>(work: impl FnOnce() -> T) -> T {
    let before = USED.load(Ordering::Relaxed);
    advise(before, Advice::LinuxDontFork);
    let done = work();
    // What was given back meanwhile too: it may be taken again.
    advise(before.max(USED.load(Ordering::Relaxed)), Advice::LinuxDoFork);
    done
}

/// Gives back to the kernel what is free, of the heap and of the stack: whoever needs it again pays a fault a page.
#[inline(never)] // `here` must not lie in a caller's frame, which may go on for pages below it
pub fn give_back() {
    trim();
    let here = 0_u8;
    // Behind the pages that this function and the call below stand on.
    let end = (ptr::from_ref(&here).addr() & !(PAGE - 1)) - PAGE;
    // SAFETY: nobody's but the stack's own, and below our frame, a few words, none is in use.
    let _ = unsafe { madvise(ptr::with_exposed_provenance_mut(end - STACK), STACK, Advice::LinuxDontNeed) };
}

/// Gives back to the kernel what is free at the end of the heap: after work that has taken far more than all else does.
pub(crate) fn trim() {
    if is_owner() {
        // SAFETY: we are the owner, and what is in use is not moved.
        unsafe { (*HEAP.0.get()).trim(0) };
    }
}

/// For so many bytes of the row. Where the kernel refuses, children have a heap; that costs time alone.
fn advise(bytes: usize, advice: Advice) {
    if bytes > 0 {
        let start = ptr::with_exposed_provenance_mut(START.load(Ordering::Relaxed));
        // SAFETY: the heap's own pages; our view of them does not change, and children of `stays_behind` use none of them.
        let _ = unsafe { madvise(start, bytes, advice) };
    }
}

/// What tells this thread from all others.
fn us() -> usize {
    MARK.with(|mark| ptr::from_ref(mark).addr())
}

/// Whether this is the thread whose heap it is; without an atomic read-modify-write, which is what a lock costs.
fn is_owner() -> bool {
    OWNER.load(Ordering::Relaxed) == us()
}

/// The heap, of whoever asks first.
fn owned() -> *mut Dlmalloc<Arena> {
    if !is_owner() {
        own();
    }
    HEAP.0.get()
}

#[cold]
fn own() {
    if OWNER.compare_exchange(0, us(), Ordering::Relaxed, Ordering::Relaxed).is_err() {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"a second thread asks for memory\n");
        std::process::abort();
    }
}

// SAFETY: whoever comes by `owned` is always the same thread, and whoever comes otherwise asks `is_owner`.
unsafe impl Sync for OfOneThread {}

// SAFETY: dlmalloc's own promises, of one instance in one thread. None of its calls comes back to us.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's, as for the three below.
        unsafe { (*owned()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*owned()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { (*owned()).free(at, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        unsafe { (*owned()).realloc(at, layout.size(), layout.align(), new_size) }
    }
}

/// The row's address, reserved when it is first asked for.
fn start() -> Option<usize> {
    let start = START.load(Ordering::Relaxed);
    if start != 0 {
        return Some(start);
    }
    // SAFETY: new addresses wherever there is room, so nobody else's are touched.
    let at = unsafe { mmap_anonymous(ptr::null_mut(), LIMIT, ProtFlags::empty(), MapFlags::PRIVATE) };
    let start = at.ok()?.expose_provenance();
    START.store(start, Ordering::Relaxed);
    Some(start)
}

// SAFETY: every region given out is new, or was given back whole; all of them are in the row, which is never unmapped.
unsafe impl Allocator for Arena {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        const NONE: (*mut u8, usize, u32) = (ptr::null_mut(), 0, 0);
        let used = USED.load(Ordering::Relaxed);
        let Some(start) = start().filter(|_| size <= LIMIT - used) else { return NONE };
        let at: *mut u8 = ptr::with_exposed_provenance_mut(start + used);
        // SAFETY: the row's own pages, of which nobody has had these.
        if unsafe { mprotect(at.cast(), size, MprotectFlags::READ | MprotectFlags::WRITE) }.is_err() {
            return NONE;
        }
        USED.store(used + size, Ordering::Relaxed);
        (at, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, at: *mut u8, old_size: usize, new_size: usize) -> bool {
        let (start, used) = (START.load(Ordering::Relaxed), USED.load(Ordering::Relaxed));
        if at.addr() + old_size != start + used {
            return false;
        }
        // SAFETY: dlmalloc gives these pages up.
        let freed = unsafe { madvise(at.add(new_size).cast(), old_size - new_size, Advice::LinuxDontNeed) }.is_ok();
        if freed {
            USED.store(used - (old_size - new_size), Ordering::Relaxed);
        }
        freed
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    const BIG: Layout = Layout::new::<[u8; 1 << 20]>();

    /// How a child ends that reads `byte`.
    fn end_of_reader(byte: *const u8) -> WaitStatus {
        // SAFETY: the child does no more than read and exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => unsafe { nix::libc::_exit(byte.read_volatile().into()) },
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        }
    }

    #[test]
    fn children_have_no_heap_unless_others_fork_them_and_what_is_free_goes_back() {
        // SAFETY: allocated and freed once, by its layout.
        unsafe {
            let byte = Heap.alloc(BIG);
            byte.write(7);
            let used = USED.load(Ordering::Relaxed);
            assert!(matches!(stays_behind(|| end_of_reader(byte)), WaitStatus::Signaled(_, Signal::SIGSEGV, _)));
            assert!(matches!(end_of_reader(byte), WaitStatus::Exited(_, 7)));
            Heap.dealloc(byte, BIG);
            trim();
            assert!(USED.load(Ordering::Relaxed) + BIG.size() <= used + PAGE);
            let zeros = Heap.alloc_zeroed(BIG);
            assert_eq!(zeros.read(), 0);
            Heap.dealloc(zeros, BIG);
        }
    }
}
