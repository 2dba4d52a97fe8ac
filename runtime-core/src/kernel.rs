//! Facts of the running kernel and of where we are, most of them read once.

use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use rustix::mount::{FsOpenFlags, fsconfig_set_string, fsopen};

use crate::plan::lsm::Lsm;

/// `SELINUX_MAGIC`, linux/magic.h.
const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

/// Which security modules are at work: AppArmor by its parameter, SELinux by its file system, as their tools find out.
pub(crate) fn lsm() -> Lsm {
    static LSM: OnceLock<Lsm> = OnceLock::new();
    *LSM.get_or_init(|| {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        let mounted = rustix::fs::statfs("/sys/fs/selinux").map(|fs| u64::try_from(fs.f_type)).ok();
        Lsm { apparmor: enabled.starts_with('Y'), selinux: mounted == Some(Ok(SELINUX_MAGIC)) }
    })
}

/// Whether there are keyrings: CONFIG_KEYS.
pub(crate) fn has_keyrings() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| std::path::Path::new("/proc/sys/kernel/keys").exists())
}

/// The highest capability that the kernel knows: /proc/sys/kernel/cap_last_cap (3.2). Without /proc, as many as a mask holds.
pub(crate) fn last_capability() -> u32 {
    static LAST: OnceLock<u32> = OnceLock::new();
    *LAST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        text.trim().parse().unwrap_or(63)
    })
}

/// Whether a proc can be mounted for another pid namespace than its maker's: its option `pidns` (6.18).
pub(crate) fn mounts_proc_for_others() -> bool {
    static DOES: OnceLock<bool> = OnceLock::new();
    *DOES.get_or_init(|| {
        let asked = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)
            .and_then(|context| fsconfig_set_string(&context, c"pidns", c"/proc/self/ns/pid"));
        asked.is_ok()
    })
}

/// How many files the kernel lets any process have open: fs.nr_open of proc_sys_fs(5). Read anew each time, for it may be
/// changed.
pub(crate) fn most_files() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

/// `PROC_USER_INIT_INO` (linux/proc_ns.h): how the machine's first user namespace is known. Not by its map: another may map each
/// id to itself, too.
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Whether the runtime is in the machine's first user namespace, whose root alone may make device nodes (mknod(2)).
pub(crate) fn in_first_user_namespace() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| std::fs::metadata("/proc/self/ns/user").is_ok_and(|file| file.ino() == FIRST_USER_NAMESPACE))
}
