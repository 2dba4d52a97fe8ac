//! Security modules: `process.apparmorProfile`, `process.selinuxLabel` (config.md "Linux Process") and `linux.mountLabel`.
//!
//! A label is set for the next execve by a write to the process's own `attr` directory. Stage one does it, through the
//! host's procfs and before it has left the host's tree: nothing of an image or of a running container can stand in the way
//! of the write (CVE-2019-16884, CVE-2025-52881), no pid or user namespace can deny us a procfs, and the fork hands it on
//! to stage two, whose execve is the first one.

use config::container::Process;
use init::Step;
use init::step::Procfs;

use crate::error::{Error, Kind, Result};
use crate::plan::{Facts, Plan};

/// AppArmor's own attribute directory (5.8): plain `attr/exec` is that of another module where several are at work.
pub(super) const APPARMOR: &str = "thread-self/attr/apparmor/exec";

/// SELinux has no directory of its own. What is set here is set for one thread.
pub(super) const SELINUX: &str = "thread-self/attr/exec";

/// What keys are labelled as that are made from now on; execve(2) takes it back. Without it the program could not use the session
/// keyring that we make for it.
const SELINUX_KEYS: &str = "thread-self/attr/keycreate";

/// What no profile confines.
const UNCONFINED: &str = "unconfined";

/// File systems that SELinux labels by itself, file by file: their mounts take no `context=`.
const LABELLED_BY_KERNEL: [&str; 3] = ["proc", "sysfs", "mqueue"];

/// Which security modules the kernel runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lsm {
    /// AppArmor
    pub apparmor: bool,
    /// SELinux
    pub selinux: bool,
}

/// The steps that confine the program. Kind `Invalid`, with the field's pointer below `place`, where the kernel cannot.
pub(super) fn confine(plan: &mut Plan, process: &Process, facts: &Facts<'_>, place: &str) -> Result<()> {
    match process.apparmor_profile.as_deref() {
        Some(UNCONFINED) if !facts.lsm.apparmor => {}
        Some(profile) => {
            required(facts.lsm.apparmor, format_args!("{place}/apparmorProfile"), "AppArmor")?;
            write(plan, APPARMOR, &format!("exec {profile}"));
        }
        None => {}
    }
    if let Some(label) = &process.selinux_label {
        required(facts.lsm.selinux, format_args!("{place}/selinuxLabel"), "SELinux")?;
        write(plan, SELINUX, label);
        if facts.keyring.is_some() {
            write(plan, SELINUX_KEYS, label);
        }
    }
    Ok(())
}

/// Refuses a label for mounts where nobody would look at it.
pub(super) fn check_mounts(container: &config::Container, facts: &Facts<'_>) -> Result<()> {
    match container.mount_label {
        Some(_) => required(facts.lsm.selinux, format_args!("/linux/mountLabel"), "SELinux"),
        None => Ok(()),
    }
}

/// The label of a new file system, as an option of it. One that the mount brings itself wins.
pub(super) fn mount_option(
    container: &config::Container,
    fs_type: &str,
    options: &[(String, Option<String>)],
) -> Option<(String, Option<String>)> {
    let label = container.mount_label.clone()?;
    let labelled = LABELLED_BY_KERNEL.contains(&fs_type) || options.iter().any(|(key, _)| key == "context");
    (!labelled).then(|| ("context".to_owned(), Some(label)))
}

fn required(there: bool, pointer: std::fmt::Arguments<'_>, module: &str) -> Result<()> {
    if there {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("{pointer}: {module} is not enabled on this host")))
}

fn write(plan: &mut Plan, path: &str, value: &str) {
    let (path, value) = (plan.text(path), plan.text(value));
    plan.push(Step::WriteProc { procfs: Procfs::Host, path, value });
}
