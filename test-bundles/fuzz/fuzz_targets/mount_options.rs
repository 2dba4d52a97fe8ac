//! Any options on any kind of mount: what is accepted is what `mount_setattr(2)` takes, and can be planned.
//!
//! The first byte chooses the file system; the rest is options, one a line.

#![no_main]

use config::container::{MountAttributes, MountKind};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const TYPES: [&str; 8] = ["tmpfs", "bind", "proc", "cgroup", "ext4", "xfs", "none", "overlay"];

/// `MOUNT_ATTR__ATIME`, linux/mount.h.
const ATIME: u64 = 0x70;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let Ok(options) = std::str::from_utf8(rest) else { return };
    let options: Vec<_> = options.lines().collect();
    let fs_type = TYPES[usize::from(*first) % TYPES.len()];
    let spec = json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["true"], "user": { "uid": 0, "gid": 0 } },
        "linux": { "namespaces": [{ "type": "mount" }] },
        "mounts": [{ "destination": "/d", "type": fs_type, "source": "/s", "options": options }],
    });
    let Ok(container) = fuzz::resolve(spec.to_string().as_bytes()) else { return };
    let mount = &container.mounts[0];
    for MountAttributes { set, clear } in [mount.attributes, mount.recursive_attributes] {
        assert_eq!(set & clear & !ATIME, 0, "a bit is set or cleared: {options:?}");
        assert!(matches!(clear & ATIME, 0 | ATIME), "access times are one field: {options:?}");
        assert!(set & ATIME == 0 || clear & ATIME == ATIME, "whose old value goes: {options:?}");
    }
    if let MountKind::Filesystem { options, copy_up, .. } = &mount.kind {
        assert!(!copy_up || fs_type == "tmpfs");
        assert!(
            options.iter().all(|(key, value)| !key.contains('\0') && value.as_ref().is_none_or(|v| !v.contains('\0')))
        );
    }
    fuzz::plan(&container);
});
