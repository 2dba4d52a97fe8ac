//! Options one by one, and the laws that hold for any list of them.

use nix::libc;
use proptest::prelude::*;

use super::{MountOptions, parse};
use crate::container::MountAttributes;

/// Every option of the specification's table that is an attribute, without its recursive form.
const ATTRIBUTES: [&str; 18] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "nosymfollow",
    "symfollow",
    "nodiratime",
    "diratime",
    "relatime",
    "norelatime",
    "noatime",
    "atime",
    "strictatime",
    "nostrictatime",
];

fn parsed(options: &[&str]) -> MountOptions {
    parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn attributes(options: &[&str]) -> (u64, u64) {
    let MountAttributes { set, clear } = parsed(options).attributes;
    (set, clear)
}

#[test]
fn the_later_option_wins() {
    assert_eq!(attributes(&["ro", "rw"]), (0, libc::MOUNT_ATTR_RDONLY));
    assert_eq!(attributes(&["rw", "ro"]), (libc::MOUNT_ATTR_RDONLY, 0));
    assert_eq!(attributes(&["noatime", "strictatime"]), (libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR__ATIME));
    assert_eq!(attributes(&["noatime", "relatime"]), (0, libc::MOUNT_ATTR__ATIME));
    assert_eq!(attributes(&["strictatime", "atime"]), (libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR__ATIME));
    assert_eq!(attributes(&["noatime", "atime"]), (0, libc::MOUNT_ATTR__ATIME));
    assert_eq!(attributes(&["strictatime", "nostrictatime"]), (0, libc::MOUNT_ATTR__ATIME));
    assert_eq!(attributes(&["noatime", "nostrictatime"]), (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME));
}

#[test]
fn an_r_in_front_means_the_whole_tree() {
    for option in ATTRIBUTES {
        let one = parsed(&[option]);
        let tree = parsed(&[&format!("r{option}")]);
        assert_eq!(one.attributes, tree.recursive_attributes, "{option}");
        assert_eq!(tree.attributes, MountAttributes::default(), "{option}");
        assert_ne!(one.attributes, MountAttributes::default(), "{option}");
        assert!(one.data.is_empty() && tree.data.is_empty(), "{option}");
    }
}

#[test]
fn what_is_no_flag_is_for_the_file_system() {
    let options = parsed(&["size=64k,mode=755", "sync", "lowerdir=/a\\,b:/c", "x=y=z", "defaults", "rsync"]);
    let data: Vec<_> = options.data.iter().map(|o| (o.index, o.key.as_str(), o.value.as_deref())).collect();
    assert_eq!(
        data,
        [
            (0, "size", Some("64k")),
            (0, "mode", Some("755")),
            (1, "sync", None),
            (2, "lowerdir", Some("/a\\,b:/c")),
            (3, "x", Some("y=z")),
            (5, "rsync", None),
        ]
    );
}

proptest! {
    #[test]
    fn any_list_of_attributes_is_one_that_the_kernel_takes(
        options in proptest::collection::vec(proptest::sample::select(&ATTRIBUTES[..]), 0..12),
    ) {
        let (set, clear) = attributes(&options);
        prop_assert_eq!(set & clear & !libc::MOUNT_ATTR__ATIME, 0);
        prop_assert!(matches!(clear & libc::MOUNT_ATTR__ATIME, 0 | libc::MOUNT_ATTR__ATIME));
        prop_assert!(set & libc::MOUNT_ATTR__ATIME == 0 || clear & libc::MOUNT_ATTR__ATIME != 0);
        if let Some(last) = options.iter().rfind(|option| matches!(**option, "ro" | "rw")) {
            prop_assert_eq!(set & libc::MOUNT_ATTR_RDONLY != 0, *last == "ro");
        }
        let last = options.iter().rfind(|option| matches!(**option, "relatime" | "noatime" | "strictatime"));
        match last {
            Some(&"noatime") => prop_assert!(matches!(set & libc::MOUNT_ATTR__ATIME, 0 | libc::MOUNT_ATTR_NOATIME)),
            Some(&"relatime") | None => prop_assert_eq!(set & libc::MOUNT_ATTR__ATIME, 0),
            _ => prop_assert_ne!(set & libc::MOUNT_ATTR__ATIME, libc::MOUNT_ATTR_NOATIME),
        }
    }

    #[test]
    fn nothing_is_lost_and_nothing_panics(options in proptest::collection::vec("\\PC{0,16}", 0..6)) {
        prop_assert!(parse(&options).data.iter().all(|data| data.index < options.len()));
    }
}
