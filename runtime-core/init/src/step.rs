//! What a child can do: the step kinds, and the [`Program`] that holds all they refer to.
//!
//! A step is plain data without pointers: strings are offsets into one pool, descriptors are numbers of a table that the
//! parent fills just before the fork. So a plan can be made, printed and compared without a process or a file.

use core::ffi::CStr;
use core::sync::atomic::AtomicU8;

use rustix::io::Errno;

use crate::setting::Setting;
use crate::sync::{Board, Point};

/// A NUL-terminated string of the pool, by its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text(pub u32);

/// A run of entries of one of the program's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First entry.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// An open file that the parent hands to the children, by its place in [`Program::descriptors`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor(pub u32);

/// A file system's own option: fsconfig(2) takes a flag (no value) or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The option's name.
    pub key: Text,
    /// Its value; none makes it a flag.
    pub value: Option<Text>,
}

/// One instruction of a seccomp filter: the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// Its size in the kernel's form.
    pub const SIZE: usize = 8;

    /// Reads the kernel's form.
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Self { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
    }

    /// The kernel's form.
    pub const fn to_bytes(self) -> [u8; Self::SIZE] {
        let ([c0, c1], [k0, k1, k2, k3]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// The procfs that a value is written through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Procfs {
    /// The host's at /proc, while that is what is seen there: before the mount namespace is left.
    Host,
    /// One of our own that is attached nowhere: nothing of the image's can stand in its way (CVE-2025-52881). It shows the
    /// process's own pid namespace.
    Own,
}

/// `MOUNT_ATTR_*` bits to set and to clear: mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `attr_set`
    pub set: u64,
    /// `attr_clr`
    pub clear: u64,
}

impl Attributes {
    /// Whether there is nothing to change.
    pub const fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// What a new file system takes over from the directory that it is mounted on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakeOver {
    /// The permission bits, where the directory was there before.
    pub mode: bool,
    /// All that is in it.
    pub content: bool,
}

/// What a bind makes of symbolic links in the last place of its paths; where nothing is set they are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links {
    /// The source is bound as the link that it is.
    pub source_nofollow: bool,
    /// The link at the destination is mounted on.
    pub destination_nofollow: bool,
    /// The link is made anew at the destination, in place of a mount.
    pub copy: bool,
}

/// Where the mounts that a bind shows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The source is a path of the host's.
    Host,
    /// The parent has made a detached copy.
    Parent(Descriptor),
    /// A device: the parent has made a detached copy of the host's node, or a detached tmpfs with a node, [`NODE`], in it.
    Device(Descriptor),
    /// The source is a path of the container's, on what was mounted there before.
    Container {
        /// Has the parent show other ids: the descriptor stands for these.
        idmap: Option<Descriptor>,
    },
}

/// What becomes the container's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// What is mounted at its path, mounted there once more: pivot_root(2) wants a mount.
    Mounted,
    /// Its mounts, which the parent has copied. They go over `/`, for who may not walk the path.
    Tree(Descriptor),
    /// The directory that the parent has opened; nothing is mounted.
    Directory(Descriptor),
}

/// How the container's root becomes the process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// pivot_root(2); the host's tree is detached.
    Pivot,
    /// The same where `/` is a ramdisk, which pivot_root(2) cannot leave: the root is moved over it.
    Move,
    /// chroot(2), where the mount namespace is the runtime's.
    Change,
}

/// The name of a node in a tmpfs that is made for it.
pub const NODE: &CStr = c"node";

/// One thing to do. Paths in the container are resolved below its root, symbolic links included, at the moment of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    // Where the process lives.
    /// Makes handed-over files descriptors 3 and on, first of all: what is opened from then on comes behind them.
    Preserve {
        /// Of them, the first; the others follow it in the table.
        first: Descriptor,
        /// How many.
        count: u32,
    },
    /// Writes `0` into a v1 `tasks` file: the writer joins that cgroup without the global lock that a foreign pid takes.
    JoinCgroup {
        /// The open `tasks` file.
        tasks: Descriptor,
        /// The cgroup's directory, for people.
        directory: Text,
    },
    /// Writes a value to a file of a procfs.
    WriteProc {
        /// Which.
        procfs: Procfs,
        /// Relative to its root: `self/oom_score_adj`, `sys/net/ipv4/ip_forward`.
        path: Text,
        /// What is written, by one write(2).
        value: Text,
    },
    /// Sets an attribute of the process.
    Set(Setting),
    /// setns(2) into one namespace by its file, or into several of a process by its pidfd.
    JoinNamespaces {
        /// A namespace file or a pidfd.
        target: Descriptor,
        /// `CLONE_NEW*` bits.
        kinds: u32,
    },
    /// unshare(2): new namespaces.
    NewNamespaces {
        /// `CLONE_NEW*` bits.
        kinds: u32,
    },

    /// Brings the loopback interface of a new network namespace up.
    LoopbackUp,

    // The session and the root file system.
    /// setsid(2): a session of its own, so that no terminal of ours is its own.
    NewSession {
        /// Makes the terminal on descriptor 0 the session's: TIOCSCTTY of ioctl_tty(2).
        terminal: bool,
    },
    /// Joins the session keyring of this name, made where there is none: keyctl_join_session_keyring(3).
    SessionKeyring {
        /// `_ses.ID`
        name: Text,
        /// Its permissions, `KEY_*` of keyctl_setperm(3); none leaves them.
        permissions: Option<u32>,
    },
    /// Changes how mounts at a path of the host's tree propagate, before the root is built.
    HostPropagation {
        /// `/`
        path: Text,
        /// An `MS_*` propagation flag.
        kind: u64,
        /// The whole tree below it.
        recursive: bool,
    },
    /// Makes the rootfs ready to be entered, and keeps it open for all that follows.
    OpenRoot {
        /// Its host path.
        path: Text,
        /// What of it.
        root: Root,
    },
    /// Mounts a file system made new: fsopen, fsconfig, fsmount, move_mount.
    MountFilesystem {
        /// `proc`, `tmpfs`, …
        fs_type: Text,
        /// What mount(8) shows as the source.
        source: Text,
        /// Into [`Program::pairs`].
        options: Span,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
        /// From what is at the destination.
        take_over: TakeOver,
        /// Where in the container; made where missing.
        destination: Text,
        /// What is mounted where the kernel does not allow a new one (EPERM): the host's, detached.
        instead: Option<Descriptor>,
        /// Of a proc: the pid namespace that it shows, where that is not the one of the process that mounts it.
        pid_namespace: Option<Descriptor>,
    },
    /// Binds a path: open_tree, mount_setattr, move_mount.
    MountBind {
        /// Resolved before the pivot.
        source: Text,
        /// Whose path that is, and who opens it.
        origin: Origin,
        /// With the mounts below it.
        recursive: bool,
        /// Symbolic ones.
        links: Links,
        /// For the mount itself.
        attributes: Attributes,
        /// For the mount and all below it.
        recursive_attributes: Attributes,
        /// Where in the container; made as a file or a directory where missing.
        destination: Text,
    },
    /// Changes attributes of what is mounted at a path.
    SetAttributes {
        /// In the container.
        path: Text,
        /// What changes.
        attributes: Attributes,
        /// The whole tree below it.
        recursive: bool,
    },
    /// Changes how a mount of the container propagates.
    SetPropagation {
        /// In the container.
        path: Text,
        /// An `MS_*` propagation flag.
        kind: u64,
        /// The whole tree below it.
        recursive: bool,
    },
    /// Makes a device node or fifo, with its missing parent directories.
    MakeNode {
        /// In the container.
        path: Text,
        /// File type and permission bits, as `st_mode`.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Makes a symbolic link; replaces what is there unless it is a directory or a device.
    MakeLink {
        /// What it says.
        target: Text,
        /// In the container.
        path: Text,
    },
    /// Hides a path: an empty read-only directory or /dev/null is mounted over it. A missing path is fine.
    MaskPath {
        /// In the container.
        path: Text,
    },
    /// Makes a path read-only by a bind over itself. A missing path is fine.
    ReadonlyPath {
        /// In the container.
        path: Text,
    },
    /// Goes to the opened root.
    EnterRoot {
        /// By which call.
        way: Way,
    },
    /// sethostname(2)
    Hostname {
        /// At most 64 bytes.
        name: Text,
    },
    /// setdomainname(2)
    Domainname {
        /// At most 64 bytes.
        name: Text,
    },

    // The process.
    /// Makes a terminal in the container's devpts, makes it descriptors 0, 1 and 2, and sends its master up.
    OpenConsole {
        /// (rows, columns)
        size: Option<(u16, u16)>,
        /// Who owns it.
        uid: u32,
        /// Where it is mounted besides: `/dev/console` for init, nowhere for an exec.
        mount: Option<Text>,
    },
    /// Makes three handed-over files descriptors 0, 1 and 2, and gives them to the user so that /dev/stdout can be opened.
    SetStdio {
        /// In the order of the numbers.
        files: [Descriptor; 3],
        /// Who owns them from now on.
        uid: u32,
    },
    /// prlimit(2) on itself.
    Rlimit {
        /// `RLIMIT_*`
        resource: u32,
        /// Soft limit; `u64::MAX` is infinity. None only raises the hard limit where it is lower, while there is the right to.
        soft: Option<u64>,
        /// Hard limit.
        hard: u64,
    },
    /// Enters the working directory and makes sure that it lies below the root.
    WorkingDirectory {
        /// In the container.
        path: Text,
        /// Makes it where it is missing: an image may name one that it does not hold. In an exec it is more likely mistyped.
        make: bool,
    },
    /// Sets groups, then group, then user; keeps the permitted capabilities over the change.
    Identity {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Into [`Program::gids`].
        groups: Span,
    },
    /// Completes the environment's `HOME` ([`Program::home`]) from the container's /etc/passwd.
    Home {
        /// Whose.
        uid: u32,
    },
    /// Sets the file mode creation mask.
    Umask {
        /// As umask(2) takes it.
        mask: u32,
    },
    /// Drops every capability that is not in the mask from the bounding set.
    BoundingSet {
        /// What stays.
        keep: u64,
    },
    /// capset(2), then the ambient set.
    Capabilities {
        /// Effective.
        effective: u64,
        /// Permitted.
        permitted: u64,
        /// Inheritable.
        inheritable: u64,
        /// Ambient.
        ambient: u64,
    },
    /// PR_SET_NO_NEW_PRIVS
    NoNewPrivileges,
    /// Loads [`Program::filter`] with seccomp(2). Where it has a listener, waits until the agent has it.
    Seccomp {
        /// `SECCOMP_FILTER_FLAG_*`
        flags: u32,
    },
    /// Finds the first candidate that this user may execute; the error is the most telling one of all tried.
    FindExecutable {
        /// Into [`Program::candidates`].
        candidates: Span,
        /// Whether they are the places where a name without a slash may be.
        searched: bool,
    },
    /// Closes every descriptor behind the preserved ones but the channel, whoever opened it: a created container may wait for
    /// its start for days, and a container that may trace others can use what a process has open.
    CloseOthers {
        /// The first; 3 where none are preserved.
        from: u32,
    },
    /// Tells the parent that it has come to a point and waits for its go; exits when the parent is gone.
    Sync {
        /// Where it is.
        point: Point,
    },
    /// execve(2) of what was found.
    Execute,
    /// Stays as it is in place of executing anything: the first process of a pid namespace that containers share.
    Stay,
}

/// Where the kernel has put what this program was executed with, from the first byte to behind the last: both lie on the stack,
/// and what a process is shown to have been executed with is read from there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnStrings {
    /// The command line.
    pub arguments: (usize, usize),
    /// The environment.
    pub environment: (usize, usize),
}

/// All that the children read, laid out by the parent before the fork and constant from then on.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The string pool: NUL-terminated strings, one after the other.
    pub text: &'a [u8],
    /// Steps of stage one, which is in no pid namespace that it joins.
    pub stage_one: &'a [Step],
    /// Steps of stage two.
    pub stage_two: &'a [Step],
    /// Open files, in the order in which the plan asked for them.
    pub descriptors: &'a [i32],
    /// Table of [`Step::MountFilesystem`].
    pub pairs: &'a [Pair],
    /// Table of [`Step::Identity`].
    pub gids: &'a [u32],
    /// Table of [`Setting`]: sets as bits.
    pub words: &'a [u64],
    /// Table of [`Step::FindExecutable`].
    pub candidates: &'a [Text],
    /// The seccomp filter.
    pub filter: &'a [Instruction],
    /// execve's argument vector: pointers into `text`, ended by a null pointer.
    pub argv: &'a [*const u8],
    /// execve's environment, likewise.
    pub envp: &'a [*const u8],
    /// What follows `HOME=` in the last string of `envp`, for [`Step::Home`] to write; PATH_MAX bytes, or none.
    pub home: &'a [AtomicU8],
    /// The children's end of the channel to the parent.
    pub channel: i32,
    /// Memory that the parent shares: the pid of stage two, and when which step was done.
    pub board: &'a Board,
    /// What the children are not to be seen with.
    pub own: OwnStrings,
    /// What the children keep open beside 0, 1 and 2: the descriptors and the channel, in ascending order.
    pub keep: &'a [i32],
}

impl<'a> Program<'a> {
    /// The string at `text`. EINVAL if the plan was made wrong.
    pub fn str(&self, text: Text) -> Result<&'a CStr, Errno> {
        let start = usize::try_from(text.0).map_err(|_| Errno::INVAL)?;
        let tail = self.text.get(start..).ok_or(Errno::INVAL)?;
        CStr::from_bytes_until_nul(tail).map_err(|_| Errno::INVAL)
    }

    /// The number of an open file. EBADF if the plan was made wrong.
    pub fn fd(&self, descriptor: Descriptor) -> Result<i32, Errno> {
        let index = usize::try_from(descriptor.0).map_err(|_| Errno::BADF)?;
        self.descriptors.get(index).copied().ok_or(Errno::BADF)
    }
}

/// The entries of `table` that `span` names. EINVAL if the plan was made wrong.
pub(crate) fn entries<T>(table: &[T], span: Span) -> Result<&[T], Errno> {
    let start = usize::try_from(span.start).map_err(|_| Errno::INVAL)?;
    let len = usize::try_from(span.len).map_err(|_| Errno::INVAL)?;
    let end = start.checked_add(len).ok_or(Errno::INVAL)?;
    table.get(start..end).ok_or(Errno::INVAL)
}
