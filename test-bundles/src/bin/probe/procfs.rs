//! What /proc says of the process itself, as JSON; null where /proc is missing or says nothing.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The lines of /proc/self/status, by key.
pub(crate) struct Status(Option<String>);

impl Status {
    pub(crate) fn read() -> Self {
        Self(fs::read_to_string("/proc/self/status").ok())
    }

    /// The number of line `key`.
    pub(crate) fn number(&self, key: &str) -> Value {
        json!(self.text(key).and_then(|text| text.parse::<u64>().ok()))
    }

    /// The signals whose bits are set in line `key`.
    pub(crate) fn signals(&self, key: &str) -> Value {
        let mask = self.text(key).and_then(|text| u64::from_str_radix(text, 16).ok());
        json!(mask.map(|mask| (1..=64).filter(|signal| mask & (1 << (signal - 1)) != 0).collect::<Vec<u32>>()))
    }

    /// What line `key` says.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let line = self.0.as_deref()?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim())
    }
}

/// A file of one number, such as oom_score_adj.
pub(crate) fn number(path: &str) -> Value {
    json!(fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i64>().ok()))
}

/// A file of one line.
pub(crate) fn text(path: &str) -> Value {
    json!(fs::read_to_string(path).ok().map(|text| text.trim_end().trim_end_matches('\0').to_owned()))
}

/// Policy, nice value and static priority, of /proc/self/stat.
pub(crate) fn scheduling() -> Value {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Value::Null };
    // The fields are counted from the third, for the second may hold anything: proc_pid_stat(5).
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<i64>().ok());
    json!({ "policy": number(41), "nice": number(19), "priority": number(40) })
}

/// What the first mapping of /proc/self/numa_maps has, which is the process's own.
pub(crate) fn memory_policy() -> Value {
    let maps = fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
    json!(maps.split(' ').nth(1))
}

/// The lines of a file.
pub(crate) fn lines(path: &str) -> Value {
    json!(fs::read_to_string(path).ok().map(|text| text.lines().map(String::from).collect::<Vec<_>>()))
}

/// A file of lines of numbers, with or without a name in front: uid_map, timens_offsets.
pub(crate) fn numbers(path: &str) -> Value {
    let line = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i64>>();
    json!(fs::read_to_string(path).ok().map(|text| text.lines().map(line).collect::<Vec<_>>()))
}

/// Every symbolic link of a directory by name, with where it leads. A link that is gone when it is read is left out: of
/// /proc/self/fd, that is the descriptor which read the directory.
pub(crate) fn links(directory: &str) -> Value {
    let Ok(names) = fs::read_dir(directory).map(|entries| entries.flatten().map(|e| e.file_name()).collect::<Vec<_>>())
    else {
        return Value::Null;
    };
    let link = |name: &std::ffi::OsString| {
        let target = fs::read_link(Path::new(directory).join(name)).ok()?;
        Some((name.to_string_lossy().into_owned(), json!(target.to_string_lossy())))
    };
    Value::Object(names.iter().filter_map(link).collect::<Map<_, _>>())
}

/// /proc/self/mountinfo in order; proc_pid_mountinfo(5) has the format.
pub(crate) fn mounts() -> Value {
    json!(
        fs::read_to_string("/proc/self/mountinfo").ok().map(|text| text.lines().filter_map(mount).collect::<Vec<_>>())
    )
}

fn mount(line: &str) -> Option<Value> {
    let (place, source) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount_point, options) = (place.next()?, place.next()?, place.next()?);
    let propagation: Vec<&str> = place.collect();
    let mut source = source.split(' ');
    let (fs_type, device, super_options) = (source.next()?, source.next()?, source.next()?);
    Some(json!({
        "root": root,
        "mount_point": mount_point,
        "options": options.split(',').collect::<Vec<_>>(),
        "propagation": propagation,
        "fs_type": fs_type,
        "source": device,
        "super_options": super_options.split(',').collect::<Vec<_>>(),
    }))
}
