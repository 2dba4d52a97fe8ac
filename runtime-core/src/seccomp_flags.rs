//! Which flags the kernel's seccomp(2) has. Of those that config.json may name, kernels older than 5.19 lack one.

use nix::libc::{
    EFAULT, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SECCOMP_SET_MODE_FILTER,
};
use syscalls::{Errno, Sysno, syscall};

/// Whether there is `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, which is for filters with a listener.
pub(crate) fn waits_killable() -> bool {
    knows(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | SECCOMP_FILTER_FLAG_NEW_LISTENER)
}

/// Asked without a program: where all flags are known the kernel goes on to look for it (EFAULT), else it says EINVAL.
fn knows(flags: nix::libc::c_ulong) -> bool {
    // SAFETY: the kernel reads a program from a null pointer, which fails; it writes nothing and changes nothing.
    let asked = unsafe { syscall!(Sysno::seccomp, SECCOMP_SET_MODE_FILTER, flags, 0) };
    asked == Err(Errno::new(EFAULT))
}

#[cfg(test)]
mod tests {
    use super::knows;

    #[test]
    fn a_flag_is_known_or_not() {
        assert!(knows(0) && knows(nix::libc::SECCOMP_FILTER_FLAG_LOG));
        assert!(!knows(1 << 30));
    }
}
