//! Facts of the running kernel, read once.

use std::sync::OnceLock;

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
