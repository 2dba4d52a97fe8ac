//! What a cgroup has used: each of its files read once, in one pass, as the kernel reports it.
//!
//! Called by `cgroup`. A file that this kernel or this cgroup does not have is `None`, an empty list, or a key without value;
//! what clients are shown for that is the caller's affair. Units are the files' own (cgroup-v1/*.rst, cgroup-v2.rst), by the
//! suffix of the name: `_nsec`, `_usec`, `_ticks`, `_bytes`. Files are opened relative to the cgroup's directory, which is looked
//! up once.

use std::os::fd::OwnedFd;
use std::path::Path;

use config::resources::Limit;
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

mod v1;
mod v2;

pub use v1::{BlkioEntry, Counter, CpuacctV1, HugetlbV1, MemoryV1, StatsV1};
pub use v2::{HugetlbV2, IoEntry, MemoryV2, Pressure, PressureLine, StatsV2};

pub(super) use v1::read as read_v1;
pub(super) use v2::read as read_v2;

/// A cgroup file is rarely longer.
const USUAL_BYTES: usize = 8192;

/// What a container's cgroup and all below it have used.
#[derive(Debug, Clone, PartialEq)]
pub enum Stats {
    /// On v1 and hybrid hosts.
    V1(Box<StatsV1>),
    /// On v2 hosts.
    V2(Box<StatsV2>),
}

/// A file of `key value` lines, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyed(Vec<(String, u64)>);

/// `pids.current` and `pids.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    /// Processes and threads.
    pub current: u64,
    /// Of processes and threads.
    pub limit: Limit,
}

/// `rdma.current` and `rdma.max`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// What is used.
    pub current: Vec<RdmaEntry>,
    /// What may be used.
    pub limit: Vec<RdmaEntry>,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Such as `mlx5_1`.
    pub device: String,
    /// `hca_handle`; none is `max`.
    pub handles: Option<u32>,
    /// `hca_object`; none is `max`.
    pub objects: Option<u32>,
}

impl Keyed {
    pub(super) fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// The value of `key`; 0 where the kernel has none.
    pub fn get(&self, key: &str) -> u64 {
        self.0.iter().find(|(name, _)| name == key).map_or(0, |(_, value)| *value)
    }

    /// Whether the file had no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the files of a cgroup in one hierarchy. One that does not exist has no files.
struct Files {
    directory: Option<OwnedFd>,
    name: String,
    text: Vec<u8>,
}

impl Files {
    fn open(directory: Option<&Path>) -> Result<Self> {
        let name = directory.map(|directory| directory.display().to_string()).unwrap_or_default();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match directory.map(|directory| open(directory, flags, Mode::empty())) {
            None | Some(Err(Errno::NOENT)) => None,
            Some(Ok(opened)) => Some(opened),
            Some(Err(errno)) => return Err(failed(format_args!("open {name}"), errno)),
        };
        Ok(Self { directory: opened, name, text: Vec::with_capacity(USUAL_BYTES) })
    }

    fn exist(&self) -> bool {
        self.directory.is_some()
    }

    /// The text of `file`; none where it does not exist, went with its cgroup, or (pressure) was turned off.
    fn text(&mut self, file: &str) -> Result<Option<&str>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        self.text.clear();
        match read(directory, file, &mut self.text) {
            Ok(()) => Ok(str::from_utf8(&self.text).ok()),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(failed(format_args!("read {}/{file}", self.name), errno)),
        }
    }

    fn keyed(&mut self, file: &str) -> Result<Option<Keyed>> {
        Ok(self.text(file)?.map(Keyed::parse))
    }

    fn number(&mut self, file: &str) -> Result<Option<Limit>> {
        Ok(self.text(file)?.and_then(number))
    }

    /// A number that cannot be `max`; 0 without the file.
    fn count(&mut self, file: &str) -> Result<u64> {
        match self.number(file)? {
            Some(Limit::At(count)) => Ok(count),
            Some(Limit::Unlimited) | None => Ok(0),
        }
    }

    fn pids(&mut self) -> Result<Option<Pids>> {
        let Some(Limit::At(current)) = self.number("pids.current")? else { return Ok(None) };
        Ok(Some(Pids { current, limit: self.number("pids.max")?.unwrap_or(Limit::Unlimited) }))
    }

    fn rdma(&mut self) -> Result<Option<RdmaStats>> {
        let Some(current) = self.text("rdma.current")?.map(rdma) else { return Ok(None) };
        Ok(Some(RdmaStats { current, limit: self.text("rdma.max")?.map(rdma).unwrap_or_default() }))
    }
}

fn read(directory: &OwnedFd, file: &str, text: &mut Vec<u8>) -> std::result::Result<(), Errno> {
    let file = openat(directory, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    while {
        text.reserve(USUAL_BYTES);
        rustix::io::read(&file, rustix::buffer::spare_capacity(text))? > 0
    } {}
    Ok(())
}

fn failed(what: impl std::fmt::Display, errno: Errno) -> Error {
    Error::sys(what, nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// What is said of a container whose cgroup somebody has removed.
fn gone() -> Error {
    Error::new(Kind::NotFound, "cgroup does not exist")
}

/// A number or `max`; the kernel of v1 has negative ones for nothing.
fn number(text: &str) -> Option<Limit> {
    match text.trim() {
        "max" => Some(Limit::Unlimited),
        text if text.starts_with('-') => Some(Limit::At(0)),
        text => text.parse().ok().map(Limit::At),
    }
}

/// `8:16` as numbers.
fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines of `mlx4_0 hca_handle=2 hca_object=2000`.
fn rdma(text: &str) -> Vec<RdmaEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "hca_handle" => entry.handles = value.parse().ok(),
                "hca_object" => entry.objects = value.parse().ok(),
                _ => {}
            }
        }
        Some(entry)
    };
    text.lines().filter_map(entry).collect()
}

/// The page sizes of this host as they stand in file names: `2MB`, `1GB`; admin-guide/mm/hugetlbpage.rst.
fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let name = |entry: std::fs::DirEntry| entry.file_name().to_str().and_then(page_size);
    let mut sizes: Vec<String> = entries.flatten().filter_map(name).collect();
    sizes.sort();
    sizes
}

fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory with these files.
    pub(in crate::cgroup) fn scratch(files: &[(&str, &str)]) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(scratch.path().join(name), text).unwrap();
        }
        scratch
    }

    #[test]
    fn numbers_and_their_absence() {
        let numbers = [Some(Limit::At(12)), Some(Limit::Unlimited), Some(Limit::At(0)), None];
        assert_eq!(["12\n", "max\n", "-1\n", ""].map(number), numbers);
        let keyed = Keyed::parse("anon 5\nfile 18446744073709551615\n");
        assert_eq!((keyed.get("anon"), keyed.get("file"), keyed.get("slab")), (5, u64::MAX, 0));
        assert_eq!(
            ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB"].map(page_size),
            [Some("64KB".into()), Some("2MB".into()), Some("1GB".into())]
        );
    }

    #[test]
    fn a_long_file_is_read_to_its_end() {
        let text = "key 1\n".repeat(USUAL_BYTES);
        let scratch = scratch(&[("long", &text)]);
        let mut files = Files::open(Some(scratch.path())).unwrap();
        assert_eq!(files.text("long").unwrap().map(str::len), Some(text.len()));
        assert_eq!(files.text("none").unwrap(), None);
        let file = Files::open(Some(&scratch.path().join("long"))).err().unwrap();
        assert!(file.to_string().ends_with("ENOTDIR (not a directory)"), "{file}");
    }

    #[test]
    fn rdma_devices() {
        let entry = |device: &str, handles, objects| RdmaEntry { device: device.into(), handles, objects };
        let text = "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n";
        assert_eq!(rdma(text), [entry("mlx4_0", Some(2), Some(2000)), entry("ocrdma1", Some(3), None)]);
    }
}
