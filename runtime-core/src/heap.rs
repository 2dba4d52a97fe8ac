//! The heap, which no child has any use for: all that it reads lies in memory of its own (see `shared`). And what of it, and
//! of the stack, nobody has any use for while nothing is done.
//!
//! A fork marks every page of the parent's for copying, and the parent then pays a fault for each that it writes to: some
//! sixty of them an exec, as much as the rest of the fork. So the heap stays behind, MADV_DONTFORK of madvise(2), for as
//! long as a fork of ours takes and no longer: a fork by others, as std's for a hook, needs it. And what is not in a child
//! cannot be read there by anybody in its container.

use std::cell::OnceCell;
use std::fs;
use std::ptr;

use nix::libc;
use rustix::mm::{Advice, madvise};

const PAGE: usize = 4096;
/// More than any of our work takes of the stack. The kernel keeps far more below a stack free of all else (128 MB, mmap(2)).
const STACK: usize = 64 * PAGE;

/// Does `work`, whose forks have no heap.
pub(crate) fn stays_behind<T>(work: impl FnOnce() -> T) -> T {
    advise(Advice::LinuxDontFork);
    let done = work();
    advise(Advice::LinuxDoFork);
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

/// Gives back to the kernel what is free of the heap: after work that has taken far more than all else does.
pub(crate) fn trim() {
    // SAFETY: takes a number; whatever is in use stays where it is.
    unsafe { libc::malloc_trim(0) };
}

/// Where the kernel refuses, children have a heap; that costs time alone.
fn advise(advice: Advice) {
    thread_local!(static START: OnceCell<Option<usize>> = const { OnceCell::new() });
    let Some(start) = START.with(|start| *start.get_or_init(start_of_heap)) else { return };
    // SAFETY: moves nothing.
    let end = unsafe { libc::sbrk(0) }.addr() & !(PAGE - 1);
    if start < end {
        // SAFETY: the heap's own pages; our view of them does not change, and children of `stays_behind` use none of them.
        let _ = unsafe { madvise(ptr::with_exposed_provenance_mut(start), end - start, advice) };
    }
}

/// By proc_pid_maps(5). In a static program the C library's thread descriptor lies at the bottom of the heap, beside our
/// thread-locals: a page or two, which the kernel itself writes to in a child too (rseq(2)).
fn start_of_heap() -> Option<usize> {
    thread_local!(static HERE: u8 = const { 0 });
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[heap]"))?;
    let start = usize::from_str_radix(line.split('-').next()?, 16).ok()?;
    let locals = HERE.with(|here| ptr::from_ref(here).addr());
    let behind = locals.next_multiple_of(PAGE) + 2 * PAGE;
    Some(if (start..start + 16 * PAGE).contains(&locals) { behind } else { start })
}
