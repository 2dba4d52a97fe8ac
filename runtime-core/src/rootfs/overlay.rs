//! Overlay layers, of any number and length; Documentation/filesystems/overlayfs.rst.
//!
//! fsconfig(2) copies a value of at most 255 bytes (fs/fsopen.c), which three snapshot paths exceed, and mount(2) a page of
//! options. So each layer is set alone with `lowerdir+` and `datadir+` where the kernel has them (Linux 6.8), and all go in
//! one string to mount(2) where not. A path that is too long either way is opened and named `/proc/self/fd/N`: overlayfs
//! looks a layer up while the option is set and keeps its dentry.
//!
//! What was set is shown in every line of mountinfo that is about the mount, in the container too: 12 kB for 127 layers. There
//! are programs that read lines of 4096 bytes. So where it would be long the layers are set relative to the directory that they
//! all lie in, as containerd's own shims do, and that is the working directory meanwhile: this process has one thread.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use config::container::Ids;
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};

use super::options::Options;
use super::{RootfsMount, c_path, c_string, clone_tree, fd_path, set, setattr, sys};
use crate::error::{Error, Kind, Result};
use crate::ids;

/// What `strndup_user(value, 256)` lets through, without the NUL.
const LONGEST_VALUE: usize = 255;
/// What is longer is made shorter: with the rest of the line it stays below 4096 bytes.
const LONG: usize = 3072;
/// The page that mount(2) copies, without the NUL. The smallest page there is.
const LONGEST_STRING: usize = 4095;

/// sys/mount.h
const MS_PRIVATE: u64 = 1 << 18;

/// One part of `lowerdir`, its escapes resolved.
#[derive(Debug, PartialEq, Eq)]
struct Layer {
    path: String,
    /// After a `::`: holds data only, which the layers above name.
    data_only: bool,
}

/// Whether fsconfig(2) takes one layer at a time. Asked of the kernel's release, once: an old overlay context takes any option
/// and tells only at its creation.
pub(super) fn takes_single_layers() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let release = rustix::system::uname();
        at_least_6_8(&release.release().to_string_lossy())
    })
}

fn at_least_6_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(8))
}

/// Options that name directories.
pub(super) fn is_directory_option(key: &str) -> bool {
    matches!(key, "lowerdir" | "upperdir" | "workdir")
}

/// Sets a directory option on a file system context.
pub(super) fn set_layers(context: &OwnedFd, key: &str, value: &str) -> Result<()> {
    if key != "lowerdir" {
        // Here the kernel resolves escapes, so a path that needs none of ours goes as it is.
        return with_short_path(value, &unescape(value), |short| set(context, key, Some(short)));
    }
    let layers = layers(value)?;
    let shown: usize = layers.iter().map(|layer| "lowerdir+=,".len() + layer.path.len()).sum();
    let above = common_directory(&layers).filter(|_| shown > LONG);
    let _inside = above.as_deref().map(Inside::enter).transpose()?;
    for layer in &layers {
        let key = if layer.data_only { "datadir+" } else { "lowerdir+" };
        let relative = above.as_deref().and_then(|above| Path::new(&layer.path).strip_prefix(above).ok()?.to_str());
        let path = relative.unwrap_or(&layer.path);
        with_short_path(path, path, |short| set(context, key, Some(short)))?;
    }
    Ok(())
}

/// The lowest directory that all layers lie in.
fn common_directory(layers: &[Layer]) -> Option<PathBuf> {
    let mut above = Path::new(&layers.first()?.path).parent()?;
    for layer in layers {
        while !Path::new(&layer.path).parent()?.starts_with(above) {
            above = above.parent()?;
        }
    }
    above.is_absolute().then(|| above.to_owned())
}

/// The working directory is another one until this is dropped; it holds the one before.
struct Inside(OwnedFd);

impl Inside {
    fn enter(directory: &Path) -> Result<Self> {
        let before = open_layer(".")?;
        rustix::process::chdir(directory).map_err(|errno| sys(format_args!("enter {}", directory.display()), errno))?;
        Ok(Self(before))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(errno) = rustix::process::fchdir(&self.0) {
            log::error!("{}", sys("go back to the working directory", errno));
        }
    }
}

/// Mounts with mount(2) on the directory `target`.
pub(super) fn mount_by_string(mount: &RootfsMount, options: &Options, target: &OwnedFd) -> Result<()> {
    let whole: Vec<String> =
        options.own.iter().filter(|(key, _)| key != "ro" && key != "rw").map(join_option).collect();
    let mut opened = Vec::new();
    let mut data = whole.join(",");
    if data.len() > LONG {
        data = shorten(options, &mut opened)?;
    }
    if data.len() > LONGEST_STRING {
        let text = format!("{} bytes of options where this kernel takes {LONGEST_STRING}: too many layers", data.len());
        return Err(Error::new(Kind::Invalid, text));
    }
    let (source, data) = (c_string(&mount.source)?, c_string(&data)?);
    let flags = MountFlags::from_bits_retain(options.mount_flags());
    rustix::mount::mount(source.as_c_str(), fd_path(target).as_c_str(), c"overlay", flags, Some(data.as_c_str()))
        .map_err(|errno| sys("mount", errno))
}

fn join_option((key, value): &(String, Option<String>)) -> String {
    match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    }
}

/// The option string with each lower layer by fd; the fds go to `opened` and live until the mount is made.
fn shorten(options: &Options, opened: &mut Vec<OwnedFd>) -> Result<String> {
    let mut parts = Vec::new();
    for option in options.own.iter().filter(|(key, _)| key != "ro" && key != "rw") {
        let (key, Some(value)) = option else {
            parts.push(join_option(option));
            continue;
        };
        if key != "lowerdir" {
            parts.push(join_option(option));
            continue;
        }
        let mut text = String::new();
        for layer in layers(value)? {
            if !text.is_empty() {
                text.push_str(if layer.data_only { "::" } else { ":" });
            }
            let directory = open_layer(&layer.path)?;
            text.push_str(&fd_path(&directory).to_string_lossy());
            opened.push(directory);
        }
        parts.push(format!("lowerdir={text}"));
    }
    Ok(parts.join(","))
}

/// Calls `set` with `value`, or, where that is too long, with a path by fd to the directory `path`.
fn with_short_path(value: &str, path: &str, set: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    if value.len() <= LONGEST_VALUE {
        return set(value);
    }
    let directory = open_layer(path)?;
    set(&fd_path(&directory).to_string_lossy())
}

/// Lower layers that show other ids. They are mounted one over the other where the overlay will be, until this is dropped: only
/// what is attached can be a layer before Linux 6.15, and the overlay has its own copies once it is made.
#[derive(Debug)]
pub(super) struct MappedLayers(Vec<(&'static str, OwnedFd)>);

impl MappedLayers {
    /// Mounts those of `options` at the directory `target`.
    pub(super) fn mount(options: &Options, target: &OwnedFd) -> Result<Self> {
        let namespace = ids::namespace(&Ids::Maps(options.maps.clone()))?;
        let values = options.own.iter().filter(|(key, _)| key == "lowerdir").filter_map(|(_, value)| value.as_deref());
        let mut mounted = Self(Vec::new());
        for value in values {
            for layer in layers(value)? {
                let tree = clone_tree(Path::new(&layer.path), false, false)?;
                setattr::idmap(tree.as_fd(), namespace.as_fd(), false)
                    .map_err(|error| error.context(format_args!("layer {}", layer.path)))?;
                // Or the next one, which is mounted over it, would be over what it is a copy of, too.
                setattr::propagation(tree.as_fd(), MS_PRIVATE, false)?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(&tree, c"", target, c"", flags)
                    .map_err(|errno| sys(format_args!("move_mount layer {}", layer.path), errno))?;
                mounted.0.push((if layer.data_only { "datadir+" } else { "lowerdir+" }, tree));
            }
        }
        Ok(mounted)
    }

    /// Sets them on a file system context.
    pub(super) fn set(&self, context: &OwnedFd) -> Result<()> {
        self.0.iter().try_for_each(|(key, layer)| set(context, key, Some(&fd_path(layer).to_string_lossy())))
    }
}

impl Drop for MappedLayers {
    fn drop(&mut self) {
        for (_, layer) in self.0.iter().rev() {
            if let Err(errno) = rustix::mount::unmount(fd_path(layer).as_c_str(), UnmountFlags::DETACH) {
                log::warn!("{}", sys("unmount an id-mapped layer", errno));
            }
        }
    }
}

fn open_layer(path: &str) -> Result<OwnedFd> {
    let c_path: CString = c_path(Path::new(path))?;
    rustix::fs::open(c_path.as_c_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(format_args!("open layer {path}"), Errno::from_raw(errno.raw_os_error())))
}

/// Takes `lowerdir` apart: colons divide, a backslash hides the next character, a double colon begins data-only layers.
fn layers(value: &str) -> Result<Vec<Layer>> {
    let mut layers = vec![Layer { path: String::new(), data_only: false }];
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        let layer = layers.last_mut().expect("starts with one layer");
        match character {
            '\\' => layer.path.extend(characters.next()),
            ':' => {
                let data_only = characters.next_if_eq(&':').is_some() || layer.data_only;
                layers.push(Layer { path: String::new(), data_only });
            }
            character => layer.path.push(character),
        }
    }
    if layers.iter().any(|layer| layer.path.is_empty()) {
        return Err(Error::new(Kind::Invalid, "lowerdir names an empty layer"));
    }
    Ok(layers)
}

fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_divide_and_double_colons_begin_data_layers() {
        let layer = |path: &str, data_only| Layer { path: path.to_owned(), data_only };
        assert_eq!(layers("/a\\:b:/c\\\\").unwrap(), [layer("/a:b", false), layer("/c\\", false)]);
        assert_eq!(
            layers("/a:/b::/c::/d").unwrap(),
            [layer("/a", false), layer("/b", false), layer("/c", true), layer("/d", true)]
        );
        for bad in ["", ":", "/a:", ":/a", "/a:::/b"] {
            assert_eq!(layers(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn layers_lie_in_one_directory_or_in_none() {
        let common = |paths: &str| common_directory(&layers(paths).unwrap());
        assert_eq!(common("/s/10/fs:/s/9/fs").as_deref(), Some(Path::new("/s")));
        assert_eq!(common("/s/10:/s/1::/s/9/fs").as_deref(), Some(Path::new("/s")));
        assert_eq!(common("/a/x:/b/x").as_deref(), Some(Path::new("/")));
        assert_eq!(common("/a:/a/b").as_deref(), Some(Path::new("/")));
        assert_eq!(common("a/b:a/c"), None);
    }

    #[test]
    fn releases_compare_by_number() {
        for (release, newer) in
            [("6.8.0-31-generic", true), ("6.18.44-fc", true), ("10.0", true), ("6.7.9", false), ("5.10.0-8", false)]
        {
            assert_eq!(at_least_6_8(release), newer, "{release}");
        }
    }
}
