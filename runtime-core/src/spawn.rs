//! The parent's side of the double fork: opens what the plan asks for, launches stage one, and follows the reports until
//! stage two is ready (see `init::sync` for the protocol).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use init::sync::{DETAIL_BYTES, Point, REPORT_BYTES, Report};
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_getfd, pidfd_open,
    pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::agent::Agent;
use crate::cgroup::Placement;
use crate::error::{Error, Kind, Result};
use crate::handed::{self, IdmapNamespaces};
use crate::heap;
use crate::plan::{Plan, Source, hint};
use crate::process::{Process, Stdio, WALL, Waiting};
use crate::shared::Shared;
use crate::timing;
use crate::watch::watch;

/// Signals whose senders are known: `SIGKILL` is the kernel's when a cgroup is out of memory, `SIGSYS` a filter's.
const SIGKILL: i32 = 9;
const SIGSYS: i32 = 31;

/// What the caller hands to the children.
pub(crate) struct Handover<'a> {
    /// Descriptors 0, 1 and 2; none where the plan sets none.
    pub(crate) stdio: Option<&'a Stdio>,
    /// Descriptors 3 and on.
    pub(crate) preserved: &'a [OwnedFd],
    /// How they get into the cgroup.
    pub(crate) placement: &'a Placement,
    /// The container's init, for an exec.
    pub(crate) init: Option<BorrowedFd<'a>>,
    /// Who is given the listener of the plan's seccomp filter, where it has one.
    pub(crate) agent: Option<Agent<'a>>,
}

/// Forks the plan's process and waits until it is ready for its go. `at` is the parent's part at each point on the way
/// there; it is given the pid of the child that waits, which is ours and not reaped. Gives what each step took, too. On
/// error, or when the future is dropped, nothing of it is left.
pub(crate) async fn spawn(
    plan: &Plan,
    handover: &Handover<'_>,
    at: impl AsyncFn(Point, i32) -> Result<()>,
) -> Result<(Process, Vec<Duration>)> {
    let (ours, theirs) = channel()?;
    let channel =
        watch(ours, Interest::READABLE).map_err(|error| Error::io("watch the channel to the new process", &error))?;
    let mut idmaps = IdmapNamespaces::default();
    let mut opened = Opened::new(plan, handover, &mut idmaps)?;
    let number = opened.lend(theirs.as_fd())?;
    let cgroup = handover.placement.unified.as_ref().map(AsFd::as_fd);
    let board = plan.memory().map_err(|errno| failed("mmap for the new process", errno))?;
    let launched = plan
        .with_program(&opened.numbers, number, &board, |program| heap::stays_behind(|| init::launch(program, cgroup)));
    let launched = launched.map_err(|errno| failed("fork", errno))?;
    let family = Family { stage_one: launched.pidfd, board: Rc::new(board) };
    drop(theirs);
    let part = async |point| at(point, family.pid().map_or(launched.pid, |pid| pid.as_raw_nonzero().get())).await;
    let console = follow(plan, &channel, &family, (handover.agent.as_ref(), &mut idmaps), part).await?;
    let pid = family.pid().ok_or_else(|| Error::new(Kind::System, "no process was forked"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed("pidfd_open", errno))?;
    let waiting =
        Waiting { channel, board: Rc::clone(&family.board), execute: plan.last(), filtered: plan.has_filter() };
    let process = Process::new(pid.as_raw_nonzero().get(), pidfd, waiting, console)?;
    let steps = timing::steps(&family.board);
    family.part_from_stage_two();
    Ok((process, steps))
}

fn failed(what: &str, errno: rustix::io::Errno) -> Error {
    Error::sys(what, Errno::from_raw(errno.raw_os_error()))
}

/// One socket, both ends close-on-exec; ours does not block.
fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    pair.and_then(|pair| rustix::io::ioctl_fionbio(&pair.0, true).map(|()| pair))
        .map_err(|errno| failed("socketpair", errno))
}

/// The plan's sources, open: borrowed from the caller, or opened here and closed when the fork is done.
struct Opened {
    numbers: Vec<i32>,
    files: Vec<OwnedFd>,
    /// The least number that one may have.
    first: i32,
}

impl Opened {
    fn new(plan: &Plan, handover: &Handover<'_>, idmaps: &mut IdmapNamespaces) -> Result<Self> {
        let first = i32::try_from(plan.first_number()).unwrap_or(i32::MAX);
        let mut opened = Self { numbers: Vec::new(), files: Vec::new(), first };
        for source in plan.sources() {
            let number = match source {
                Source::Stdio(number) => match handover.stdio {
                    Some(Stdio::Files(files)) => opened.lend(files[*number].as_fd())?,
                    Some(Stdio::Terminal) | None => {
                        return Err(Error::new(Kind::Invalid, "no files are handed to a plan that sets stdio"));
                    }
                },
                Source::Preserved(number) => opened.lend(handover.preserved[*number].as_fd())?,
                Source::Tasks(number) => opened.lend(handover.placement.tasks[*number].as_fd())?,
                Source::Init => handover.init.map_or(Ok(-1), |init| opened.lend(init))?,
                Source::Namespace(path) => opened.keep(open_namespace(path)?)?,
                Source::Tree { path, recursive, nofollow, propagation, idmap, changes } => {
                    let tree = handed::tree(path, (*recursive, *nofollow), *propagation, changes)?;
                    if let Some(idmap) = idmap {
                        idmaps.apply(&tree, &path.display().to_string(), idmap)?;
                    }
                    opened.keep(tree)?
                }
                Source::Directory(path) => opened.keep(open_directory(path)?)?,
                Source::Idmap(_) => -1,
                Source::Filesystem { mount, idmap } => opened.keep(idmaps.filesystem(mount, idmap)?)?,
                Source::Device { device, owner, propagation } => {
                    opened.keep(handed::device(device, *owner, *propagation)?)?
                }
            };
            opened.numbers.push(number);
        }
        Ok(opened)
    }

    /// The number under which the children find `file`: its own, or that of a copy where its own is for the program.
    fn lend(&mut self, file: BorrowedFd<'_>) -> Result<i32> {
        if file.as_raw_fd() >= self.first {
            return Ok(file.as_raw_fd());
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(file, self.first).map_err(|errno| failed("dup", errno))?;
        let number = copy.as_raw_fd();
        self.files.push(copy);
        Ok(number)
    }

    fn keep(&mut self, file: OwnedFd) -> Result<i32> {
        let number = self.lend(file.as_fd())?;
        self.files.push(file);
        Ok(number)
    }
}

fn open_namespace(path: &Path) -> Result<OwnedFd> {
    let file = std::fs::File::open(path);
    file.map(OwnedFd::from).map_err(|error| Error::io(format!("open namespace {}", path.display()), &error))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map_err(|errno| failed(&format!("open {}", path.display()), errno))
}

/// The processes of one spawn. Dropped, it ends and reaps stage one, and stage two unless that has become a process of its
/// own: both are our children, and nobody else waits for them.
struct Family {
    stage_one: OwnedFd,
    board: Rc<Shared>,
}

impl Family {
    /// Stage two, once it was forked. Both children can write where the kernel has written its pid; so it counts only if it is
    /// a child of ours.
    fn pid(&self) -> Option<Pid> {
        let pid = Pid::from_raw(self.board.pid.load(Ordering::Relaxed))?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | WALL;
        waitid(WaitId::Pid(pid), look).is_ok().then_some(pid)
    }

    /// Stage two's pid and a copy of its descriptor `fd`.
    fn take_file(&self, fd: i32) -> Result<(i32, OwnedFd)> {
        let taken = self.pid().ok_or(rustix::io::Errno::SRCH).and_then(|pid| {
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            Ok((pid.as_raw_nonzero().get(), pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?))
        });
        taken.map_err(|errno| failed("pidfd_getfd of the seccomp listener", errno))
    }

    fn part_from_stage_two(&self) {
        self.board.pid.store(0, Ordering::Relaxed);
    }

    /// Why nothing more is heard of the processes: both have ended, for both hold the channel. One that could not report its
    /// failure has left it on the board.
    fn obituary(&self, plan: &Plan) -> Error {
        if let Some((step, errno)) = self.board.failure() {
            return failure(plan, step, errno, &[0; DETAIL_BYTES]);
        }
        let last = self.pid().map_or(WaitId::PidFd(self.stage_one.as_fd()), WaitId::Pid);
        let status = waitid(last, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WALL).ok().flatten();
        let text = match status.map(|status| (status.terminating_signal(), status.exit_status())) {
            Some((Some(SIGKILL), _)) => "was killed by signal 9, as for want of memory,".to_owned(),
            Some((Some(signal), _)) => format!("was killed by signal {signal}"),
            Some((_, Some(code))) => format!("ended with exit code {code}"),
            _ => "ended".to_owned(),
        };
        let done = u32::try_from(timing::steps(&self.board).len()).unwrap_or(u32::MAX);
        let step = plan.name(done);
        let filter = status.and_then(|status| status.terminating_signal()) == Some(SIGSYS);
        let hint = plan.forbidden(done).filter(|_| filter).map_or(String::new(), |hint| format!(" [{hint}]"));
        Error::new(Kind::System, format!("{step}: the process {text} before it was ready{hint}"))
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.stage_one, Signal::KILL);
        reap(WaitId::PidFd(self.stage_one.as_fd()));
        // With stage one gone it cannot come into being any more.
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::KILL);
            reap(WaitId::Pid(pid));
        }
    }
}

fn reap(child: WaitId<'_>) {
    let _ = waitid(child, WaitIdOptions::EXITED | WALL);
}

/// Follows the reports until stage two is ready. Answers the terminal's master where there is one.
async fn follow(
    plan: &Plan,
    channel: &AsyncFd<OwnedFd>,
    family: &Family,
    (agent, idmaps): (Option<&Agent<'_>>, &mut IdmapNamespaces),
    part: impl AsyncFn(Point) -> Result<()>,
) -> Result<Option<OwnedFd>> {
    let mut console = None;
    loop {
        let (report, file) = receive(channel).await?;
        match report {
            Some(Report::Console) => {
                let lost = || Error::new(Kind::System, "the terminal was lost on its way: too many open files");
                console = Some(file.ok_or_else(lost)?);
            }
            Some(Report::Listener { fd }) => {
                let agent =
                    agent.ok_or_else(|| Error::new(Kind::Invalid, "a listener of a filter without an agent"))?;
                let (pid, listener) = family.take_file(fd)?;
                agent.give(pid, listener).await?;
                release(channel.as_fd())?;
            }
            Some(Report::Idmap { ids }) => {
                let Some((Source::Idmap(idmap), mount)) = plan.sources().get(ids as usize).zip(file) else {
                    return Err(Error::new(Kind::System, "a mount to id-map was lost on its way: too many open files"));
                };
                idmaps.apply(&mount, "a mount of the container's own", idmap)?;
                release(channel.as_fd())?;
            }
            Some(Report::Reached(Point::Ready)) => return Ok(console),
            Some(Report::Reached(point)) => {
                part(point).await?;
                release(channel.as_fd())?;
            }
            Some(Report::Failed { step, errno, detail }) => return Err(failure(plan, step, errno, &detail)),
            None => return Err(family.obituary(plan)),
        }
    }
}

/// The next report and the file that came with it; none at the end of the channel.
pub(crate) async fn receive(channel: &AsyncFd<OwnedFd>) -> Result<(Option<Report>, Option<OwnedFd>)> {
    let received = channel.async_io(Interest::READABLE, |socket| receive_now(socket.as_fd())).await;
    let (bytes, file) = received.map_err(|error| Error::io("receive from the new process", &error))?;
    if bytes.is_empty() {
        return Ok((None, None));
    }
    match Report::decode(&bytes) {
        Some(report) => Ok((Some(report), file)),
        None => Err(Error::new(Kind::System, "the new process sent something that is no report")),
    }
}

fn receive_now(socket: BorrowedFd<'_>) -> std::io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; REPORT_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let length = match recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
        // The other end closed with unread bytes of ours: it is gone all the same.
        Err(rustix::io::Errno::CONNRESET) => 0,
        done => done?.bytes,
    };
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    bytes.truncate(length);
    Ok((bytes, file))
}

/// `step 17: mount proc at /proc (nosuid,nodev,noexec): EPERM (operation not permitted)`, and what there is to say about it.
pub(crate) fn failure(plan: &Plan, step: u32, errno: i32, detail: &[u8; DETAIL_BYTES]) -> Error {
    let errno = Errno::from_raw(errno);
    hint::error(&plan.name(step), errno, &plan.hint(step, errno, detail))
}

/// Lets a child go that waits at a point.
pub(crate) fn release(channel: BorrowedFd<'_>) -> Result<()> {
    match rustix::net::send(channel, &[1], SendFlags::NOSIGNAL) {
        // It was killed while it waited: its exit tells.
        Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(Error::sys("release the process", Errno::from_raw(errno.raw_os_error()))),
    }
}
