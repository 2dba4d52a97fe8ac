//! A step in words, with its arguments: what errors and the `plan` command print.

use std::fmt::Write as _;

use config::container::Device;
use init::setting::{Scheduler, Setting};
use init::step::{Attributes, Links, Origin, Way};
use init::sync::Point;
use init::{Span, Step};

use crate::plan::seccomp::Filter;
use crate::plan::{Plan, Source};

/// `MOUNT_ATTR_*` bits and their names in mount(8): linux/mount.h.
pub(crate) const ATTRIBUTES: [(u64, &str, &str); 6] = [
    (0x01, "ro", "rw"),
    (0x02, "nosuid", "suid"),
    (0x04, "nodev", "dev"),
    (0x08, "noexec", "exec"),
    (0x80, "nodiratime", "diratime"),
    (0x0020_0000, "nosymfollow", "symfollow"),
];

/// `MOUNT_ATTR__ATIME` and its values.
pub(crate) const ATIME: u64 = 0x70;
pub(crate) const NOATIME: u64 = 0x10;
pub(crate) const STRICTATIME: u64 = 0x20;

/// `CLONE_NEW*` bits and their names in the runtime spec.
const NAMESPACES: [(u32, &str); 8] = [
    (0x1000_0000, "user"),
    (0x0800_0000, "ipc"),
    (0x0400_0000, "uts"),
    (0x4000_0000, "network"),
    (0x2000_0000, "pid"),
    (0x0200_0000, "cgroup"),
    (0x0000_0080, "time"),
    (0x0002_0000, "mount"),
];

/// `SCHED_*` by number: linux/sched.h.
const POLICIES: [&str; 7] = ["other", "fifo", "rr", "batch", "iso", "idle", "deadline"];

/// getrlimit(2) by number: asm-generic/resource.h.
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

impl Plan {
    /// The step in words.
    #[allow(clippy::too_many_lines, reason = "one arm a kind")]
    pub(super) fn describe(&self, step: &Step) -> String {
        match *step {
            Step::Preserve { count, .. } => format!("set descriptors 3 to {}", count + 2),
            Step::JoinCgroup { directory, .. } => format!("join cgroup {}", self.show(directory)),
            Step::Set(setting) => self.setting(setting),
            Step::JoinNamespaces { target, kinds } => {
                format!("join {} of {}", namespaces(kinds), self.source_name(target))
            }
            Step::NewNamespaces { kinds } => format!("make new {}", namespaces(kinds)),
            Step::LoopbackUp => "bring up the loopback interface".to_owned(),
            Step::NewSession { terminal: false } => "start a session".to_owned(),
            Step::NewSession { terminal: true } => "start a session on the terminal".to_owned(),
            Step::SessionKeyring { name, permissions } => match permissions {
                Some(permissions) => format!("join session keyring {} ({permissions:08x})", self.show(name)),
                None => format!("join session keyring {}", self.show(name)),
            },
            Step::OpenRoot { path, .. } => format!("open root {}", self.show(path)),
            Step::EnterRoot { way: Way::Pivot } => "pivot to the root".to_owned(),
            Step::EnterRoot { way: Way::Move } => "move the root over /".to_owned(),
            Step::EnterRoot { way: Way::Change } => "change to the root".to_owned(),
            Step::WriteProc { path, value, .. } => {
                format!("write {} to /proc/{}", quoted(&self.show(value)), self.show(path))
            }
            Step::Hostname { name } => format!("set hostname {}", self.show(name)),
            Step::Domainname { name } => format!("set domainname {}", self.show(name)),
            Step::MountFilesystem {
                fs_type,
                source: _,
                options,
                attributes,
                take_over,
                destination,
                instead,
                pid_namespace,
            } => {
                let set = Attributes { set: attributes, clear: 0 };
                let own = (options.start..options.start + options.len).filter_map(|at| self.option(at));
                let copy = take_over.content.then(|| "tmpcopyup".to_owned());
                let words: Vec<_> = attribute_words(set).map(str::to_owned).chain(own).chain(copy).collect();
                let or = if instead.is_some() { ", or the host's" } else { "" };
                let of = pid_namespace.map_or(String::new(), |of| format!(" of {}", self.source_name(of)));
                format!("mount {}{of} at {}{}{or}", self.show(fs_type), self.show(destination), bracketed(&words))
            }
            Step::MountBind { source, origin, recursive, links, attributes, recursive_attributes, destination } => {
                let first = if recursive { "rbind" } else { "bind" };
                let all = attribute_words(recursive_attributes).map(|word| format!("r{word}"));
                let words = std::iter::once(first).chain(link_words(links)).chain(attribute_words(attributes));
                let words = words.map(str::to_owned).chain(all);
                let (whose, ids) = match origin {
                    Origin::Container { idmap } => ("the container's ", idmap),
                    Origin::Parent(tree) => ("", Some(tree)),
                    Origin::Host | Origin::Device(_) => ("", None),
                };
                let words: Vec<_> = words.chain(ids.and_then(|ids| self.idmap_word(ids))).collect();
                format!("mount {whose}{} at {}{}", self.show(source), self.show(destination), bracketed(&words))
            }
            Step::SetAttributes { path, attributes, recursive } => {
                let words =
                    attribute_words(attributes).map(|word| format!("{}{word}", if recursive { "r" } else { "" }));
                format!("remount {}{}", self.show(path), bracketed(&words.collect::<Vec<_>>()))
            }
            Step::HostPropagation { path, kind, recursive } | Step::SetPropagation { path, kind, recursive } => {
                format!("make {} {}", self.show(path), propagation(kind, recursive))
            }
            Step::MakeNode { path, mode, major, minor, .. } => {
                let kind = match mode & 0o170_000 {
                    0o010_000 => "fifo".to_owned(),
                    0o060_000 => format!("block device {major}:{minor}"),
                    _ => format!("character device {major}:{minor}"),
                };
                format!("make {} ({kind}, {:03o})", self.show(path), mode & 0o7777)
            }
            Step::MakeLink { target, path } => format!("link {} to {}", self.show(path), self.show(target)),
            Step::MaskPath { path } => format!("mask {}", self.show(path)),
            Step::ReadonlyPath { path } => format!("make {} read-only", self.show(path)),
            Step::OpenConsole { size, .. } => match size {
                Some((rows, columns)) => format!("open a terminal in /dev/pts ({rows} rows, {columns} columns)"),
                None => "open a terminal in /dev/pts".to_owned(),
            },
            Step::SetStdio { .. } => "set stdin, stdout and stderr".to_owned(),
            Step::Rlimit { resource, soft, hard } => {
                let name = RLIMITS.get(resource as usize).copied().unwrap_or("?");
                match soft {
                    Some(soft) => format!("set RLIMIT_{name} to {}:{}", limit(soft), limit(hard)),
                    None => format!("raise the hard RLIMIT_{name} to {}", limit(hard)),
                }
            }
            Step::WorkingDirectory { path, .. } => format!("enter working directory {}", self.show(path)),
            Step::Identity { uid, gid, groups } => {
                let at = groups.start as usize;
                let gids = self.gids.get(at..at + groups.len as usize).unwrap_or_default();
                format!("become user {uid}, group {gid}, additional groups {gids:?}")
            }
            Step::Umask { mask } => format!("set umask {mask:04o}"),
            Step::BoundingSet { keep } => format!("limit the bounding set to {}", capabilities(keep)),
            Step::Capabilities { effective, permitted, inheritable, ambient } => format!(
                "set capabilities: effective {}; permitted {}; inheritable {}; ambient {}",
                capabilities(effective),
                capabilities(permitted),
                capabilities(inheritable),
                capabilities(ambient)
            ),
            Step::NoNewPrivileges => "set no_new_privs".to_owned(),
            Step::Seccomp { flags } => {
                let agent = if flags & Filter::NEW_LISTENER == 0 { "" } else { ", and give its listener to the agent" };
                format!("load the seccomp filter ({} instructions, flags {flags:#x}){agent}", self.filter.len())
            }
            Step::FindExecutable { searched, .. } => {
                let name = self.args.first().map(|name| self.show(*name)).unwrap_or_default();
                format!("find executable {}{}", quoted(&name), if searched { " in $PATH" } else { "" })
            }
            Step::Home { uid } => format!("find HOME of user {uid} in /etc/passwd"),
            Step::CloseOthers { .. } => "close all other files".to_owned(),
            Step::Sync { point: Point::Namespaces } => "wait for id maps and clock offsets".to_owned(),
            Step::Sync { point: Point::Root } => "wait for hooks and network devices".to_owned(),
            Step::Sync { point: Point::Ready } => "wait for start".to_owned(),
            Step::Execute => {
                let args: Vec<_> = self.args.iter().map(|arg| quoted(&self.show(*arg))).collect();
                format!("execute {}", args.join(" "))
            }
            Step::Stay => "stay, and let the kernel reap".to_owned(),
        }
    }

    fn setting(&self, setting: Setting) -> String {
        match setting {
            Setting::Scheduler(scheduler) => {
                let Scheduler { policy, flags, nice, priority, runtime, deadline, period, .. } = scheduler;
                let name = POLICIES.get(policy as usize).copied().unwrap_or("?");
                format!(
                    "schedule as {name} (nice {nice}, priority {priority}, runtime {runtime}, deadline {deadline}, \
                     period {period}, flags {flags:#x})"
                )
            }
            Setting::IoPriority(priority) => {
                format!("set I/O priority {}, class {}", priority & 0x1fff, priority >> 13)
            }
            Setting::Affinity(cpus) => match self.numbers(cpus) {
                Some(cpus) => format!("run on CPUs {cpus}"),
                None => "run on any CPU".to_owned(),
            },
            Setting::Personality(persona) => format!("set personality {persona:#x}"),
            Setting::MemoryPolicy { mode, nodes } => {
                let nodes = self.numbers(nodes).unwrap_or_default();
                format!("set memory policy {}, flags {:#x}, nodes {}", mode & 0x1fff, mode & !0x1fff, quoted(&nodes))
            }
        }
    }

    /// The numbers of a set, ranges put together; none where it holds all that it can.
    fn numbers(&self, set: Span) -> Option<String> {
        let start = set.start as usize;
        let words = self.words.get(start..start + set.len as usize).unwrap_or_default();
        if !words.is_empty() && words.iter().all(|word| *word == u64::MAX) {
            return None;
        }
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for number in (0..words.len() * 64).filter(|number| words[number / 64] >> (number % 64) & 1 == 1) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let range = |(first, last): &(usize, usize)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        Some(ranges.iter().map(range).collect::<Vec<_>>().join(","))
    }

    fn option(&self, at: u32) -> Option<String> {
        let pair = self.pairs.get(at as usize)?;
        let mut word = self.show(pair.key);
        if let Some(value) = pair.value {
            let _ = write!(word, "={}", self.show(value));
        }
        Some(word)
    }

    /// The option by which a mount shows other ids.
    fn idmap_word(&self, tree: init::Descriptor) -> Option<String> {
        match self.sources.get(tree.0 as usize)? {
            Source::Tree { idmap: Some(idmap), .. } | Source::Filesystem { idmap, .. } | Source::Idmap(idmap) => {
                Some(if idmap.recursive { "ridmap" } else { "idmap" }.to_owned())
            }
            _ => None,
        }
    }

    fn source_name(&self, descriptor: init::Descriptor) -> String {
        match self.sources.get(descriptor.0 as usize) {
            Some(Source::Init) => "the container's init".to_owned(),
            Some(Source::Tasks(number)) => format!("the cgroup in hierarchy {}", number + 1),
            Some(Source::Stdio(number)) => format!("descriptor {number}"),
            Some(Source::Preserved(number)) => format!("descriptor {}", number + 3),
            Some(
                Source::Namespace(path)
                | Source::Directory(path)
                | Source::Tree { path, .. }
                | Source::Device { device: Device { path, .. }, .. },
            ) => path.display().to_string(),
            Some(Source::Filesystem { mount, .. }) => mount.fs_type.clone(),
            Some(Source::Idmap(_)) | None => "?".to_owned(),
        }
    }
}

fn namespaces(kinds: u32) -> String {
    let names = NAMESPACES.iter().filter(|(bit, _)| kinds & bit != 0).map(|(_, name)| *name);
    let names: Vec<_> = names.collect();
    format!("{} namespace{}", names.join(", "), if names.len() == 1 { "" } else { "s" })
}

fn propagation(kind: u64, recursive: bool) -> String {
    let word = match kind >> 17 {
        1 => "unbindable",
        2 => "private",
        4 => "slave",
        _ => "shared",
    };
    format!("{}{word}", if recursive { "r" } else { "" })
}

/// Attributes as mount(8) options; what is cleared by its clearing form.
fn attribute_words(attributes: Attributes) -> impl Iterator<Item = &'static str> {
    let atime = match (attributes.set & ATIME, attributes.clear & ATIME) {
        (NOATIME, _) => Some("noatime"),
        (STRICTATIME, _) => Some("strictatime"),
        (_, 0) => None,
        _ => Some("relatime"),
    };
    let plain = ATTRIBUTES.iter().filter_map(move |(bit, set, cleared)| {
        let clear = (attributes.clear & bit != 0).then_some(*cleared);
        if attributes.set & bit != 0 { Some(*set) } else { clear }
    });
    plain.chain(atime)
}

fn link_words(links: Links) -> impl Iterator<Item = &'static str> {
    let Links { source_nofollow, destination_nofollow, copy } = links;
    let words = [(source_nofollow, "src-nofollow"), (destination_nofollow, "dest-nofollow"), (copy, "copy-symlink")];
    words.into_iter().filter_map(|(set, word)| set.then_some(word))
}

fn bracketed(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(",")) }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "infinity".to_owned() } else { value.to_string() }
}

/// Names without their `CAP_`; short words for none and for every one there is.
fn capabilities(mask: u64) -> String {
    let all = caps::all();
    let known = all.iter().fold(0, |mask, capability| mask | capability.bitmask());
    if mask == 0 {
        return "none".to_owned();
    }
    if mask & known == known {
        return "all".to_owned();
    }
    let mut capabilities: Vec<_> = all.into_iter().filter(|capability| mask & capability.bitmask() != 0).collect();
    capabilities.sort_by_key(caps::Capability::index);
    let names: Vec<_> = capabilities.iter().map(|c| c.to_string().trim_start_matches("CAP_").to_owned()).collect();
    names.join(",")
}
