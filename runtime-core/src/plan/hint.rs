//! What the error number of a failed step means, where the number alone would mislead; in brackets behind it. Called by `spawn`
//! and `process`, once a step has failed: only here is anything of the host looked at.

use init::Step;
use nix::errno::Errno;
use nix::sys::resource::Resource;

use crate::error::{Error, Kind, errno_text};
use crate::kernel;
use crate::plan::{Plan, lsm};

impl Plan {
    /// What is to be said of the step at `place`; `detail` is what it has said itself. Empty where there is nothing.
    pub(crate) fn hint(&self, place: u32, errno: Errno, detail: &[u8]) -> String {
        match self.step(place) {
            Some(Step::Execute) => execution(errno, detail, self.has_filter()),
            Some(Step::WriteProc { path, .. }) if errno == Errno::ENOENT && self.show(*path) == lsm::APPARMOR => {
                "no such AppArmor profile is loaded".to_owned()
            }
            Some(Step::Rlimit { resource, hard, .. }) if errno == Errno::EPERM => rlimit(*resource, *hard),
            Some(Step::MountFilesystem { .. } | Step::MountBind { .. }) if errno == Errno::EROFS => {
                "there is nothing to mount on, and on a read-only file system it cannot be made".to_owned()
            }
            Some(Step::MakeNode { .. }) if errno == Errno::EEXIST => "what is there is another thing".to_owned(),
            _ => self.forbidden(place).map_or_else(|| kernels_own(detail), str::to_owned),
        }
    }

    pub(crate) fn has_filter(&self) -> bool {
        !self.filter.is_empty()
    }

    /// What a container's seccomp profile may forbid that the step at `place` calls; none before the filter is loaded.
    pub(crate) fn forbidden(&self, place: u32) -> Option<&'static str> {
        let is_filter = |step: &Step| matches!(step, Step::Seccomp { .. });
        let filter = self.stage_one.iter().chain(&self.stage_two).position(is_filter)?;
        match self.step(place).filter(|_| place as usize >= filter)? {
            Step::Capabilities { .. } => Some("the seccomp profile may forbid capset or prctl"),
            Step::Execute => Some("the seccomp profile may forbid execve"),
            _ => Some("the seccomp profile may forbid write or read"),
        }
    }
}

/// `step 17: mount proc at /proc (nosuid,nodev,noexec): EPERM (operation not permitted) [hint]`
pub(crate) fn error(what: &str, errno: Errno, hint: &str) -> Error {
    let hint = if hint.is_empty() { String::new() } else { format!(" [{hint}]") };
    Error::new(Kind::System, format!("{what}: {}{hint}", errno_text(errno)))
}

/// Of a program that was found and cannot be executed; `detail` as of the step, `filtered` where there is a seccomp filter.
pub(crate) fn execution(errno: Errno, detail: &[u8], filtered: bool) -> String {
    let text = match (errno, filtered) {
        (Errno::EPERM, true) => "the seccomp profile may forbid execve, or the bounding set the program's capabilities",
        (Errno::EPERM, false) => "the bounding set may lack capabilities that the program's file has",
        (Errno::ENOSYS, true) => "the seccomp profile may forbid execve",
        _ => return interpreter(errno, detail),
    };
    text.to_owned()
}

/// Of one that cannot be executed because of its interpreter, whose name `detail` is. Empty where it is not the interpreter.
fn interpreter(errno: Errno, detail: &[u8]) -> String {
    let name = text(detail);
    if name.is_empty() {
        return String::new();
    }
    let more = if detail.contains(&0) { "" } else { "…" };
    let what = match errno {
        Errno::ENOENT | Errno::ENOTDIR if name.ends_with('\r') => "is missing: the script's lines end with CR LF",
        Errno::ENOENT | Errno::ENOTDIR => "is missing",
        _ => "cannot be executed",
    };
    format!("its interpreter {name:?}{more} {what}")
}

/// The two reasons for EPERM: setrlimit(2).
fn rlimit(resource: u32, hard: u64) -> String {
    match kernel::most_files() {
        Some(most) if resource == Resource::RLIMIT_NOFILE as u32 && hard > most => {
            format!("it is above the sysctl fs.nr_open, which is {most}")
        }
        _ => "to raise a hard limit above the runtime's own takes CAP_SYS_RESOURCE".to_owned(),
    }
}

/// `e overlay: No changes allowed in reconfigure`: fsopen(2)'s messages begin with their severity.
fn kernels_own(detail: &[u8]) -> String {
    let text = text(detail);
    text.strip_prefix("e ").unwrap_or(&text).trim_end_matches('\n').to_owned()
}

fn text(detail: &[u8]) -> String {
    String::from_utf8_lossy(detail).trim_end_matches('\0').to_owned()
}
