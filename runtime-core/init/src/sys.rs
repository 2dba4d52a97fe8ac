//! System calls that rustix has no safe face for, and nothing else.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::AtomicI32;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use syscalls::{Sysno, syscall};

use crate::setting::Scheduler;
use crate::step::{Attributes, Instruction, OwnStrings};

/// `CLONE_NEWNS` and its kin fit in 32 bits; these are the ones we name here. linux/sched.h.
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const AT_EMPTY_PATH: u32 = 0x1000;
const AT_RECURSIVE: u32 = 0x8000;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;

/// The flags of the clone(2) that forks a sibling.
pub(crate) const SIBLING: u64 = CLONE_PARENT | CLONE_PARENT_SETTID;

/// linux/mount.h `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// linux/sched.h `struct clone_args`, version 2 (5.7: cgroup).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// linux/filter.h `struct sock_fprog`.
#[repr(C)]
struct FilterProgram {
    len: u16,
    filter: *const Instruction,
}

/// The kernel's `struct sigaction` with SIG_DFL, no flags, empty mask: four words on every architecture we run on.
const DEFAULT_ACTION: [u64; 4] = [0; 4];

/// The same with SIG_IGN.
const IGNORE_ACTION: [u64; 4] = [1, 0, 0, 0];

/// Turns a raw result into rustix's error.
fn result(value: Result<usize, syscalls::Errno>) -> Result<usize, Errno> {
    value.map_err(|e| Errno::from_raw_os_error(e.into_raw()))
}

/// Which side of a fork we are on.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one: the child's pid, and its pidfd where it was asked for.
    Parent(i32, Option<OwnedFd>),
}

/// What a new process is to its maker.
pub(crate) enum Kinship<'a> {
    /// Its child, with a pidfd, born in this v2 cgroup if one is given, and in new namespaces (`CLONE_NEW*`).
    Child(Option<BorrowedFd<'a>>, u64),
    /// Its parent's child, whose pid is written there before it runs.
    Sibling(&'a AtomicI32),
}

/// Forks: memory is copied, nothing is shared. Signal handlers are reset in a child, with clone3(2). A sibling is forked by a
/// process that has none, and with clone(2): a seccomp filter may be at work by then, and cannot look into what clone3(2) is
/// given, so that the usual profiles refuse that one.
///
/// The exit signal is 0, and a sibling inherits it: until execve sets it to SIGCHLD (fs/exec.c, `de_thread`) such a child
/// is invisible to a wait without `__WALL`, so that the sweep for strangers cannot take it before its pid is known.
///
/// # Safety
/// The child may only run code of this crate: it has one thread of possibly many, and their locks as they were.
pub(crate) unsafe fn fork(kinship: &Kinship<'_>) -> Result<Fork, Errno> {
    let mut pidfd: RawFd = -1;
    let pid = match kinship {
        // SAFETY: the pid lives through the call; without CLONE_VM the child has its own copy of the stack it returns on.
        Kinship::Sibling(pid) => result(unsafe { syscall!(Sysno::clone, SIBLING, 0, pid.as_ptr(), 0, 0) })?,
        Kinship::Child(cgroup, namespaces) => {
            let pidfd = ptr::from_mut(&mut pidfd).expose_provenance().try_into().map_err(|_| Errno::INVAL)?;
            let flags = CLONE_CLEAR_SIGHAND | CLONE_PIDFD | *namespaces;
            let mut args = CloneArgs { flags, pidfd, ..CloneArgs::default() };
            if let Some(cgroup) = cgroup {
                args.flags |= CLONE_INTO_CGROUP;
                args.cgroup = cgroup.as_raw_fd().try_into().map_err(|_| Errno::BADF)?;
            }
            // SAFETY: `args` is a valid clone_args and lives through the call; for the rest as above.
            result(unsafe { syscall!(Sysno::clone3, ptr::from_ref(&args), size_of::<CloneArgs>()) })?
        }
    };
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel stored a new descriptor that nobody else owns.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok(Fork::Parent(pid.try_into().map_err(|_| Errno::INVAL)?, pidfd))
}

/// Ends the process at once, without destructors.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: takes a number.
    let _ = unsafe { syscall!(Sysno::exit_group, code) };
    // A seccomp profile has refused it, as it may refuse every call. An instruction that does not exist is no call: the kernel
    // ends the process with SIGILL, and a pid 1 too, for all handlers were reset.
    //
    // SAFETY: ends the process.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("ud2", options(noreturn));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("udf #0", options(noreturn));
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, read without entering the kernel: clock_gettime(2), vdso(7).
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// The caller's own pid.
pub(crate) fn own_pid() -> usize {
    // SAFETY: takes nothing, cannot fail.
    unsafe { syscall!(Sysno::getpid) }.unwrap_or_default()
}

/// The pid of the caller's parent.
pub(crate) fn parent_pid() -> usize {
    // SAFETY: takes nothing, cannot fail.
    unsafe { syscall!(Sysno::getppid) }.unwrap_or_default()
}

/// Waits for a signal.
pub(crate) fn pause() {
    // SAFETY: no file is watched, no time and no mask given.
    let _ = unsafe { syscall!(Sysno::ppoll, 0, 0, 0, 0, 8) };
}

/// Resets every signal to its default action, ignored ones too (clone3 resets only handlers), then unblocks all.
pub(crate) fn reset_signals() {
    for signal in 1..=64_usize {
        // SAFETY: reads one constant action. Errors (SIGKILL, SIGSTOP) are expected.
        let _ = unsafe { syscall!(Sysno::rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), 0, 8) };
    }
    let empty = 0_u64;
    // SAFETY: reads one mask (SIG_SETMASK = 2).
    let _ = unsafe { syscall!(Sysno::rt_sigprocmask, 2, ptr::from_ref(&empty), 0, 8) };
}

/// Ignores SIGCHLD (17 on every architecture we run on).
pub(crate) fn ignore_children() -> Result<(), Errno> {
    // SAFETY: reads one constant action.
    result(unsafe { syscall!(Sysno::rt_sigaction, 17, IGNORE_ACTION.as_ptr(), 0, 8) }).map(|_| ())
}

/// Blocks all signals and returns the mask there was.
pub(crate) fn block_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0_u64;
    // SAFETY: reads one mask and writes one.
    let _ = unsafe { syscall!(Sysno::rt_sigprocmask, 2, ptr::from_ref(&all), ptr::from_mut(&mut before), 8) };
    before
}

/// Sets the signal mask.
pub(crate) fn restore_signals(mask: u64) {
    // SAFETY: reads one mask.
    let _ = unsafe { syscall!(Sysno::rt_sigprocmask, 2, ptr::from_ref(&mask), 0, 8) };
}

/// mount_setattr(2) on an open mount: attributes and, where not 0, propagation.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    set_mount(mount, c"", AT_EMPTY_PATH, attributes, propagation, recursive)
}

/// mount_setattr(2) on what is mounted at a host path; a symbolic link in the last place is not followed.
pub(crate) fn mount_setattr_at(path: &CStr, propagation: u64, recursive: bool) -> Result<(), Errno> {
    set_mount(rustix::fs::CWD, path, AT_SYMLINK_NOFOLLOW, Attributes::default(), propagation, recursive)
}

fn set_mount(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: u32,
    attributes: Attributes,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attr = MountAttr { attr_set: attributes.set, attr_clr: attributes.clear, propagation, userns_fd: 0 };
    let flags = flags | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: path and attr are valid for the call and only read.
    let done = unsafe {
        syscall!(
            Sysno::mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            ptr::from_ref(&attr),
            size_of::<MountAttr>()
        )
    };
    result(done).map(|_| ())
}

/// setns(2) into the namespaces of `target` that `kinds` names.
pub(crate) fn setns(target: BorrowedFd<'_>, kinds: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers; this process has one thread and keeps no state of the namespaces it leaves.
    result(unsafe { syscall!(Sysno::setns, target.as_raw_fd(), kinds) }).map(|_| ())
}

/// unshare(2)
pub(crate) fn unshare(kinds: u32) -> Result<(), Errno> {
    // SAFETY: takes a number; as above.
    result(unsafe { syscall!(Sysno::unshare, kinds) }).map(|_| ())
}

/// close_range(2) over both ends and what lies between.
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers. What is closed belongs to objects of the parent's memory, of which this process has a copy that
    // it never uses: children run this crate only, and it refers to files by the numbers of its program.
    result(unsafe { syscall!(Sysno::close_range, first, last, 0) }).map(|_| ())
}

/// Of seccomp(2): the call returns a descriptor.
const SECCOMP_FILTER_FLAG_NEW_LISTENER: u32 = 1 << 3;

/// seccomp(2): loads a filter for this thread, which is the only one. Returns the listener where one was asked for.
pub(crate) fn load_filter(filter: &[Instruction], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    let len = filter.len().try_into().map_err(|_| Errno::INVAL)?;
    let program = FilterProgram { len, filter: filter.as_ptr() };
    // SAFETY: the program is valid for the call; the kernel copies it.
    let done = result(unsafe { syscall!(Sysno::seccomp, SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program)) })?;
    if flags & SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let listener = done.try_into().map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel answered with a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

/// execve(2). Returns only the error.
///
/// # Safety
/// `argv` and `envp` end with a null pointer and their other entries point to NUL-terminated strings.
pub(crate) unsafe fn execute(path: &CStr, argv: &[*const u8], envp: &[*const u8]) -> Errno {
    // SAFETY: the caller's promise.
    match result(unsafe { syscall!(Sysno::execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) }) {
        Ok(_) => Errno::INVAL,
        Err(errno) => errno,
    }
}

/// setgroups(2) for this thread, which is the only one.
pub(crate) fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: reads the list.
    result(unsafe { syscall!(Sysno::setgroups, groups.len(), groups.as_ptr()) }).map(|_| ())
}

/// How many supplementary groups this process has: getgroups(2) with no room.
pub(crate) fn group_count() -> Result<usize, Errno> {
    // SAFETY: with a size of 0 nothing is written.
    result(unsafe { syscall!(Sysno::getgroups, 0, 0) })
}

/// setresgid(2), then setresuid(2), all three ids each.
pub(crate) fn set_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers.
    result(unsafe { syscall!(Sysno::setresgid, gid, gid, gid) })?;
    // SAFETY: takes numbers.
    result(unsafe { syscall!(Sysno::setresuid, uid, uid, uid) }).map(|_| ())
}

/// sched_setattr(2) on this thread, which is the only one.
pub(crate) fn set_scheduler(attributes: &Scheduler) -> Result<(), Errno> {
    // SAFETY: reads one struct sched_attr of the size that it states.
    result(unsafe { syscall!(Sysno::sched_setattr, 0, ptr::from_ref(attributes), 0) }).map(|_| ())
}

/// ioprio_set(2) on this process.
pub(crate) fn set_io_priority(priority: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    // SAFETY: takes numbers.
    result(unsafe { syscall!(Sysno::ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(|_| ())
}

/// sched_setaffinity(2) on this thread; bits beyond what the kernel was built for are ignored.
pub(crate) fn set_affinity(cpus: &[u64]) -> Result<(), Errno> {
    // SAFETY: reads the slice.
    result(unsafe { syscall!(Sysno::sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) }).map(|_| ())
}

/// personality(2)
pub(crate) fn set_personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: takes a number.
    result(unsafe { syscall!(Sysno::personality, persona) }).map(|_| ())
}

/// set_mempolicy(2). The kernel looks at one bit less than it is told of; no node at all is no pointer.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let bits = size_of_val(nodes).saturating_mul(8).saturating_add(1);
    let nodes = if nodes.is_empty() { ptr::null() } else { nodes.as_ptr() };
    // SAFETY: reads the slice, or nothing.
    result(unsafe { syscall!(Sysno::set_mempolicy, mode, nodes, bits) }).map(|_| ())
}

/// prlimit64(2) on this process.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: reads one struct rlimit64.
    result(unsafe { syscall!(Sysno::prlimit64, 0, resource, limit.as_ptr(), 0) }).map(|_| ())
}

/// Raises a hard limit of this process, if it is lower, and leaves the soft one.
pub(crate) fn raise_rlimit(resource: u32, hard: u64) -> Result<(), Errno> {
    let mut limit = [0_u64; 2];
    // SAFETY: writes one struct rlimit64.
    result(unsafe { syscall!(Sysno::prlimit64, 0, resource, 0, limit.as_mut_ptr()) })?;
    let [soft, there] = limit;
    if there < hard { set_rlimit(resource, soft, hard) } else { Ok(()) }
}

/// prctl(2) with numbers only; returns what it returns.
pub(crate) fn prctl(option: u32, a: u64, b: u64) -> Result<usize, Errno> {
    // SAFETY: only options that take numbers are passed.
    result(unsafe { syscall!(Sysno::prctl, option, a, b, 0, 0) })
}

/// PR_SET_NAME: what /proc/PID/comm says, up to 15 bytes of it.
pub(crate) fn set_name(name: &CStr) -> Result<(), Errno> {
    const PR_SET_NAME: u32 = 15;
    // SAFETY: reads a string.
    result(unsafe { syscall!(Sysno::prctl, PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(|_| ())
}

/// Replaces what this process is shown to have been executed with: the command line by `name`, and the environment by nothing.
///
/// The kernel shows as many bytes as there were; but where the last of them is not NUL it takes that for setproctitle(3), and
/// shows what stands there up to the first NUL (fs/proc/base.c, `get_mm_cmdline`). To move the bounds, PR_SET_MM of prctl(2),
/// takes a right that few have. Where there is no room for the name the line is empty.
///
/// # Safety
/// `own` is right or empty, and nobody in this process reads those strings.
pub(crate) unsafe fn overwrite(own: &OwnStrings, name: &CStr) {
    for (start, end) in [own.environment, own.arguments].into_iter().filter(|(start, end)| start < end) {
        // SAFETY: the caller's promise; the kernel has made both writable.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0, end.saturating_sub(start)) };
    }
    let ((start, end), name) = (own.arguments, name.to_bytes_with_nul());
    if end.saturating_sub(start) > name.len() {
        let line = ptr::with_exposed_provenance_mut::<u8>(start);
        // SAFETY: as above, with room for one byte more.
        unsafe {
            line.copy_from_nonoverlapping(name.as_ptr(), name.len());
            ptr::with_exposed_provenance_mut::<u8>(end.saturating_sub(1)).write(1);
        }
    }
}

/// Gives back the memory of the stack's frames between this one and the command line, a copy of the parent's.
///
/// # Safety
/// `own` is right or empty, and whoever calls returns to none of those frames and reads nothing that lies there.
pub(crate) unsafe fn forget_callers(own: &OwnStrings) {
    const PAGE: usize = 4096;
    const MADV_DONTNEED: usize = 4;
    let here = ptr::from_ref(&own).addr();
    // The caller's own frame may reach into the next page.
    let start = here.next_multiple_of(PAGE).saturating_add(PAGE);
    let end = own.arguments.0 & !PAGE.saturating_sub(1);
    if start < end {
        // SAFETY: the caller's promise.
        let _ = unsafe { syscall!(Sysno::madvise, start, end.saturating_sub(start), MADV_DONTNEED) };
    }
}

/// capset(2) on this thread, version 3: low words, then high words.
pub(crate) fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    let header = [LINUX_CAPABILITY_VERSION_3, 0];
    let [e, p, i] = [effective, permitted, inheritable].map(halves);
    let data = [e.0, p.0, i.0, e.1, p.1, i.1];
    // SAFETY: reads a header and two data blocks.
    result(unsafe { syscall!(Sysno::capset, header.as_ptr(), data.as_ptr()) }).map(|_| ())
}

/// A mask as its low and high 32 bits.
fn halves(mask: u64) -> (u32, u32) {
    let low = mask & u64::from(u32::MAX);
    // Neither can be out of range; a saturated mask would be refused by the kernel.
    (u32::try_from(low).unwrap_or(u32::MAX), u32::try_from(mask >> 32).unwrap_or(u32::MAX))
}

/// getcwd(2) into `buffer`; says only whether it lies below this process's root ("(unreachable)/…" does not).
#[inline(never)]
pub(crate) fn cwd_is_reachable() -> Result<bool, Errno> {
    let mut buffer = [0_u8; 4096];
    // SAFETY: writes at most the buffer's length.
    result(unsafe { syscall!(Sysno::getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(buffer.first() == Some(&b'/'))
}

/// Joins the session keyring `name` and sets its permissions: keyctl(2).
pub(crate) fn join_session_keyring(name: &CStr, permissions: Option<u32>) -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    const KEYCTL_SETPERM: u32 = 5;
    // SAFETY: reads a string that ends.
    let keyring = result(unsafe { syscall!(Sysno::keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    let Some(permissions) = permissions else { return Ok(()) };
    // SAFETY: takes numbers.
    result(unsafe { syscall!(Sysno::keyctl, KEYCTL_SETPERM, keyring, permissions) }).map(|_| ())
}

/// Sets IFF_UP on `lo`: netdevice(7).
pub(crate) fn loopback_up() -> Result<(), Errno> {
    const SIOCSIFFLAGS: u32 = 0x8914;
    const IFF_UP: u16 = 1;
    /// linux/if.h `struct ifreq` with its flags; the union is 24 bytes.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().zip(b"lo") {
        *to = *from;
    }
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: reads one ifreq.
    result(unsafe { syscall!(Sysno::ioctl, socket.as_raw_fd(), SIOCSIFFLAGS, ptr::from_ref(&request)) }).map(|_| ())
}

/// The descriptor `fd`, borrowed for as long as it is open: only `Step::CloseOthers` closes what a child was handed, and no step
/// after it uses any of that.
pub(crate) fn borrow(fd: RawFd) -> Result<BorrowedFd<'static>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1, and opened by the parent; a number that is closed by then is an error of the call that uses it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// dup2(2) onto a number of the program's, 0 to 2 or a preserved one, which nobody owns as an object.
pub(crate) fn duplicate_onto(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    // SAFETY: replaces what no object holds; dup3 with no flags clears close-on-exec.
    result(unsafe { syscall!(Sysno::dup3, fd.as_raw_fd(), number, 0) }).map(|_| ())
}
