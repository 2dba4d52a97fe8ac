//! Descriptors that the caller of `start` forgot to close, called before `start` has opened any of its own.
//!
//! containerd marks its own close-on-exec; other callers may not. A server that lives for weeks must not hold a stranger's
//! files, and containerd waits for its pipes to be closed by everyone. One system call, `close_range(2)`, Linux 5.9.

use syscalls::{Sysno, syscall};

/// Closes every descriptor but 0, 1 and 2.
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in `start`, before this process has opened anything: no descriptor above 2 has an owner
    // here, and close_range touches no memory.
    let result = unsafe { syscall!(Sysno::close_range, 3, u32::MAX, 0) };
    debug_assert!(result.is_ok(), "close_range: {result:?}");
}
