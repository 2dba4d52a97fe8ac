//! What the children tell the parent, over one SOCK_SEQPACKET socket that both stages hold.
//!
//! ```text
//! stage one ── Reached(Namespaces) ─▶ parent  where the parent has to write id maps or clock offsets; waits for "go"
//! stage one    forks, exits                   the kernel writes stage two's pid into a page that the parent shares
//! either ───── Idmap + fd ────▶ parent        for each mount of the container's own that is id-mapped; waits for "go"
//! either ───── Reached(Root) ─▶ parent        where hooks run or network devices move; waits for "go"
//! either ───── Console + fd ──▶ parent        where there is a terminal
//! stage two ── Listener(number) ▶ parent      where a seccomp agent is to be told; waits for "go"
//! stage two ── Reached(Ready) ▶ parent        waits for "go", which is the start
//! parent ───── one byte ──────▶ either        "go"
//! stage two    execve: the socket closes      started
//! either ───── Failed{step, errno} ─▶ parent at any time, and exits
//! ```
//!
//! A report without a file goes by write(2), like the go by read(2): a seccomp profile that lets a program run at all allows
//! these two, while sendmsg(2) may be missing in one that was recorded with another runtime. A profile may forbid even these,
//! so a failure is first written to the [`Board`], which takes no system call. The parent looks there when the channel ends.
//!
//! The parent's death closes the socket, and a stage two that waits for its go then exits.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// How many bytes of explanation travel with a failure.
pub const DETAIL_BYTES: usize = 120;

/// Length of an encoded [`Report`].
pub const REPORT_BYTES: usize = 12 + DETAIL_BYTES;

/// The place of what precedes all steps: the parent's files are closed.
pub const CLOSE: u32 = u32::MAX;

/// The place of what comes between the stages: stage two is forked.
pub const FORK: u32 = u32::MAX - 1;

/// How many steps have room for their time on a [`Board`]. Later ones, of which a usual plan has none, go untimed.
pub const STAMPS: usize = 509;

/// Memory that the parent shares with the children: what they tell without a message. One page.
#[repr(C)]
#[derive(Debug)]
pub struct Board {
    /// The pid of stage two, written by the kernel as it is forked; 0 before.
    pub pid: AtomicI32,
    /// Which step failed and why, once one has: which is stored before anything else is tried.
    pub failure: AtomicU64,
    /// When stage one was forked. Times are those of `CLOCK_MONOTONIC`, in nanoseconds.
    pub begun: AtomicU64,
    /// When each step, by its place over both stages, was done; 0 before, and 1 where the time was not to be had.
    pub done: [AtomicU64; STAMPS],
}

impl Board {
    /// Notes that the step at the place `step` failed.
    pub(crate) fn fail(&self, step: u32, errno: Errno) {
        let errno = errno.raw_os_error().cast_unsigned();
        self.failure.store(u64::from(step) << 32 | u64::from(errno), Ordering::Relaxed);
    }

    /// The place of the step that failed, and its errno.
    pub fn failure(&self) -> Option<(u32, i32)> {
        let failure = self.failure.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).ok();
        let (step, errno) = (half(failure >> 32)?, half(failure)?);
        (errno != 0).then_some((step, errno.cast_signed()))
    }
}

/// Where a child waits for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Stage one has its user namespace, which has no ids yet where it is new, or a time namespace without offsets.
    Namespaces,
    /// The root is mounted, but for what stage two mounts after the pivot; the host's tree is still there.
    Root,
    /// Stage two has nothing left to do but execve.
    Ready,
}

impl Point {
    const ALL: [Self; 3] = [Self::Namespaces, Self::Root, Self::Ready];

    /// Its number on the wire.
    const fn number(self) -> i32 {
        match self {
            Self::Namespaces => 1,
            Self::Root => 2,
            Self::Ready => 3,
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.number() == number)
    }
}

/// What a child has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The terminal's master comes with this message.
    Console,
    /// The sender has loaded a filter whose listener is its descriptor of this number, and waits for its go. The parent takes
    /// the descriptor by pidfd_getfd(2): the filter that is at work already may know of sendmsg(2) what it likes.
    Listener {
        /// Its number.
        fd: i32,
    },
    /// A detached mount comes with this message. The sender waits for its go until the mount shows other ids, which wants
    /// rights over its file system that only the parent has.
    Idmap {
        /// The place of these ids in the table of descriptors.
        ids: u32,
    },
    /// The sender waits there for its go.
    Reached(Point),
    /// A step failed; the sender exits.
    Failed {
        /// Its place, counted from 0 over both stages; or [`CLOSE`] or [`FORK`].
        step: u32,
        /// Why.
        errno: i32,
        /// What the kernel wrote about it (fsopen(2) contexts do), or the interpreter that execve(2) failed for; zeros at the
        /// end.
        detail: [u8; DETAIL_BYTES],
    },
}

impl Report {
    /// The wire form: kind, two numbers, detail.
    pub fn encode(&self) -> [u8; REPORT_BYTES] {
        let (kind, a, b, detail) = match *self {
            Self::Console => (1_i32, 0, 0, [0; DETAIL_BYTES]),
            Self::Reached(point) => (2, point.number(), 0, [0; DETAIL_BYTES]),
            Self::Listener { fd } => (4, fd, 0, [0; DETAIL_BYTES]),
            Self::Idmap { ids } => (5, ids.cast_signed(), 0, [0; DETAIL_BYTES]),
            Self::Failed { step, errno, detail } => (3, step.cast_signed(), errno, detail),
        };
        let mut bytes = [0; REPORT_BYTES];
        let numbers = [kind, a, b];
        let words = numbers.iter().flat_map(|n| n.to_ne_bytes());
        for (to, from) in bytes.iter_mut().zip(words.chain(detail)) {
            *to = from;
        }
        bytes
    }

    /// Reads the wire form; none for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let end = at.checked_add(4)?;
            Some(i32::from_ne_bytes(bytes.get(at..end)?.try_into().ok()?))
        };
        let detail: [u8; DETAIL_BYTES] = bytes.get(12..REPORT_BYTES)?.try_into().ok()?;
        match number(0)? {
            1 => Some(Self::Console),
            2 => Some(Self::Reached(Point::from_number(number(4)?)?)),
            3 => Some(Self::Failed { step: number(4)?.cast_unsigned(), errno: number(8)?, detail }),
            4 => Some(Self::Listener { fd: number(4)? }),
            5 => Some(Self::Idmap { ids: number(4)?.cast_unsigned() }),
            _ => None,
        }
    }
}

/// Sends `report`, with a descriptor where one belongs to it. A parent that is gone ends us (SIGPIPE), as it should.
pub(crate) fn send(channel: BorrowedFd<'_>, report: Report, file: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let bytes = report.encode();
    let Some(file) = file else {
        // A profile can have a call that it refuses answer 0.
        return if rustix::io::write(channel, &bytes)? == bytes.len() { Ok(()) } else { Err(Errno::IO) };
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(channel.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map(|_| ())
}

/// Waits for the parent's go; false when the parent is gone.
pub(crate) fn await_go(channel: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut byte = [0_u8; 1];
    loop {
        match rustix::io::read(channel, &mut byte) {
            Err(Errno::INTR) => {}
            done => return done.map(|count| count == 1),
        }
    }
}

/// Whether read(2) is allowed, by which a go is waited for: to read nothing takes no message and waits for none.
pub(crate) fn may_read(channel: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::io::read(channel, &mut [0_u8; 0]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::{DETAIL_BYTES, Point, Report};

    #[test]
    fn reports_survive_the_wire() {
        let failed = Report::Failed { step: 17, errno: 13, detail: [b'x'; DETAIL_BYTES] };
        let reached = Point::ALL.map(Report::Reached);
        let others = [Report::Console, Report::Listener { fd: 7 }, Report::Idmap { ids: 3 }, failed];
        for report in reached.into_iter().chain(others) {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[]), None);
        assert_eq!(Report::decode(&[9; 132]), None);
    }
}
