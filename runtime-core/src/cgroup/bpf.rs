//! bpf(2) as far as device filters need it: load a program, find it again by its name, attach it, replace it.
//!
//! Called by `device_filter`. Requests are `union bpf_attr` of linux/bpf.h, filled in by the offsets of its fields, which are
//! ABI. No crate for it: those at hand bring ELF and BTF for what is five requests here.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use syscalls::{Sysno, syscall};

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups above and beside go on to be asked, and a device needs the consent of all.
const ALLOW_MULTI: u32 = 2;
/// Linux 5.6.
const REPLACE: u32 = 4;

/// The kernel attaches no more than this many to one cgroup.
const MOST_PROGRAMS: usize = 64;
/// `struct bpf_prog_info` up to and with its `name`.
const INFO_BYTES: usize = 80;
const INFO_NAME: usize = 64;

/// One instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Class, operation and kind of operand.
    pub(super) code: u8,
    /// The destination in the low half and the source in the high one, as a little-endian machine has them.
    pub(super) registers: u8,
    /// Of a jump: from the next instruction. Of a load: bytes.
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

/// `union bpf_attr`, with room for what later kernels add: some answer in fields that the caller has never heard of.
#[repr(C, align(8))]
struct Request([u8; 256]);

impl Request {
    fn new() -> Self {
        Self([0; 256])
    }

    fn bytes(mut self, offset: usize, value: &[u8]) -> Self {
        self.0[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    fn number(self, offset: usize, value: u32) -> Self {
        self.bytes(offset, &value.to_ne_bytes())
    }

    fn descriptor(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.bytes(offset, &fd.as_raw_fd().to_ne_bytes())
    }

    fn pointer<T>(self, offset: usize, value: *const T) -> Self {
        self.bytes(offset, &(value as u64).to_ne_bytes())
    }

    fn answer(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }

    /// # Safety
    /// What the request points to must be there until this returns, in the length that the request says, and be writable
    /// where `command` writes.
    unsafe fn call(&mut self, command: u32) -> nix::Result<usize> {
        // SAFETY: the request itself is ours and larger than any kernel's; the rest is the caller's promise.
        let done = unsafe { syscall!(Sysno::bpf, command, &raw mut self.0, size_of::<Self>()) };
        done.map_err(|errno| Errno::from_raw(errno.into_raw()))
    }

    /// A call that answers with a new descriptor, close-on-exec as all of bpf(2).
    ///
    /// # Safety
    /// As [`Request::call`]; `command` is one that answers with a descriptor.
    unsafe fn open(&mut self, command: u32) -> nix::Result<OwnedFd> {
        // SAFETY: the caller's promise.
        let number = unsafe { self.call(command) }?;
        // SAFETY: a descriptor that the kernel has just made, and told nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(number).map_err(|_| Errno::EBADF)?) })
    }
}

/// Has the kernel check and keep a device program under `name` (at most 15 letters, digits and `_`).
pub(super) fn load(program: &[Instruction], name: &CStr) -> nix::Result<OwnedFd> {
    // Linux before 5.11 counts programs as locked memory of their user, those of all containers together.
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    let lifted = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok();
    let mut request = Request::new()
        .number(0, PROG_TYPE_CGROUP_DEVICE)
        .number(4, program.len().try_into().map_err(|_| Errno::E2BIG)?)
        .pointer(8, program.as_ptr())
        .pointer(16, c"Apache-2.0".as_ptr())
        .bytes(48, name.to_bytes());
    // SAFETY: program and licence outlive the call, are as long as told or ended by a zero, and are only read.
    let loaded = unsafe { request.open(PROG_LOAD) };
    if lifted {
        // What the shim has, its containers inherit.
        setrlimit(Resource::RLIMIT_MEMLOCK, limit.0, limit.1)?;
    }
    loaded
}

/// Attaches `program` to a cgroup, in the place of `former` in one step where that is given.
pub(super) fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    former: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let request = Request::new()
        .descriptor(0, cgroup)
        .descriptor(4, program)
        .number(8, ATTACH_TYPE_CGROUP_DEVICE)
        .number(12, ALLOW_MULTI | if former.is_some() { REPLACE } else { 0 });
    let mut request = match former {
        Some(former) => request.descriptor(16, former),
        None => request,
    };
    // SAFETY: the request holds numbers alone.
    unsafe { request.call(PROG_ATTACH) }.map(drop)
}

/// The device programs of this very cgroup that are called `name`. Others' (systemd attaches some too) are left out.
pub(super) fn attached(cgroup: BorrowedFd<'_>, name: &CStr) -> nix::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut request = Request::new()
        .descriptor(0, cgroup)
        .number(4, ATTACH_TYPE_CGROUP_DEVICE)
        .pointer(16, ids.as_mut_ptr())
        .number(24, ids.len().try_into().map_err(|_| Errno::E2BIG)?);
    // SAFETY: `ids` outlives the call and has as many places as told.
    unsafe { request.call(PROG_QUERY) }?;
    let count = request.answer(24) as usize;
    let mut found = Vec::new();
    for id in ids.into_iter().take(count) {
        // SAFETY: the request holds numbers alone.
        let program = match unsafe { Request::new().number(0, id).open(PROG_GET_FD_BY_ID) } {
            Ok(program) => program,
            // Gone meanwhile, or kept from us by a security module: not ours.
            Err(Errno::ENOENT | Errno::EPERM | Errno::EACCES) => continue,
            Err(errno) => return Err(errno),
        };
        if is_called(program.as_fd(), name)? {
            found.push(program);
        }
    }
    Ok(found)
}

fn is_called(program: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
    // Of 64-bit numbers, for they are in it.
    let mut info = [0_u64; INFO_BYTES / 8];
    let length = INFO_BYTES.try_into().map_err(|_| Errno::E2BIG)?;
    let mut request = Request::new().descriptor(0, program).number(4, length).pointer(8, info.as_mut_ptr());
    // SAFETY: `info` outlives the call and is as long as told; zeroed, it asks for none of the lists that it could point to.
    unsafe { request.call(OBJ_GET_INFO_BY_FD) }?;
    let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(CStr::from_bytes_until_nul(&bytes[INFO_NAME..]).is_ok_and(|found| found == name))
}
