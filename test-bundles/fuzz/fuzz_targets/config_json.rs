//! Any text as config.json: it is refused, or makes a container whose plans obey the laws.
//!
//! Bytes changed at random are seldom JSON, so every other time a value of the document is exchanged for another one of it
//! or for one that is known to matter.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::{Value, json};

fuzz_target!(|text: &[u8]| {
    if let Ok(container) = fuzz::resolve(text) {
        fuzz::plan(&container);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let document = serde_json::from_slice::<Value>(&data[..size]);
    let (Ok(mut document), 0) = (document, seed % 2) else { return fuzzer_mutate(data, size, max_size) };
    exchange(&mut document, &mut Random(u64::from(seed) | 1));
    let text = document.to_string();
    if text.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
});

/// xorshift: the fuzzer's seed must always lead to the same change.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or(0)
    }
}

fn exchange(document: &mut Value, random: &mut Random) {
    let mut places = Vec::new();
    walk(document, String::new(), &mut places);
    let value = match random.below(2) {
        0 => document.pointer(&places[random.below(places.len())]).cloned().unwrap_or_default(),
        _ => known(random),
    };
    let place = &places[random.below(places.len())];
    let Some(old) = document.pointer_mut(place) else { return };
    match old {
        Value::Array(items) if random.below(2) == 0 => items.push(value),
        Value::Object(members) if random.below(2) == 0 => {
            members.insert(KEYS[random.below(KEYS.len())].to_owned(), value);
        }
        old => *old = value,
    }
}

fn walk(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Array(items) => (0..).zip(items).for_each(|(index, item)| walk(item, format!("{at}/{index}"), places)),
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            walk(member, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), places);
        }),
        _ => {}
    }
    places.push(at);
}

/// Members of config.json that may be missing.
const KEYS: &[&str] = &[
    "ambient",
    "annotations",
    "apparmorProfile",
    "architectures",
    "args",
    "cgroupsPath",
    "consoleSize",
    "cwd",
    "defaultAction",
    "destination",
    "devices",
    "domainname",
    "errnoRet",
    "execCPUAffinity",
    "flags",
    "gidMappings",
    "hooks",
    "hostname",
    "intelRdt",
    "ioPriority",
    "listenerPath",
    "maskedPaths",
    "memoryPolicy",
    "mountLabel",
    "mounts",
    "namespaces",
    "netDevices",
    "noNewPrivileges",
    "oomScoreAdj",
    "options",
    "path",
    "personality",
    "poststop",
    "prestart",
    "readonly",
    "readonlyPaths",
    "resources",
    "rlimits",
    "rootfsPropagation",
    "scheduler",
    "seccomp",
    "selinuxLabel",
    "source",
    "syscalls",
    "sysctl",
    "terminal",
    "timeOffsets",
    "type",
    "uidMappings",
    "umask",
    "user",
];

fn known(random: &mut Random) -> Value {
    const TEXTS: &[&str] = &[
        "",
        "/",
        ".",
        "..",
        "/dev",
        "/dev/console",
        "/proc",
        "/proc/self/ns/net",
        "/proc/sys",
        "/sys/fs/cgroup",
        "user",
        "time",
        "cgroup",
        "cgroup2",
        "bind",
        "rbind",
        "tmpfs",
        "sysfs",
        "tmpcopyup",
        "idmap",
        "ro",
        "rro",
        "remount",
        "shared",
        "unbindable",
        "a.slice:b:c",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_ERRNO",
        "CAP_SYS_ADMIN",
        "p",
        "u",
        "PATH=",
        "HOME=",
    ];
    match random.below(6) {
        0 => json!(TEXTS[random.below(TEXTS.len())]),
        1 => {
            [json!(0), json!(1), json!(-1), json!(u32::MAX), json!(i64::MIN), json!(u64::MAX)][random.below(6)].clone()
        }
        2 => json!([{ "containerID": 0, "hostID": random.below(1 << 20), "size": random.below(1 << 20) }]),
        3 => [json!(true), json!(false), json!(null), json!([]), json!({})][random.below(5)].clone(),
        4 => {
            json!({ "destination": "/d", "type": TEXTS[random.below(TEXTS.len())], "options": [TEXTS[random.below(TEXTS.len())]] })
        }
        _ => json!([{ "path": "/bin/true", "args": ["true"], "timeout": random.below(9) }]),
    }
}
