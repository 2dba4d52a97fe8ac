//! Properties, annotations and names, by snapshot and property.

use config::resources::{BlockIo, Cpu, DeviceRule, DeviceSet, Limit, Memory};
use proptest::prelude::*;

use super::*;
use crate::cgroup::host::Version;
use crate::cgroup::{Driver, v1, v2};

mod units;

const ALL_DEVICES: DeviceRule = DeviceRule { allow: true, device: None };

fn resources() -> Resources {
    Resources {
        devices: Some(vec![ALL_DEVICES]),
        memory: Memory {
            limit: Some(Limit::At(64 << 20)),
            reservation: Some(Limit::At(32 << 20)),
            swap: Some(Limit::At(96 << 20)),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(Limit::At(12_345)),
            period: Some(50_000),
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
            ..Cpu::default()
        },
        pids: Some(Limit::At(7)),
        block_io: BlockIo { weight: Some(500), ..BlockIo::default() },
        ..Resources::default()
    }
}

fn print(properties: &[Property]) -> String {
    properties.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn properties_on_v2() {
    let mut resources = resources();
    let unified = [("memory.high", "1000"), ("memory.max", "max"), ("misc.max", "res 1"), ("cpu.max", "max")];
    resources.unified = unified.map(|(file, value)| (file.into(), value.into())).into();
    let mut all = properties::of_unit("a.slice", "x.scope");
    properties::set(&mut all, properties::of_resources(&resources, &v2::writes(&resources).unwrap()).unwrap());
    insta::assert_snapshot!(print(&all));
}

#[test]
fn properties_on_v1() {
    let mut resources = resources();
    let disk = DeviceSet { block: true, major: Some(8), minor: None, access: DeviceSet::READ | DeviceSet::WRITE };
    resources.devices = Some(vec![DeviceRule { allow: true, device: Some(disk) }]);
    resources.memory.limit = Some(Limit::Unlimited);
    let mut all = properties::of_unit("a.slice", "a-b.slice");
    properties::set(&mut all, properties::of_resources(&resources, &v1::writes(&resources).unwrap()).unwrap());
    insta::assert_snapshot!(print(&all));
}

#[test]
fn quotas_are_whole_percents_and_never_less() {
    let per_second = |write: Write| {
        let all = properties::of_resources(&Resources::default(), &[write]).unwrap();
        all.iter()
            .find(|(name, _)| name == "CPUQuotaPerSecUSec")
            .map(|(_, value)| value.to_string().replace("uint64 ", ""))
    };
    assert_eq!(per_second(Write::new("cpu.max", "50000 100000")).as_deref(), Some("500000"));
    assert_eq!(per_second(Write::new("cpu.max", "50001 100000")).as_deref(), Some("510000"));
    assert_eq!(per_second(Write::new("cpu.max", "50000")).as_deref(), Some("500000"));
    assert_eq!(per_second(Write::new("cpu.cfs_quota_us", "-1")).as_deref(), Some("18446744073709551615"));
    for bad in ["", "1 0", "x", "1 x"] {
        let error = properties::of_resources(&Resources::default(), &[Write::new("cpu.max", bad)]).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("cpu.max"), "{error}");
    }
}

#[test]
fn rules_that_systemd_cannot_say_are_not_half_said() {
    let of = |device: DeviceSet, allow: bool| {
        let devices = Some(vec![ALL_DEVICES, DeviceRule { allow, device: Some(device) }]);
        let resources = Resources { devices, ..Resources::default() };
        print(&properties::of_resources(&resources, &[]).unwrap())
    };
    let null = DeviceSet { block: false, major: Some(1), minor: Some(3), access: DeviceSet::READ };
    assert_eq!(of(null, false), "DevicePolicy = \"auto\"\nDeviceAllow = @a(ss) []");
    let devices = Some(vec![DeviceRule { allow: true, device: Some(DeviceSet { major: None, ..null }) }]);
    let resources = Resources { devices, ..Resources::default() };
    let any_major = print(&properties::of_resources(&resources, &[]).unwrap());
    assert_eq!(any_major, "DevicePolicy = \"auto\"\nDeviceAllow = @a(ss) []");
}

fn annotation(name: &str, value: &str) -> std::result::Result<String, String> {
    let all = [("other".to_owned(), "x".to_owned()), (format!("org.systemd.property.{name}"), value.to_owned())];
    annotations::properties(&all)
        .map(|all| {
            let types: Vec<_> = all.iter().map(|(_, value)| value.value_signature().to_string()).collect();
            format!("{} {}", types.join(""), print(&all))
        })
        .map_err(|error| {
            assert_eq!(error.kind(), Kind::Invalid);
            error.to_string()
        })
}

#[test]
fn annotations_are_properties() {
    let values = [
        ("TimeoutStopUSec", "uint64 123456789"),
        ("TimeoutStopSec", "7"),
        ("TimeoutStopSec", "0.5"),
        ("CollectMode", "'inactive-or-failed'"),
        ("Description", r#""a \"b\" \u00e4 c""#),
        ("DefaultDependencies", "true"),
        ("DefaultDependencies", " false "),
        ("CPUWeight", "uint64 0x10"),
        ("Nice", "-5"),
        ("OOMScoreAdjust", "int32 010"),
        ("Before", "['a.service', \"b.service\",]"),
        ("Before", "@as []"),
        ("IODeviceWeight", "[('/dev/vda', uint64 5)]"),
        ("IODeviceWeight", "@a(st) [('/dev/vda', 5)]"),
        ("AllowedCPUs", "[byte 1, 2]"),
        ("Double", "1e3"),
    ];
    let lines = values.map(|(name, value)| format!("{name}: {value} -> {}", annotation(name, value).unwrap()));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn bad_annotations_are_refused_by_name() {
    for (name, value) in [
        ("ab", "1"),
        ("Mem.Max", "1"),
        ("MemoryMax", ""),
        ("MemoryMax", "1 2"),
        ("MemoryMax", "5000000000"),
        ("MemoryMax", "uint64 -1"),
        ("MemoryMax", "byte 256"),
        ("MemoryMax", "0x"),
        ("MemoryMax", "'open"),
        ("MemoryMax", "[]"),
        ("MemoryMax", "[1, 'a']"),
        ("MemoryMax", "@at ['a']"),
        ("MemoryMax", "@(st) ('a',)"),
        ("MemoryMax", "'\0'"),
        ("MemoryMax", "truer"),
        ("TimeoutSec", "'5'"),
        ("TimeoutSec", "-5"),
    ] {
        let error = annotation(name, value).unwrap_err();
        assert!(error.contains(&format!("org.systemd.property.{name}")), "{error}");
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    annotation("Deep", &deep).unwrap_err();
}

proptest! {
    #[test]
    fn no_annotation_panics(text in "[-@(\\[\\])a-z0-9 ,.'\"\\\\x]{0,24}|\\PC{0,12}") {
        let _ = annotation("Some", &text);
    }

    /// What prints values is not ours, and writes the text form of GVariant too.
    #[test]
    fn values_are_read_as_they_are_printed(
        pairs in prop::collection::vec(("[ -~äß]{0,9}", any::<u64>()), 0..4),
        number: i64, flag: bool, fraction in -1e9_f64..1e9) {
        for value in [zbus::Variant::from(pairs), number.into(), flag.into(), fraction.into()] {
            let all = [("org.systemd.property.Some".to_owned(), value.to_string())];
            prop_assert_eq!(annotations::properties(&all).unwrap(), [("Some".to_owned(), value)]);
        }
    }

    #[test]
    fn sets_have_a_bit_for_each_number(numbers in prop::collection::btree_set(0_usize..300, 1..20)) {
        let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let write = Write::new("cpuset.cpus", list.join(","));
        let all = properties::of_resources(&Resources::default(), &[write]).unwrap();
        let (_, bits) = all.into_iter().find(|(name, _)| name == "AllowedCPUs").unwrap();
        let bits: Vec<u8> = bits.downcast().unwrap();
        let set: Vec<usize> = (0..bits.len() * 8).filter(|bit| bits[bit / 8] & (1 << (bit % 8)) != 0).collect();
        prop_assert_eq!(set, numbers.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn lists_that_are_none_are_refused() {
    for bad in ["x", "3-1", "1-", "99999999"] {
        let writes = [Write::new("cpuset.mems", bad)];
        assert_eq!(
            properties::of_resources(&Resources::default(), &writes).unwrap_err().kind(),
            Kind::Invalid,
            "{bad}"
        );
    }
}

#[test]
fn units_have_names() {
    let name = |path: CgroupPath| unit_of(&path).map(|(slice, prefix, name)| (slice, path::unit(&prefix, &name)));
    let of = |slice: &str, name: &str| (slice.to_owned(), name.to_owned());
    assert_eq!(name(CgroupPath::Relative("web".into())).unwrap(), of("system.slice", "myshim-web.scope"));
    let pod = CgroupPath::Systemd { slice: "a.slice".into(), prefix: "cri".into(), name: "x".into() };
    assert_eq!(name(pod).unwrap(), of("a.slice", "cri-x.scope"));
    for bad in [CgroupPath::Relative("a/b".into()), CgroupPath::Absolute("a".into())] {
        assert_eq!(name(bad).unwrap_err().kind(), Kind::Invalid);
    }
}
