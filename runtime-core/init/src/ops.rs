//! How each step is done. `Work` is the little state that steps share; stage two goes on with a copy of it.
//!
//! What has a page or more in its frame is not inlined: a child would touch, and so copy, these pages for whatever step it does.

mod console;
mod copy;
mod home;
pub(crate) mod identity;
mod interpreter;
mod mounts;
mod move_root;
mod nodes;
mod path_buffer;
mod paths;
mod walk;

use core::ffi::CStr;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::keep;
use crate::step::{Attributes, Descriptor, Program, Step, Text, Way};
use crate::sync::{self, DETAIL_BYTES, Point, Report};
use crate::sys;

/// Why a step failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    /// The error number.
    pub(crate) errno: Errno,
    /// What the kernel wrote about it, or for [`Step::Execute`] the interpreter that it is about; zeros at the end.
    pub(crate) detail: [u8; DETAIL_BYTES],
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { errno, detail: [0; DETAIL_BYTES] }
    }
}

/// What steps leave behind for later ones.
pub(crate) struct Work<'a> {
    program: &'a Program<'a>,
    /// The container's root: opened by `OpenRoot`, else `/`.
    root: Option<OwnedFd>,
    /// A procfs of our own, not attached anywhere.
    procfs: Option<OwnedFd>,
    /// An empty read-only tmpfs: mounted over the first masked directory, bound over all others, at one superblock for all.
    mask: Option<OwnedFd>,
    /// What `FindExecutable` found.
    executable: Option<Text>,
    /// Whether the seccomp filter is at work.
    filtered: bool,
}

impl<'a> Work<'a> {
    pub(crate) fn new(program: &'a Program<'a>) -> Self {
        Self { program, root: None, procfs: None, mask: None, executable: None, filtered: false }
    }

    /// Whether any call may be refused from here on.
    pub(crate) fn is_filtered(&self) -> bool {
        self.filtered
    }

    /// Does one step.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<(), Failure> {
        match *step {
            Step::Preserve { first, count } => self.preserve(first, count)?,
            Step::JoinCgroup { tasks, .. } => self.write_all(tasks, b"0")?,
            Step::WriteProc { procfs, path, value } => self.write_proc(procfs, path, value)?,
            Step::Set(setting) => self.set(setting)?,
            Step::JoinNamespaces { target, kinds } => {
                sys::setns(self.fd(target)?, kinds)?;
                identity::stay_hidden()?;
            }
            Step::NewNamespaces { kinds } => {
                sys::unshare(kinds)?;
                identity::stay_hidden()?;
            }
            Step::LoopbackUp => sys::loopback_up()?,
            Step::NewSession { terminal } => console::new_session(terminal)?,
            Step::SessionKeyring { name, permissions } => sys::join_session_keyring(self.str(name)?, permissions)?,
            Step::HostPropagation { path, kind, recursive } => {
                sys::mount_setattr_at(self.str(path)?, kind, recursive)?;
            }
            Step::OpenRoot { path, root } => self.open_root(path, root)?,
            Step::MountFilesystem {
                fs_type,
                source,
                options,
                attributes,
                take_over,
                destination,
                instead,
                pid_namespace,
            } => {
                let made = self.planned_filesystem((fs_type, source), pid_namespace, options, attributes);
                let mount = self.or_instead(made, instead, attributes)?;
                self.attach_filesystem(mount.as_fd(), fs_type, take_over, destination)?;
            }
            Step::MountBind { source, origin, recursive, links, attributes, recursive_attributes, destination } => {
                let attributes = [attributes, recursive_attributes];
                self.mount_bind((source, origin, recursive), links, attributes, destination)?;
            }
            Step::SetAttributes { path, attributes, recursive } => {
                sys::mount_setattr(self.open(path)?.as_fd(), attributes, 0, recursive)?;
            }
            Step::SetPropagation { path, kind, recursive } => {
                sys::mount_setattr(self.open(path)?.as_fd(), Attributes::default(), kind, recursive)?;
            }
            Step::MakeNode { path, mode, major, minor, uid, gid } => {
                self.make_node(path, mode, (major, minor), (uid, gid))?;
            }
            Step::MakeLink { target, path } => self.make_link(target, path)?,
            Step::MaskPath { path } => self.mask_path(path)?,
            Step::ReadonlyPath { path } => self.readonly_path(path)?,
            Step::EnterRoot { way: Way::Pivot } => self.pivot_root()?,
            Step::EnterRoot { way: Way::Move } => self.move_root()?,
            Step::EnterRoot { way: Way::Change } => self.change_root()?,
            Step::Hostname { name } => rustix::system::sethostname(self.str(name)?.to_bytes())?,
            Step::Domainname { name } => rustix::system::setdomainname(self.str(name)?.to_bytes())?,
            Step::OpenConsole { size, uid, mount } => self.open_console(size, uid, mount)?,
            Step::SetStdio { files, uid } => self.set_stdio(files, uid)?,
            Step::Rlimit { resource, soft: Some(soft), hard } => sys::set_rlimit(resource, soft, hard)?,
            Step::Rlimit { resource, soft: None, hard } => sys::raise_rlimit(resource, hard)?,
            Step::WorkingDirectory { path, make } => self.working_directory(path, make)?,
            Step::Identity { uid, gid, groups } => self.identity(uid, gid, groups)?,
            Step::Umask { mask } => {
                rustix::process::umask(Mode::from_raw_mode(mask));
            }
            Step::Home { uid } => self.home(uid),
            Step::BoundingSet { keep } => identity::bounding_set(keep)?,
            Step::Capabilities { effective, permitted, inheritable, ambient } => {
                sys::set_capabilities(effective, permitted, inheritable)?;
                identity::ambient_set(ambient)?;
            }
            Step::NoNewPrivileges => identity::no_new_privileges()?,
            Step::Seccomp { flags } => self.seccomp(flags)?,
            Step::FindExecutable { candidates, searched } => self.find_executable(candidates, searched)?,
            Step::CloseOthers { from } => self.close_others(from)?,
            Step::Sync { point } => self.sync(point)?,
            Step::Execute => return Err(self.execute().into()),
            Step::Stay => keep::reap(self.program.own),
        }
        Ok(())
    }

    fn str(&self, text: Text) -> Result<&'a CStr, Errno> {
        self.program.str(text)
    }

    fn fd(&self, descriptor: Descriptor) -> Result<BorrowedFd<'static>, Errno> {
        sys::borrow(self.program.fd(descriptor)?)
    }

    fn write_all(&self, file: Descriptor, bytes: &[u8]) -> Result<(), Errno> {
        rustix::io::write(self.fd(file)?, bytes).map(|_| ())
    }

    fn sync(&self, point: Point) -> Result<(), Errno> {
        self.report_and_wait(Report::Reached(point), None)
    }

    /// From here on the filter is at work, and any call may be refused: each that follows says so as the error of its step. So
    /// that a container which could never be told to go on is not created, read(2) is tried at once.
    ///
    /// With a listener, nothing but write(2) is called until the parent has the other end: any other call may be one that its
    /// agent has to let through. Then ours is closed: were the agent to end, nobody would be left to answer, and the kernel
    /// must see that.
    fn seccomp(&mut self, flags: u32) -> Result<(), Errno> {
        self.filtered = true;
        match sys::load_filter(self.program.filter, flags)? {
            Some(listener) => self.report_and_wait(Report::Listener { fd: listener.as_raw_fd() }, None),
            None => sync::may_read(sys::borrow(self.program.channel)?),
        }
    }

    /// With a descriptor where one belongs to the report.
    fn report_and_wait(&self, report: Report, file: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let channel = sys::borrow(self.program.channel)?;
        sync::send(channel, report, file)?;
        if sync::await_go(channel)? { Ok(()) } else { sys::exit(1) }
    }

    fn execute(&self) -> Errno {
        let Some(path) = self.found() else { return Errno::NOENT };
        #[allow(unsafe_code)]
        // SAFETY: the parent built both vectors from its string pool and ended them with null pointers.
        unsafe {
            sys::execute(path, self.program.argv, self.program.envp)
        }
    }

    fn found(&self) -> Option<&'a CStr> {
        self.executable.and_then(|text| self.str(text).ok())
    }

    /// What more can be found out of why `step` has failed, once its failure is noted: the attempt may be the end of us.
    pub(crate) fn explain(&self, step: &Step, failure: Failure) -> Failure {
        let interpreter = match step {
            Step::Execute => self.found().and_then(interpreter::failure),
            _ => None,
        };
        interpreter.filter(|interpreter| interpreter.errno == failure.errno).unwrap_or(failure)
    }
}
