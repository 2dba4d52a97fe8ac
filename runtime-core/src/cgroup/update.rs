//! Update: new values for a cgroup with processes in it, all of them or none.
//!
//! Called by `cgroup`. Before a file is written its present value is kept; when a later one is refused, what was written is
//! written back in reverse, so that each step back leads to what the kernel had accepted before. The order of the steps forth
//! is `write::apply`'s. Device rules come last: on v1 the kernel does not tell all of those it has, and on v2 a program that
//! it has checked before takes its place in one step.
//!
//! Where the cgroup is a unit, systemd is told after the files were written, for it takes values that the kernel refuses; and
//! what it rounds (a quota, to whole percents) is then put right. A systemd that does not answer holds nothing up: the
//! values hold all the same, and its next reload may bring the old ones back, which the log says. Only new device rules need
//! its consent, for its own program is asked too.

use std::path::{Path, PathBuf};

use config::resources::{Cpu, Limit, Memory, Resources};
use nix::errno::Errno;

use super::host::Version;
use super::systemd::{Property, Told, Unit, properties_of_update};
use super::write::{self, Write, put};
use super::{device_filter, late_pids_max, v1, v2};
use crate::error::{Error, Kind, Result};

/// All that an update is going to do, checked as far as it can be without doing it.
#[derive(Debug)]
pub(super) struct Change {
    writes: Vec<Write>,
    properties: Vec<Property>,
    filter: Option<device_filter::Change>,
    /// Whether there are new device rules.
    devices: bool,
}

impl Change {
    /// What `resources` mean for the cgroup whose files for a controller are in `directory`.
    pub(super) fn prepare<'a>(
        resources: &Resources,
        version: Version,
        directory: impl Fn(&str) -> Option<&'a Path>,
        unit: Option<&Unit>,
    ) -> Result<Self> {
        let writes = writes(resources, version)?;
        let properties = unit.map(|_| properties_of_update(resources, &writes)).transpose()?.unwrap_or_default();
        let rules = resources.devices.as_deref().filter(|_| version == Version::V2);
        let filter = rules.zip(directory("devices")).map(|(rules, at)| device_filter::Change::load(at, rules));
        Ok(Self { writes, properties, filter: filter.transpose()?, devices: resources.devices.is_some() })
    }

    /// Does it. On error the cgroup has the values that it had, and the error says which file took which value not.
    pub(super) async fn carry_out<'a>(
        &self,
        directory: impl Fn(&str) -> Option<&'a Path>,
        unit: Option<&Unit>,
    ) -> Result<()> {
        let back = apply(&self.writes, &directory)?;
        let told = match unit.filter(|_| !self.properties.is_empty()) {
            Some(unit) => self.tell(unit, &directory).await,
            None => Ok(()),
        };
        told.and_then(|()| self.filter.as_ref().map_or(Ok(()), device_filter::Change::attach))
            .map_err(|error| taken_back(error, &back))
    }

    async fn tell<'a>(&self, unit: &Unit, directory: &impl Fn(&str) -> Option<&'a Path>) -> Result<()> {
        let exact = directory("cpu").map(rounded_by_systemd).unwrap_or_default();
        let told = unit.tell(&self.properties).await?;
        if let Told::NoAnswer(error) = told {
            if self.devices {
                return Err(error);
            }
            log::warn!("{error}: the new values hold until systemd is reloaded");
        }
        undo(&exact)
    }
}

/// What has to be written, in order. Absent device rules leave those that are there alone.
fn writes(resources: &Resources, version: Version) -> Result<Vec<Write>> {
    let all = match version {
        Version::V1 => v1::writes(resources)?,
        Version::V2 => v2::writes(resources)?,
    };
    let (devices, mut writes): (Vec<_>, Vec<_>) = all.into_iter().partition(|write| write.controller() == "devices");
    // Init's stages need no room any more.
    writes.extend(late_pids_max(resources).map(|limit| Write::new("pids.max", limit)));
    if resources.devices.is_some() {
        writes.extend(devices);
    }
    Ok(writes)
}

/// Adds to a new quota the period that holds, and to a new period the quota: v2 has one file for both, and systemd one value.
pub(super) fn complete(resources: &Resources, directory: Option<&Path>, version: Version) -> Resources {
    let mut resources = resources.clone();
    let read = |file: &str| {
        let text = std::fs::read_to_string(directory?.join(file)).ok()?;
        let (first, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        Some((first.to_owned(), rest.to_owned()))
    };
    let Cpu { quota, period, .. } = &mut resources.cpu;
    let now = match version {
        _ if quota.is_some() == period.is_some() => None,
        Version::V1 => {
            read("cpu.cfs_quota_us").zip(read("cpu.cfs_period_us")).map(|(quota, period)| (quota.0, period.0))
        }
        Version::V2 => read("cpu.max"),
    };
    if let Some((quota_now, period_now)) = now {
        *quota = quota.or(Some(quota_now.parse().map_or(Limit::Unlimited, Limit::At)));
        *period = period.or(period_now.parse().ok());
    }
    resources
}

/// Carries `writes` out, all or none; gives what takes them back, to be written last to first.
fn apply<'a>(writes: &[Write], directory: impl Fn(&str) -> Option<&'a Path>) -> Result<Vec<(PathBuf, String)>> {
    let mut back: Vec<(PathBuf, String)> = Vec::new();
    let outcome = write::apply_by(writes, directory, &mut |path, value| {
        let present = present(path, value);
        put(path, value)?;
        back.extend(present);
        Ok(())
    });
    match outcome {
        Ok(()) => Ok(back),
        Err(error) => Err(taken_back(error, &back)),
    }
}

/// `error`, after what it made void was taken back.
fn taken_back(error: Error, back: &[(PathBuf, String)]) -> Error {
    match undo(back) {
        Ok(()) => error,
        Err(also) => Error::new(error.kind(), format!("{error}; and {also}")),
    }
}

/// The files of the cgroup at `directory` that systemd writes less exactly than they are now.
fn rounded_by_systemd(directory: &Path) -> Vec<(PathBuf, String)> {
    let files = ["cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|file| directory.join(file));
    files.iter().flat_map(|file| present(file, "")).collect()
}

/// Refuses limits that are below what is used now, where `memory` asks for that: the kernel would take the difference back, by
/// killing on v2.
pub(super) fn check(memory: &Memory, directory: Option<&Path>, version: Version) -> Result<()> {
    let file = match version {
        Version::V1 => "memory.usage_in_bytes",
        Version::V2 => "memory.current",
    };
    let used = directory.and_then(|directory| std::fs::read_to_string(directory.join(file)).ok());
    let Some(used) = used.and_then(|used| used.trim().parse::<u64>().ok()).filter(|_| memory.check_before_update)
    else {
        return Ok(());
    };
    for (field, limit) in [("limit", memory.limit), ("swap", memory.swap)] {
        if let Some(Limit::At(limit)) = limit
            && limit < used
        {
            let text = format!("resources/memory/{field}: {limit} is below the {used} bytes in use ({file})");
            return Err(Error::new(Kind::Precondition, text));
        }
    }
    Ok(())
}

/// Goes on past errors and reports the first.
fn undo(back: &[(PathBuf, String)]) -> Result<()> {
    let mut first = Ok(());
    for (path, value) in back.iter().rev() {
        let failed = |errno: Errno| Error::sys(format_args!("set {} back to {}", path.display(), value.trim()), errno);
        first = first.and(put(path, value).map_err(failed));
    }
    first
}

/// What has to be written, last to first, to take a write of `value` to the file at `path` back. Nothing for a file that
/// cannot be read, which has no value.
fn present(path: &Path, value: &str) -> Vec<(PathBuf, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let one = |value: String| vec![(path.to_owned(), value)];
    match name {
        "devices.allow" | "devices.deny" => read(&path.with_file_name("devices.list")).map(|list| devices(path, &list)),
        "memory.oom_control" => {
            read(path).and_then(|text| Some(one(word_after(&text, "oom_kill_disable")?.to_owned())))
        }
        _ if is_keyed(name) => read(path).map(|text| one(entry(name, &text, value))),
        // An empty list of CPUs: a write of nothing is no write.
        _ => read(path).map(|text| one(if text.trim().is_empty() { "\n".to_owned() } else { text.trim().to_owned() })),
    }
    .unwrap_or_default()
}

/// Whether a write changes one line of several: of a disk, an interface, an adapter.
fn is_keyed(name: &str) -> bool {
    name.ends_with("_device")
        || matches!(name, "io.max" | "io.weight" | "io.bfq.weight" | "io.latency" | "rdma.max" | "net_prio.ifpriomap")
}

/// The present line with the key of `value`, or what takes such a line away.
fn entry(name: &str, text: &str, value: &str) -> String {
    let key = value.split_whitespace().next().unwrap_or_default();
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
    match (line, name) {
        (Some(line), _) => line.trim().to_owned(),
        (None, "io.max") => format!("{key} rbps=max wbps=max riops=max wiops=max"),
        (None, "io.weight" | "io.bfq.weight") => format!("{key} default"),
        (None, _) => format!("{key} 0"),
    }
}

/// Nothing, and then each that is allowed now. To be written last to first.
fn devices(path: &Path, list: &str) -> Vec<(PathBuf, String)> {
    let allow = |line: &str| {
        let rule = if line.starts_with('a') { "a" } else { line.trim() };
        (path.with_file_name("devices.allow"), rule.to_owned())
    };
    list.lines().map(allow).chain([(path.with_file_name("devices.deny"), "a".to_owned())]).collect()
}

fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::super::stats::tests::scratch;
    use super::*;

    fn present_of(files: &[(&str, &str)], file: &str, value: &str) -> Vec<(String, String)> {
        let scratch = scratch(files);
        let back = present(&scratch.path().join(file), value).into_iter();
        back.map(|(path, value)| (path.file_name().unwrap().to_string_lossy().into_owned(), value)).collect()
    }

    #[test]
    fn each_kind_of_file_has_its_way_back() {
        let back = |file: &str, text: &str, value: &str| present_of(&[(file, text)], file, value).remove(0).1;
        assert_eq!(back("cpu.max", "max 100000\n", "5 6"), "max 100000");
        assert_eq!(back("cpuset.cpus", "\n", "0-1"), "\n");
        let oom_control = "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n";
        assert_eq!(back("memory.oom_control", oom_control, "0"), "1");
        let io_max = "8:0 rbps=7 wbps=max riops=max wiops=max\n";
        assert_eq!(back("io.max", io_max, "8:0 wbps=1"), io_max.trim());
        assert_eq!(back("io.max", io_max, "8:16 wbps=1"), "8:16 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(back("blkio.throttle.read_bps_device", "8:0 5\n", "8:16 9"), "8:16 0");
        assert_eq!(back("io.weight", "default 100\n", "default 7"), "default 100");
        assert_eq!(present_of(&[], "memory.reclaim", "1"), []);
    }

    #[test]
    fn device_rules_come_back_after_a_clean_start() {
        let mut back = present_of(&[("devices.list", "c 1:3 rwm\nb 8:0 r\n")], "devices.deny", "a");
        back.reverse();
        let back: Vec<_> = back.iter().map(|(file, value)| (file.as_str(), value.as_str())).collect();
        assert_eq!(back, [("devices.deny", "a"), ("devices.allow", "b 8:0 r"), ("devices.allow", "c 1:3 rwm")]);
        let all = present_of(&[("devices.list", "a *:* rwm\n")], "devices.deny", "c 1:3 r");
        assert_eq!(all[0], ("devices.allow".into(), "a".into()));
    }

    #[test]
    fn a_limit_below_use_is_refused_where_asked() {
        let scratch = scratch(&[("memory.current", "5000\n")]);
        let memory = |check_before_update, limit| Memory {
            limit: Some(Limit::At(limit)),
            check_before_update,
            ..Memory::default()
        };
        let check = |memory: Memory| check(&memory, Some(scratch.path()), Version::V2);
        check(memory(false, 4999)).unwrap();
        check(memory(true, 5000)).unwrap();
        let error = check(memory(true, 4999)).unwrap_err();
        let text = "resources/memory/limit: 4999 is below the 5000 bytes in use (memory.current)";
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Precondition, text));
    }

    #[test]
    fn without_device_rules_none_are_written() {
        for version in [Version::V1, Version::V2] {
            let resources = Resources { pids: Some(Limit::At(5)), ..Resources::default() };
            let files: Vec<_> = writes(&resources, version).unwrap().into_iter().map(|write| write.file).collect();
            assert_eq!(files, ["pids.max"]);
        }
    }
}
