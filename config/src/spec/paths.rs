//! Paths in the container, config-linux.md "Masked Paths" and "Readonly Paths".

use std::path::{Component, Path, PathBuf};

use crate::refuse::{At, Refusal};

/// A list of absolute paths to cover. The root cannot be: what is mounted over it lies beside the container's way.
pub(super) fn list(paths: Option<&[String]>) -> Result<Vec<PathBuf>, Refusal> {
    let paths = paths.unwrap_or_default().iter().enumerate();
    let one = |path: &String| match absolute(Path::new(path)) {
        Ok(path) if clean(&path) == Path::new("/") => {
            Err(Refusal::new("", "names the root directory: see root.readonly"))
        }
        other => other,
    };
    paths.map(|(index, path)| one(path).at_index(index)).collect()
}

/// `path`, if it is absolute.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Refusal> {
    if path.as_os_str().is_empty() {
        return Err(Refusal::new("", "missing"));
    }
    if !path.is_absolute() {
        return Err(Refusal::new("", format!("path {} is not absolute", path.display())));
    }
    Ok(path.to_owned())
}

/// `path` below `/`, without `.`, `..` and doubled slashes. Only the text is looked at, so symbolic links count for
/// nothing, and no number of `..` leads above `/`.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::clean;

    #[test]
    fn cleaning_stays_below_the_root() {
        for (path, cleaned) in [
            ("", "/"),
            ("a//b/", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/../../etc", "/etc"),
            ("/proc/x/../../proc/", "/proc"),
            ("/..", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned), "{path}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_is_idempotent(path in "[a./]{0,24}") {
            let once = clean(Path::new(&path));
            prop_assert!(once.is_absolute());
            prop_assert!(!once.components().any(|part| part.as_os_str() == ".."));
            prop_assert_eq!(clean(&once), once);
        }
    }
}
