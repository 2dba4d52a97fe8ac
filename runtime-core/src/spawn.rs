//! The parent's side of the double fork: opens what the plan asks for, launches stage one, and follows the reports until
//! stage two is ready (see `init::sync` for the protocol).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use init::sync::{DETAIL_BYTES, REPORT_BYTES, Report};
use nix::errno::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cgroup::Placement;
use crate::error::{Error, Kind, Result, errno_text};
use crate::plan::{Plan, Source};
use crate::process::{Process, Stdio, WALL};
use crate::watch::watch;

/// What the caller hands to the children.
pub(crate) struct Handover<'a> {
    /// Descriptors 0, 1 and 2.
    pub(crate) stdio: &'a Stdio,
    /// How they get into the cgroup.
    pub(crate) placement: &'a Placement,
    /// The container's init, for an exec.
    pub(crate) init: Option<BorrowedFd<'a>>,
}

/// Forks the plan's process and waits until it is ready for its go. On error, or when the future is dropped, nothing of it is
/// left.
pub(crate) async fn spawn(plan: &Plan, handover: &Handover<'_>) -> Result<Process> {
    let (ours, theirs) = channel()?;
    let channel =
        watch(ours, Interest::READABLE).map_err(|error| Error::io("watch the channel to the new process", &error))?;
    let opened = Opened::new(plan, handover)?;
    let cgroup = handover.placement.unified.as_ref().map(AsFd::as_fd);
    let launched = plan.with_program(&opened.numbers, theirs.as_raw_fd(), |program| init::launch(program, cgroup));
    let launched = launched.map_err(|errno| Error::sys("fork", Errno::from_raw(errno.raw_os_error())))?;
    drop(theirs);
    let mut family = Family { stage_one: Some(launched.pidfd), stage_two: None };
    let console = follow(plan, &channel, &mut family).await?;
    family.reap_stage_one();
    let (pid, pidfd) = family.stage_two.take().ok_or_else(|| Error::new(Kind::System, "no process was forked"))?;
    Process::new(pid, pidfd, channel, console, plan.last())
}

/// One socket, both ends close-on-exec; ours does not block.
fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let failed = |errno: rustix::io::Errno| Error::sys("socketpair", Errno::from_raw(errno.raw_os_error()));
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    rustix::io::ioctl_fionbio(&pair.0, true).map_err(failed)?;
    Ok(pair)
}

/// The plan's sources, open: borrowed from the caller, or opened here and closed when the fork is done.
struct Opened {
    numbers: Vec<i32>,
    _files: Vec<OwnedFd>,
}

impl Opened {
    fn new(plan: &Plan, handover: &Handover<'_>) -> Result<Self> {
        let mut files = Vec::new();
        let mut numbers = Vec::new();
        for source in plan.sources() {
            numbers.push(match source {
                Source::Stdio(number) => match handover.stdio {
                    Stdio::Files(files) => files[*number].as_raw_fd(),
                    Stdio::Terminal => {
                        return Err(Error::new(Kind::Invalid, "a terminal is handed to a plan without one"));
                    }
                },
                Source::Tasks(number) => handover.placement.tasks[*number].as_raw_fd(),
                Source::Init => handover.init.as_ref().map_or(-1, AsRawFd::as_raw_fd),
                Source::Namespace(path) => {
                    let file = open_namespace(path)?;
                    let number = file.as_raw_fd();
                    files.push(file);
                    number
                }
            });
        }
        Ok(Self { numbers, _files: files })
    }
}

fn open_namespace(path: &Path) -> Result<OwnedFd> {
    let file = std::fs::File::open(path);
    file.map(OwnedFd::from).map_err(|error| Error::io(format!("open namespace {}", path.display()), &error))
}

/// The processes of one spawn. Dropped early, it ends and reaps what there is.
struct Family {
    stage_one: Option<OwnedFd>,
    stage_two: Option<(i32, OwnedFd)>,
}

impl Family {
    /// Stage one has told its last and exits: this waits a moment at the most.
    fn reap_stage_one(&mut self) {
        if let Some(pidfd) = self.stage_one.take() {
            reap(&pidfd);
        }
    }
}

impl Family {
    /// Takes stage two in. It cannot have been reaped: it is our child, and nobody else waits for it.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        self.stage_two = Some((pid, open_pidfd(pid)?));
        Ok(())
    }

    /// Makes sure that stage two is known if there is one: once stage one has gone, all that it told is there to be read.
    fn complete(&mut self, channel: &AsyncFd<OwnedFd>) -> Result<()> {
        self.reap_stage_one();
        while let Ok((bytes, _)) = receive_now(channel.as_fd())
            && !bytes.is_empty()
        {
            if let Some(Report::Forked { pid }) = Report::decode(&bytes) {
                self.adopt(pid)?;
            }
        }
        Ok(())
    }

    /// Why nothing more is heard of a process that reported no failure.
    fn obituary(&mut self) -> Error {
        let last = self.stage_two.take().map(|(_, pidfd)| pidfd).or(self.stage_one.take());
        let status =
            last.and_then(|pidfd| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WALL).ok().flatten());
        let text = match status.map(|status| (status.terminating_signal(), status.exit_status())) {
            Some((Some(signal), _)) => format!("the process was killed by signal {signal} before it was ready"),
            Some((_, Some(code))) => format!("the process exited with {code} before it was ready"),
            _ => "the process ended before it was ready".to_owned(),
        };
        Error::new(Kind::System, text)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let stages = [self.stage_one.take(), self.stage_two.take().map(|(_, pidfd)| pidfd)];
        for pidfd in stages.into_iter().flatten() {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            reap(&pidfd);
        }
    }
}

fn reap(pidfd: &OwnedFd) {
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WALL);
}

/// Follows the reports until stage two is known and ready. The two stages send on their own: `Forked` may come after all that
/// stage two has to say. Answers the terminal's master where there is one.
async fn follow(plan: &Plan, channel: &AsyncFd<OwnedFd>, family: &mut Family) -> Result<Option<OwnedFd>> {
    let (mut console, mut ready) = (None, false);
    while !ready || family.stage_two.is_none() {
        let (report, file) = receive(channel).await?;
        match report {
            Some(Report::Forked { pid }) => family.adopt(pid)?,
            Some(Report::Console) => console = file,
            Some(Report::Ready) => ready = true,
            Some(Report::Failed { step, errno, detail }) => {
                family.complete(channel)?;
                return Err(failure(plan, step, errno, &detail));
            }
            None => return Err(family.obituary()),
        }
    }
    Ok(console)
}

fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    let number = Pid::from_raw(pid).ok_or_else(|| Error::new(Kind::System, "a process with pid 0 was forked"))?;
    pidfd_open(number, PidfdFlags::empty())
        .map_err(|errno| Error::sys(format!("pidfd_open {pid}"), Errno::from_raw(errno.raw_os_error())))
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

/// `step 17: mount proc at /proc (nosuid,nodev,noexec): EPERM (operation not permitted)`, and what the kernel wrote.
pub(crate) fn failure(plan: &Plan, step: u32, errno: i32, detail: &[u8; DETAIL_BYTES]) -> Error {
    let mut text = format!("{}: {}", plan.name(step as usize), errno_text(Errno::from_raw(errno)));
    let detail = String::from_utf8_lossy(detail);
    // "e overlay: No changes allowed in reconfigure": fsopen(2)'s messages begin with their severity.
    let detail = detail.trim_end_matches(['\0', '\n']);
    let detail = detail.strip_prefix("e ").unwrap_or(detail);
    if !detail.is_empty() {
        text.push_str(" [");
        text.push_str(detail);
        text.push(']');
    }
    Error::new(Kind::System, text)
}

/// Lets stage two go.
pub(crate) fn release(channel: BorrowedFd<'_>) -> Result<()> {
    match rustix::net::send(channel, &[1], SendFlags::NOSIGNAL) {
        // It was killed while it waited: its exit tells.
        Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(Error::sys("release the process", Errno::from_raw(errno.raw_os_error()))),
    }
}
