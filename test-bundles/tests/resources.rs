//! `linux.resources`, one after another: what each becomes on cgroup v1, on v2, and as a property of a systemd unit, by the
//! kernel's own file; and what the limits do, by effect (runtime spec config-linux.md, "Control groups").
//!
//! [`TABLE`] is what the README shows; a test compares the two. What a host has no file for is refused, which is looked at too,
//! and told as skipped.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_bundles::bundle::{Bundle, Ran, ours};
use test_bundles::{cgroups, wait_until};

/// A resource of the spec.
struct Row {
    /// As the README names it.
    name: &'static str,
    /// `linux.resources`; `DISK` stands for the numbers of a disk, such as `"major": 8, "minor": 0`.
    json: &'static str,
    v1: Answer,
    v2: Answer,
    /// The properties of a unit on v2, and their values as `systemctl show` has them. None: it is left to the file.
    systemd: &'static [(&'static str, &'static str)],
}

/// What becomes of it.
enum Answer {
    /// These files say this; `DISK` stands for `8:0`. Of several that have a `|` between them the host has one.
    Files(&'static [(&'static str, &'static str)]),
    /// Refused with an error that ends with this.
    Refused(&'static str),
    /// A program that the kernel asks, which no file shows.
    Program,
}

use Answer::{Files, Program, Refused};

const TABLE: &[Row] = &[
    Row {
        name: "memory.limit",
        json: r#"{"memory": {"limit": 67108864}}"#,
        v1: Files(&[("memory.limit_in_bytes", "67108864")]),
        v2: Files(&[("memory.max", "67108864")]),
        systemd: &[("MemoryMax", "67108864")],
    },
    Row {
        name: "memory.reservation",
        json: r#"{"memory": {"reservation": 33554432}}"#,
        v1: Files(&[("memory.soft_limit_in_bytes", "33554432")]),
        v2: Files(&[("memory.low", "33554432")]),
        systemd: &[("MemoryLow", "33554432")],
    },
    Row {
        name: "memory.swap",
        json: r#"{"memory": {"limit": 67108864, "swap": 100663296}}"#,
        v1: Files(&[("memory.memsw.limit_in_bytes", "100663296")]),
        v2: Files(&[("memory.swap.max", "33554432")]),
        systemd: &[("MemorySwapMax", "33554432")],
    },
    Row {
        name: "memory.swappiness",
        json: r#"{"memory": {"swappiness": 10}}"#,
        v1: Files(&[("memory.swappiness", "10")]),
        v2: Refused("resources/memory/swappiness: cgroup v2 has none"),
        systemd: &[],
    },
    Row {
        name: "memory.disableOOMKiller",
        json: r#"{"memory": {"disableOOMKiller": true}}"#,
        v1: Files(&[("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 0")]),
        v2: Refused("resources/memory/disableOOMKiller: cgroup v2 cannot"),
        systemd: &[],
    },
    Row {
        name: "cpu.shares",
        json: r#"{"cpu": {"shares": 512}}"#,
        v1: Files(&[("cpu.shares", "512")]),
        v2: Files(&[("cpu.weight", "59")]),
        systemd: &[("CPUWeight", "59")],
    },
    Row {
        name: "cpu.quota, cpu.period",
        json: r#"{"cpu": {"quota": 12345, "period": 50000}}"#,
        v1: Files(&[("cpu.cfs_quota_us", "12345"), ("cpu.cfs_period_us", "50000")]),
        v2: Files(&[("cpu.max", "12345 50000")]),
        systemd: &[("CPUQuotaPerSecUSec", "250ms"), ("CPUQuotaPeriodUSec", "50ms")],
    },
    Row {
        name: "cpu.burst",
        json: r#"{"cpu": {"quota": 20000, "burst": 10000}}"#,
        v1: Files(&[("cpu.cfs_burst_us", "10000")]),
        v2: Files(&[("cpu.max.burst", "10000")]),
        systemd: &[],
    },
    Row {
        name: "cpu.idle",
        json: r#"{"cpu": {"idle": 1}}"#,
        v1: Files(&[("cpu.idle", "1")]),
        v2: Files(&[("cpu.idle", "1")]),
        systemd: &[],
    },
    Row {
        name: "cpu.realtimePeriod",
        json: r#"{"cpu": {"realtimePeriod": 1000000}}"#,
        v1: Files(&[("cpu.rt_period_us", "1000000")]),
        v2: Refused("resources/cpu/realtimePeriod: cgroup v2 has none"),
        systemd: &[],
    },
    Row {
        name: "cpu.realtimeRuntime",
        json: r#"{"cpu": {"realtimeRuntime": 1000}}"#,
        v1: Files(&[("cpu.rt_runtime_us", "1000")]),
        v2: Refused("resources/cpu/realtimeRuntime: cgroup v2 has none"),
        systemd: &[],
    },
    Row {
        name: "cpu.cpus",
        json: r#"{"cpu": {"cpus": "0"}}"#,
        v1: Files(&[("cpuset.cpus", "0")]),
        v2: Files(&[("cpuset.cpus", "0")]),
        systemd: &[("AllowedCPUs", "0")],
    },
    Row {
        name: "cpu.mems",
        json: r#"{"cpu": {"mems": "0"}}"#,
        v1: Files(&[("cpuset.mems", "0")]),
        v2: Files(&[("cpuset.mems", "0")]),
        systemd: &[("AllowedMemoryNodes", "0")],
    },
    Row {
        name: "pids.limit",
        json: r#"{"pids": {"limit": 20}}"#,
        v1: Files(&[("pids.max", "20")]),
        v2: Files(&[("pids.max", "20")]),
        systemd: &[("TasksMax", "20")],
    },
    Row {
        name: "pids.limit 0 or 1",
        json: r#"{"pids": {"limit": 0}}"#,
        v1: Files(&[("pids.max", "1")]),
        v2: Files(&[("pids.max", "1")]),
        systemd: &[("TasksMax", "1")],
    },
    Row {
        name: "blockIO.weight",
        json: r#"{"blockIO": {"weight": 500}}"#,
        v1: Files(&[("blkio.weight|blkio.bfq.weight", "500")]),
        v2: Files(&[("io.bfq.weight|io.weight", "default 500|default 4950")]),
        systemd: &[("IOWeight", "4950")],
    },
    Row {
        name: "blockIO.leafWeight",
        json: r#"{"blockIO": {"leafWeight": 500}}"#,
        v1: Files(&[("blkio.leaf_weight", "500")]),
        v2: Refused("resources/blockIO/leafWeight: cgroup v2 has none"),
        systemd: &[],
    },
    Row {
        name: "blockIO.throttleReadBpsDevice",
        json: r#"{"blockIO": {"throttleReadBpsDevice": [{DISK, "rate": 1048576}]}}"#,
        v1: Files(&[("blkio.throttle.read_bps_device", "DISK 1048576")]),
        v2: Files(&[("io.max", "DISK rbps=1048576 wbps=max riops=max wiops=max")]),
        systemd: &[],
    },
    Row {
        name: "blockIO.throttleWriteBpsDevice",
        json: r#"{"blockIO": {"throttleWriteBpsDevice": [{DISK, "rate": 1048576}]}}"#,
        v1: Files(&[("blkio.throttle.write_bps_device", "DISK 1048576")]),
        v2: Files(&[("io.max", "DISK rbps=max wbps=1048576 riops=max wiops=max")]),
        systemd: &[],
    },
    Row {
        name: "blockIO.throttleReadIOPSDevice",
        json: r#"{"blockIO": {"throttleReadIOPSDevice": [{DISK, "rate": 100}]}}"#,
        v1: Files(&[("blkio.throttle.read_iops_device", "DISK 100")]),
        v2: Files(&[("io.max", "DISK rbps=max wbps=max riops=100 wiops=max")]),
        systemd: &[],
    },
    Row {
        name: "blockIO.throttleWriteIOPSDevice",
        json: r#"{"blockIO": {"throttleWriteIOPSDevice": [{DISK, "rate": 100}]}}"#,
        v1: Files(&[("blkio.throttle.write_iops_device", "DISK 100")]),
        v2: Files(&[("io.max", "DISK rbps=max wbps=max riops=max wiops=100")]),
        systemd: &[],
    },
    Row {
        name: "hugepageLimits",
        json: r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
        v1: Files(&[("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304")]),
        v2: Files(&[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")]),
        systemd: &[],
    },
    Row {
        name: "network.classID",
        json: r#"{"network": {"classID": 1048577}}"#,
        v1: Files(&[("net_cls.classid", "1048577")]),
        v2: Refused("resources/network/classID: cgroup v2 has none"),
        systemd: &[],
    },
    Row {
        name: "network.priorities",
        json: r#"{"network": {"priorities": [{"name": "lo", "priority": 5}]}}"#,
        v1: Files(&[("net_prio.ifpriomap", "lo 5")]),
        v2: Refused("resources/network/priorities: cgroup v2 has none"),
        systemd: &[],
    },
    Row {
        name: "unified",
        json: r#"{"unified": {"memory.high": "50331648", "pids.max": "1"}, "pids": {"limit": 0}}"#,
        v1: Refused("unified resource memory.high: this host has cgroup v1"),
        v2: Files(&[("memory.high", "50331648"), ("pids.max", "1")]),
        systemd: &[("MemoryHigh", "50331648"), ("TasksMax", "1")],
    },
    Row {
        name: "devices",
        json: r#"{"devices": [{"allow": false, "access": "rwm"}]}"#,
        v1: Files(&[("devices.list", "c 10:200 rwm")]),
        v2: Program,
        systemd: &[("DevicePolicy", "strict")],
    },
];

/// What the distribution's runc leaves out without a word, or reads otherwise.
const NOT_RUNCS: [&str; 3] = ["cpu.burst", "cpu.idle", "pids.limit 0 or 1"];

/// Rows that no machine at hand can show whole.
const UNTRIED: [&str; 2] = [
    "| `blockIO.weightDevice` | `blkio.weight_device`, `blkio.bfq.weight_device` | `io.bfq.weight`, `io.weight` | by the file |",
    "| `rdma` | `rdma.max` | `rdma.max` | by the file |",
];

fn cells(row: &Row) -> String {
    let code = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let cell = |answer: &Answer| match answer {
        Files(files) => code(files.iter().flat_map(|(name, _)| name.split('|')).collect()),
        Refused(text) => format!("refused: `{text}`"),
        Program => "a BPF program".to_owned(),
    };
    let systemd = match (&row.v2, row.systemd) {
        (Refused(_), _) => "refused".to_owned(),
        (_, []) => "by the file".to_owned(),
        (_, properties) => code(properties.iter().map(|(name, _)| *name).collect()),
    };
    format!("| `{}` | {} | {} | {systemd} |", row.name.replace(", ", "`, `"), cell(&row.v1), cell(&row.v2))
}

#[test]
fn the_readme_has_this_table() {
    let mut lines: Vec<String> = TABLE.iter().map(cells).collect();
    lines.extend(UNTRIED.map(str::to_owned));
    let table = lines.join("\n");
    assert!(include_str!("../../README.md").contains(&table), "the README has not:\n{table}");
}

/// A whole disk: the one that the bundles are on.
fn disk(bundle: &Bundle) -> Option<(u64, u64)> {
    cgroups::disk_of(bundle.path()).ok()
}

fn resources(bundle: &Bundle, row: &Row) -> Option<Value> {
    let (major, minor) = if row.json.contains("DISK") { disk(bundle)? } else { (0, 0) };
    let text = row.json.replace("DISK", &format!(r#""major": {major}, "minor": {minor}"#));
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn each_becomes_what_the_kernel_says() {
    // Without any limit, to see which files there are.
    let mut bare = Bundle::new("cgroup");
    bare.probe(&["sleep"]);
    bare.create().success();
    for row in TABLE.iter().filter(|row| ours() || !NOT_RUNCS.contains(&row.name)) {
        let mut bundle = Bundle::new("cgroup");
        let Some(resources) = resources(&bundle, row) else {
            println!("skipped: {}: the bundles are on no disk", row.name);
            continue;
        };
        bundle.config["linux"]["resources"] = resources;
        bundle.probe(&["sleep"]);
        match cgroups::either(&row.v1, &row.v2) {
            Files(files) => by_file(&bundle, &bare, row.name, files),
            Refused(text) => refused(&bundle.create(), row.name, text),
            // What it does is another test's.
            Program => drop(bundle.create().success()),
        }
    }
}

/// What `files` are to say, with those names that the host has; none where it lacks them, which the cgroup of `bare` tells.
fn by_file(bundle: &Bundle, bare: &Bundle, name: &str, files: &[(&str, &str)]) {
    let ran = bundle.create();
    if ran.status != 0 {
        // The only excuses are a host without the file, and a cgroup above that has no time of this kind to give.
        let is_here = |file: &&str| cgroups::read(&bare.cgroup(), file).is_ok();
        let lacking = files.iter().any(|(names, _)| !names.split('|').any(|file| is_here(&file)));
        let excused = (lacking && ran.stderr.contains("not to be had on this host"))
            || (name == "cpu.realtimeRuntime" && ran.stderr.contains("to cpu.rt_runtime_us: EINVAL"));
        assert!(excused || !ours(), "{name}: {}", ran.stderr);
        println!("skipped: {name}: {}", ran.stderr.trim().rsplit(": write ").next().unwrap_or_default());
        return;
    }
    bundle.call(&["start", bundle.id()]).success();
    check(&bundle.cgroup(), bundle, name, files);
}

fn check(cgroup: &str, bundle: &Bundle, name: &str, files: &[(&str, &str)]) {
    for (file, value) in files {
        let (major, minor) = disk(bundle).unwrap_or_default();
        let value = value.replace("DISK", &format!("{major}:{minor}"));
        let mut names = file.split('|').zip(value.split('|').cycle());
        let (file, said, value) = names
            .find_map(|(file, value)| Some((file, cgroups::read(cgroup, file).ok()?, value)))
            .unwrap_or_else(|| panic!("{name}: no {file}"));
        let lines = said == value || (!value.contains('\n') && said.lines().any(|line| line == value));
        assert!(lines, "{name}: {file} is {said:?}, not {value:?}");
    }
}

fn refused(ran: &Ran, name: &str, text: &str) {
    if ours() {
        assert!(ran.status != 0 && ran.stderr.trim().ends_with(text), "{name}: {}", ran.stderr);
    }
}

#[test]
fn each_becomes_what_systemd_says() {
    if !cgroups::has_systemd() || !cgroups::is_v2() {
        println!("skipped: systemd is not the init system here, with cgroup v2");
        return;
    }
    for row in TABLE {
        let mut bundle = Bundle::new("cgroup");
        let unit = format!("t-{}.scope", bundle.id());
        bundle.config["linux"]["cgroupsPath"] = format!("shimtest.slice:t:{}", bundle.id()).into();
        bundle.config["linux"]["resources"] = resources(&bundle, row).expect("the bundles are on a disk");
        bundle.probe(&["sleep"]);
        let create = || {
            bundle.call(&[
                "--systemd-cgroup",
                "create",
                "--bundle",
                &bundle.path().to_string_lossy(),
                "--pid-file",
                &bundle.pid_file(),
                bundle.id(),
            ])
        };
        if let Refused(text) = row.v2 {
            refused(&create(), row.name, text);
            continue;
        }
        create().success();
        if let Files(files) = row.v2 {
            check(&format!("/shimtest.slice/{unit}"), &bundle, row.name, files);
        }
        for (property, value) in row.systemd {
            let shown = Command::new("systemctl").args(["show", "--value", "-p", property, &unit]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), *value, "{}: {property}", row.name);
        }
    }
}

#[test]
fn a_memory_limit_kills() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let ran = bundle.probe(&["allocate", "64"]).run();
    assert_eq!(ran.status, 128 + 9, "{}{}", ran.stdout, ran.stderr);
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 128 << 20}});
    assert_eq!(bundle.run().status, 0);
}

#[test]
fn a_pids_limit_stops_a_fork() {
    let mut bundle = Bundle::new("cgroup");
    let forked = |bundle: &mut Bundle, pids: Value| {
        bundle.config["linux"]["resources"] = json!({"pids": pids});
        bundle.probe(&["fork", "5"]).seen()
    };
    let stopped = json!({"forked": 3, "stopped": "EAGAIN"});
    assert_eq!(forked(&mut bundle, json!({"limit": 4})), stopped, "init and three more");
    for unlimited in [json!({"limit": -1}), json!({}), json!({"limit": null}), Value::Null] {
        let shown = unlimited.to_string();
        assert_eq!(forked(&mut bundle, unlimited), json!({"forked": 5, "stopped": null}), "{shown}");
    }
    if ours() {
        assert_eq!(forked(&mut bundle, json!({"limit": 1})), json!({"forked": 0, "stopped": "EAGAIN"}), "init alone");
    }
}

#[test]
fn the_largest_limit_of_huge_pages_is_none() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}]});
    let ran = bundle.probe(&["sleep"]).create();
    if ran.status != 0 {
        assert!(!ours() || ran.stderr.contains("not to be had on this host"), "{}", ran.stderr);
        println!("skipped: {}", ran.stderr.trim());
        return;
    }
    let limit =
        cgroups::read(&bundle.cgroup(), cgroups::either("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")).unwrap();
    // All pages that the kernel can count, in whole huge ones.
    assert!(limit == "max" || limit.parse::<u64>().unwrap() >= i64::MAX.unsigned_abs() - (2 << 20), "{limit}");
}

#[test]
fn a_quota_throttles() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["resources"] = json!({"cpu": {"quota": 2000, "period": 20_000}});
    bundle.probe(&["spin"]);
    bundle.start();
    let throttled = || {
        let text = cgroups::read(&bundle.cgroup(), "cpu.stat").unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.and_then(|count| count.parse::<u32>().ok()).unwrap()
    };
    assert!(wait_until(Duration::from_secs(10), || throttled() >= 5), "throttled {} times", throttled());
}

#[test]
fn a_throttled_disk_is_slow() {
    let mut bundle = Bundle::new("cgroup");
    let Some((major, minor)) = disk(&bundle) else {
        println!("skipped: the bundles are on no disk");
        return;
    };
    let mut written = |rate: u64| {
        let at = json!([{"major": major, "minor": minor, "rate": rate}]);
        bundle.config["linux"]["resources"] = json!({"blockIO": {"throttleWriteBpsDevice": at}});
        bundle.probe(&["write-through", "/file", "2"]).seen()["ms"].as_u64().unwrap()
    };
    let slow = written(1 << 20);
    // A first slice of the throttle's may pass at once.
    assert!(slow >= 1000, "2 MiB at 1 MiB a second took {slow} ms");
    println!("2 MiB took {slow} ms at 1 MiB a second, and {} ms without", written(1 << 40));
}

#[test]
fn a_denied_device_gives_eperm() {
    let mut bundle = Bundle::new("cgroup");
    // kmsg, there by its node, is no default device.
    let node = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
    bundle.config["linux"]["devices"] = json!([node]);
    let opened = |bundle: &mut Bundle, rules: Value| {
        bundle.config["linux"]["resources"] = json!({ "devices": rules });
        bundle.probe(&["write", "/dev/kmsg", "/dev/null"]).seen()
    };
    let deny = json!({"allow": false, "access": "rwm"});
    let allow = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    assert_eq!(opened(&mut bundle, json!([deny])), json!({"/dev/kmsg": "EPERM", "/dev/null": "ok"}));
    assert_eq!(opened(&mut bundle, json!([deny, allow("rwm")])), json!({"/dev/kmsg": "ok", "/dev/null": "ok"}));
    assert_eq!(opened(&mut bundle, json!([deny, allow("rm")])), json!({"/dev/kmsg": "EPERM", "/dev/null": "ok"}));
    bundle.config["linux"].as_object_mut().unwrap().remove("resources");
    let seen = bundle.probe(&["write", "/dev/kmsg", "/dev/null"]).seen();
    assert_eq!(seen, json!({"/dev/kmsg": "EPERM", "/dev/null": "ok"}), "without any rules too");
}

/// rdma has no device on any machine at hand: that the kernel is asked, and by what name, shows all the same.
#[test]
fn an_rdma_device_that_is_not_there_is_named() {
    let mut bundle = Bundle::new("cgroup");
    bundle.config["linux"]["resources"] = json!({"rdma": {"nodev0": {"hcaHandles": 3, "hcaObjects": 4}}});
    let ran = bundle.probe(&["exit", "0"]).run();
    let text = "write nodev0 hca_handle=3 hca_object=4 to rdma.max: ";
    assert!(ran.status != 0 && (ran.stderr.contains(text) || !ours()), "{}", ran.stderr);
}

/// The file that shows it is there where the machine has such a controller.
#[test]
fn a_disk_of_its_own_weight() {
    let mut bundle = Bundle::new("cgroup");
    let Some((major, minor)) = disk(&bundle) else {
        println!("skipped: the bundles are on no disk");
        return;
    };
    bundle.config["linux"]["resources"] =
        json!({"blockIO": {"weightDevice": [{"major": major, "minor": minor, "weight": 500}]}});
    bundle.probe(&["sleep"]);
    let ran = bundle.create();
    if !ours() {
        println!("skipped: the distribution's runc leaves it out where it has no file");
        return;
    }
    if ran.status != 0 {
        let known = ["not to be had on this host", "EOPNOTSUPP", "ENODEV", "EINVAL"];
        assert!(known.iter().any(|reason| ran.stderr.contains(reason)), "{}", ran.stderr);
        println!("skipped: blockIO.weightDevice: {}", ran.stderr.trim().rsplit(": write ").next().unwrap_or_default());
        return;
    }
    let files: [(&str, &str); 1] = cgroups::either(
        [("blkio.weight_device|blkio.bfq.weight_device", "DISK 500")],
        [("io.bfq.weight|io.weight", "DISK 500|DISK 4950")],
    );
    check(&bundle.cgroup(), &bundle, "weightDevice", &files);
}
