//! Any maps of a user namespace and of an id-mapped mount: what is accepted is what the kernel takes (user_namespaces(7)), says
//! of every id one thing at the most, and can be planned.
//!
//! The input is lines of three numbers, four bytes each; the first byte says how many of them are the container's.

#![no_main]

use config::ids::{IdMap, host_of};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let line = |bytes: &[u8]| {
        let [container, host, size] = [0, 4, 8].map(|at| number(&bytes[at..at + 4]));
        json!({ "containerID": container, "hostID": host, "size": size })
    };
    let lines: Vec<Value> = rest.chunks_exact(12).map(line).collect();
    let (own, mounts) = lines.split_at(usize::from(*first).min(lines.len()));
    let mut namespaces = vec![json!({ "type": "mount" })];
    namespaces.extend((!own.is_empty()).then(|| json!({ "type": "user" })));
    let spec = json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["true"], "user": { "uid": 0, "gid": 0 } },
        "linux": { "namespaces": namespaces, "uidMappings": own, "gidMappings": own },
        "mounts": [{
            "destination": "/d", "type": "bind", "source": "/s", "options": ["bind"],
            "uidMappings": mounts, "gidMappings": mounts,
        }],
    });
    let Ok(container) = fuzz::resolve(spec.to_string().as_bytes()) else { return };
    for map in [&container.mappings.uids, &container.mappings.gids] {
        laws(map);
    }
    fuzz::plan(&container);
});

/// What the kernel asks of a map.
fn laws(map: &[IdMap]) {
    assert!(map.len() <= 340);
    for (place, line) in map.iter().enumerate() {
        assert!(line.size > 0);
        let last = |first: u32| first.checked_add(line.size - 1).expect("no line goes past the last id");
        let (inside, outside) = (last(line.container), last(line.host));
        for id in [line.container, inside] {
            assert_eq!(host_of(map, id), Some(line.host + (id - line.container)), "an id has two meanings: {map:?}");
        }
        for other in &map[..place] {
            let apart = |a: u32, a_last: u32, b: u32, size: u32| a_last < b || b + (size - 1) < a;
            assert!(apart(line.container, inside, other.container, other.size), "{map:?}");
            assert!(apart(line.host, outside, other.host, other.size), "{map:?}");
        }
    }
}
