//! The program's behaviour, by an interpreter of classic BPF, against the profile read rule by rule.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use libseccomp::ScmpSyscall;
use proptest::prelude::*;

use super::verdict::{Call, verdict};
use super::*;

fn native(name: &str, args: &[u64]) -> Call {
    Call::native(name.parse().unwrap(), args)
}

fn run(program: &[Instruction], call: &Call) -> u32 {
    run_counting(program, call).0
}

/// What the program returns and after how many instructions.
fn run_counting(program: &[Instruction], call: &Call) -> (u32, usize) {
    verdict(program, call).expect("the kernel would take it")
}

/// What the kernel makes of an action, linux/seccomp.h.
fn value(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::KillThread => 0,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 | u32::from(errno),
        SeccompAction::Trace(message) => 0x7ff0_0000 | u32::from(message),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
        SeccompAction::Notify => 0x7fc0_0000,
    }
}

/// The profile as the spec reads: a rule counts whose name and conditions fit.
fn expected(profile: &Seccomp, name: &str, args: [u64; 6]) -> u32 {
    let holds = |condition: &SeccompCondition| {
        let argument = args[condition.index as usize];
        match condition.operator {
            SeccompOperator::NotEqual => argument != condition.value,
            SeccompOperator::Less => argument < condition.value,
            SeccompOperator::LessOrEqual => argument <= condition.value,
            SeccompOperator::Equal => argument == condition.value,
            SeccompOperator::GreaterOrEqual => argument >= condition.value,
            SeccompOperator::Greater => argument > condition.value,
            SeccompOperator::MaskedEqual => argument & condition.value == condition.value_two,
        }
    };
    let fits = |rule: &&SeccompRule| rule.names.iter().any(|n| n == name) && rule.conditions.iter().all(holds);
    let rule = profile.rules.iter().find(fits);
    value(rule.map_or(profile.default_action, |rule| rule.action))
}

fn condition(index: u32, operator: SeccompOperator, value: u64, value_two: u64) -> SeccompCondition {
    SeccompCondition { index, operator, value, value_two }
}

fn rule(names: &[&str], action: SeccompAction, conditions: &[SeccompCondition]) -> SeccompRule {
    SeccompRule { names: names.iter().map(ToString::to_string).collect(), action, conditions: conditions.into() }
}

const DENIED: [&str; 12] = [
    "acct",
    "bpf",
    "clone",
    "clone3",
    "init_module",
    "keyctl",
    "mount",
    "personality",
    "reboot",
    "setns",
    "socket",
    "umount2",
];

/// As clients send it: everything but what is dangerous, by name, and a few calls by argument.
fn usual_profile() -> Seccomp {
    let known = (0..450).filter_map(|nr| ScmpSyscall::from(nr).get_name().ok());
    let mut allowed: Vec<String> = known.filter(|name| !DENIED.contains(&name.as_str())).collect();
    allowed.push("no_such_call_yet".into());
    let personalities = [0, 8, 0x20000, 0x20008, 0xffff_ffff];
    let mut rules = vec![SeccompRule { names: allowed, action: SeccompAction::Allow, conditions: vec![] }];
    rules.extend(personalities.map(|persona| {
        rule(&["personality"], SeccompAction::Allow, &[condition(0, SeccompOperator::Equal, persona, 0)])
    }));
    let no_namespaces = condition(0, SeccompOperator::MaskedEqual, 0x7e02_0000, 0);
    rules.push(rule(&["clone"], SeccompAction::Allow, &[no_namespaces]));
    rules.push(rule(&["clone3"], SeccompAction::Errno(38), &[]));
    rules.push(rule(
        &["socket"],
        SeccompAction::Allow,
        &[condition(0, SeccompOperator::NotEqual, 40, 0), condition(1, SeccompOperator::LessOrEqual, 5, 0)],
    ));
    rules.push(rule(&["bpf"], SeccompAction::Errno(1), &[]));
    let architectures =
        if cfg!(target_arch = "x86_64") { vec!["SCMP_ARCH_X86_64".into(), "SCMP_ARCH_X86".into()] } else { vec![] };
    Seccomp { default_action: SeccompAction::Errno(1), architectures, flags: 4, rules, listener: None }
}

#[test]
fn the_usual_profile() {
    let profile = usual_profile();
    let filter = compile(&profile).unwrap();
    assert_eq!(filter.flags, 4);
    let check = |name: &str, args: &[u64], action| {
        assert_eq!(run(&filter.program, &native(name, args)), value(action), "{name} {args:?}");
    };
    check("read", &[], SeccompAction::Allow);
    check("mount", &[], SeccompAction::Errno(1));
    check("clone3", &[], SeccompAction::Errno(38));
    check("clone", &[0x11], SeccompAction::Allow);
    check("clone", &[0x1000_0011], SeccompAction::Errno(1));
    check("personality", &[0x20008], SeccompAction::Allow);
    check("personality", &[0x1_0000_0008], SeccompAction::Errno(1));
    check("socket", &[2, 5], SeccompAction::Allow);
    check("socket", &[40, 5], SeccompAction::Errno(1));
    check("socket", &[2, 6], SeccompAction::Errno(1));
    let foreign = Call { arch: 0x1234, ..native("read", &[]) };
    assert_eq!(run(&filter.program, &foreign), value(SeccompAction::KillThread));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_second_architecture_has_its_own_numbers() {
    let filter = compile(&usual_profile()).unwrap();
    let i386 = |nr| run(&filter.program, &Call { arch: 0x4000_0003, nr, args: [0; 6] });
    // mount is 21 and read is 3 there.
    assert_eq!((i386(3), i386(21)), (value(SeccompAction::Allow), value(SeccompAction::Errno(1))));
    let native_only = compile(&Seccomp { architectures: vec![], ..usual_profile() }).unwrap();
    let call = Call { arch: 0x4000_0003, nr: 3, args: [0; 6] };
    assert_eq!(run(&native_only.program, &call), value(SeccompAction::KillThread));
}

/// A list takes as many instructions as there are calls: to hold, to translate, and to ask for one of them.
#[test]
fn a_long_profile_is_a_short_program() {
    let program = compile(&usual_profile()).unwrap().program;
    let list = list(&usual_profile()).unwrap();
    assert!(program.len() < 200 && list.len() > 600, "{} of {}", program.len(), list.len());
    for name in ["read", "mount", "socketpair", "uname", "statx"] {
        let (_, steps) = run_counting(&program, &native(name, &[]));
        assert!(steps < 16, "{name}: {steps} of {}", program.len());
    }
}

/// Any calls by any actions, some by their arguments too.
fn any_profile() -> impl Strategy<Value = Seccomp> {
    let action = prop_oneof![
        Just(SeccompAction::Allow),
        Just(SeccompAction::Log),
        Just(SeccompAction::KillProcess),
        (1..3_u16).prop_map(SeccompAction::Errno),
    ];
    let condition = (0..2_u32, operator(), 0..4_u64, 0..4_u64).prop_map(|(i, op, a, b)| condition(i, op, a, b));
    let conditions = prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(condition, 1..3)];
    let names = prop::collection::vec(0..460_i32, 1..120).prop_map(|numbers| {
        let names = numbers.into_iter().filter_map(|number| ScmpSyscall::from(number).get_name().ok());
        names.collect::<Vec<_>>()
    });
    let rule = (names, action.clone(), conditions).prop_map(|(names, action, conditions)| SeccompRule {
        names,
        action,
        conditions,
    });
    let architectures = prop::sample::subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"], 0..=3);
    (action, architectures, prop::collection::vec(rule, 0..5)).prop_map(|(default_action, architectures, rules)| {
        let architectures = architectures.into_iter().map(str::to_owned).collect();
        Seccomp { default_action, architectures, flags: 0, rules, listener: None }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_do_what_the_list_does(profile in any_profile()) {
        // Two actions for one call with the same arguments are refused.
        let Ok(list) = list(&profile) else { return Ok(()) };
        let program = ranges::by_ranges(&list).expect("libseccomp's programs are understood");
        for arch in [native("read", &[]).arch, 0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x1234] {
            for nr in [0, 0x4000_0000].into_iter().flat_map(|base| base..base + 600).chain([0xf_0002, u32::MAX]) {
                for args in [[0; 6], [1, 0, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0], [1 << 32 | 3, 1, 0, 0, 0, 0]] {
                    let call = Call { arch, nr, args };
                    prop_assert_eq!(run(&program, &call), run(&list, &call), "{:?}", call);
                }
            }
        }
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let mut profile = usual_profile();
    profile.rules = vec![rule(
        &["socket"],
        SeccompAction::Allow,
        &[condition(0, SeccompOperator::Equal, 1, 0), condition(0, SeccompOperator::Equal, 2, 0)],
    )];
    let program = compile(&profile).unwrap().program;
    let family = |family| run(&program, &native("socket", &[family]));
    assert_eq!([family(1), family(2), family(3)].map(|v| v == value(SeccompAction::Allow)), [true, true, false]);
}

#[test]
fn actions_have_the_kernels_numbers() {
    use SeccompAction::*;
    for action in [KillThread, KillProcess, Trap, Errno(13), Trace(7), Log, Notify] {
        let rules = vec![rule(&["read", "no_such_call_yet"], action, &[])];
        let profile = Seccomp { default_action: Allow, architectures: vec![], flags: 0, rules, listener: None };
        let program = compile(&profile).unwrap().program;
        assert_eq!(run(&program, &native("read", &[])), value(action));
        assert_eq!(run(&program, &native("write", &[])), value(Allow));
    }
}

#[test]
fn no_rules_at_all() {
    let profile = Seccomp {
        default_action: SeccompAction::Errno(1),
        architectures: vec![],
        flags: 0,
        rules: vec![],
        listener: None,
    };
    let program = compile(&profile).unwrap().program;
    assert_eq!(run(&program, &native("read", &[])), value(SeccompAction::Errno(1)));
}

#[test]
fn an_unknown_architecture_is_refused_by_name() {
    let profile = Seccomp { architectures: vec!["SCMP_ARCH_PDP11".into()], ..usual_profile() };
    let error = compile(&profile).unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.to_string().contains("SCMP_ARCH_PDP11"), "{error}");
}

fn operator() -> impl Strategy<Value = SeccompOperator> {
    use SeccompOperator::*;
    proptest::sample::select(vec![NotEqual, Less, LessOrEqual, Equal, GreaterOrEqual, Greater, MaskedEqual])
}

proptest! {
    /// Any comparison on any argument, 64 bits wide.
    #[test]
    fn conditions_compare_as_the_spec_says(
        index in 0_u32..6, operator in operator(), high in 0_u64..3, low in 0_u64..3, second in 0_u64..3,
        args in proptest::array::uniform6((0_u64..3, 0_u64..3)),
    ) {
        let join = |(high, low): (u64, u64)| high << 32 | low;
        let value = join((high, low));
        // libseccomp refuses a masked comparison that can never hold.
        let condition = condition(index, operator, value, value & join((second, second)));
        let profile = Seccomp {
            default_action: SeccompAction::Errno(1), architectures: vec![], flags: 0,
            rules: vec![rule(&["ioctl", NEWER.0], SeccompAction::Allow, &[condition])], listener: None,
        };
        let program = compile(&profile).unwrap().program;
        let numbers = [("ioctl", native("ioctl", &[]).nr), NEWER];
        for (name, nr) in numbers {
            let call = Call { arch: native("read", &[]).arch, nr, args: args.map(join) };
            prop_assert_eq!(run(&program, &call), expected(&profile, name, call.args), "{}", name);
        }
    }
}

/// What a kernel says that does not have a call.
const ENOSYS: SeccompAction = SeccompAction::Errno(38);

/// A profile that allows `names`, and forbids the rest.
fn allowing(names: &[&str], architectures: &[&str]) -> Seccomp {
    Seccomp {
        default_action: SeccompAction::Errno(1),
        architectures: architectures.iter().map(ToString::to_string).collect(),
        flags: 0,
        rules: vec![rule(names, SeccompAction::Allow, &[])],
        listener: None,
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let highest = native("openat2", &[]);
    let profile = allowing(&["read", "openat2", "no_such_call_yet"], &[]);
    let program = compile(&profile).unwrap().program;
    let numbered = |nr| run(&program, &Call { nr, ..highest });
    assert_eq!(numbered(highest.nr), value(SeccompAction::Allow));
    assert_eq!(numbered(highest.nr - 1), value(SeccompAction::Errno(1)), "older than the newest, and not allowed");
    for newer in [highest.nr + 1, 467, 1000, 0xe_ffff] {
        assert_eq!(numbered(newer), value(ENOSYS), "{newer}");
    }
    // A tracer's way to skip a call.
    assert_eq!(numbered(u32::MAX), value(SeccompAction::Errno(1)));
    let foreign = Call { arch: 0x1234, nr: highest.nr + 1, ..highest };
    assert_eq!(run(&program, &foreign), value(SeccompAction::KillThread));
}

/// A call that a rule names counts as known, whatever the rule says of it.
#[test]
fn a_call_that_is_denied_by_name_is_not_newer() {
    let mut profile = allowing(&["read"], &[]);
    profile.rules.push(rule(&["clone3"], SeccompAction::Errno(1), &[]));
    let program = compile(&profile).unwrap().program;
    let clone3 = native("clone3", &[]);
    assert_eq!(run(&program, &clone3), value(SeccompAction::Errno(1)));
    assert_eq!(run(&program, &Call { nr: clone3.nr + 1, ..clone3 }), value(ENOSYS));
}

#[test]
fn what_is_newer_is_asked_only_where_the_default_is_to_deny() {
    use SeccompAction::*;
    let newer = Call { nr: 900, ..native("read", &[]) };
    for default in [KillThread, KillProcess, Trap, Errno(1), Errno(95)] {
        let profile = Seccomp { default_action: default, ..allowing(&["read"], &[]) };
        assert_eq!(run(&compile(&profile).unwrap().program, &newer), value(ENOSYS), "{default:?}");
    }
    for default in [Allow, Log, Trace(7)] {
        let rules = vec![rule(&["read"], Errno(1), &[])];
        let profile = Seccomp { default_action: default, rules, ..allowing(&[], &[]) };
        assert_eq!(run(&compile(&profile).unwrap().program, &newer), value(default), "{default:?}");
    }
}

#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

#[test]
#[cfg(target_arch = "x86_64")]
fn each_architecture_has_its_own_newest_call() {
    // openat2 is 437 everywhere; waitpid is i386's alone, and socketcall.
    let profile = allowing(&["waitpid", "readv", "openat2"], &["SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let program = compile(&profile).unwrap().program;
    let call = |arch, nr| run(&program, &Call { arch, nr, args: [0; 6] });
    for (arch, base) in [(0xc000_003e, 0), (0x4000_0003, 0), (0xc000_003e, X32)] {
        assert_eq!(call(arch, base + 437), value(SeccompAction::Allow), "{arch:#x} {base:#x}");
        assert_eq!(call(arch, base + 438), value(if base == X32 { SeccompAction::Errno(1) } else { ENOSYS }));
    }
    // x32's own calls, of which readv is one, have numbers from 512 on.
    assert_eq!([515, 516].map(|nr| call(0xc000_003e, X32 + nr)), [SeccompAction::Allow, ENOSYS].map(value));
    // Not asked for, x32 is no architecture of the profile, whatever the number.
    let without = compile(&allowing(&["readv", "openat2"], &["SCMP_ARCH_X86"])).unwrap().program;
    let call = Call { arch: 0xc000_003e, nr: X32 + 900, args: [0; 6] };
    assert_eq!(run(&without, &call), value(SeccompAction::KillThread));
}

/// libseccomp's names of all architectures, which the specification lists, go through; other ones would have no block.
#[test]
fn all_architectures_of_the_specification() {
    let all = [
        "X86",
        "X86_64",
        "X32",
        "ARM",
        "AARCH64",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "LOONGARCH64",
        "M68K",
        "SH",
        "SHEB",
    ];
    for name in all {
        // The library that is linked may be older than an architecture, and then says so.
        let listed = list(&allowing(&["read", "openat2"], &[&format!("SCMP_ARCH_{name}")]));
        let blocks = |list: Vec<Instruction>| list.iter().filter(|i| i.code == 6 && i.k == value(ENOSYS)).count();
        match listed.map(blocks) {
            Ok(1) => assert!(name == "X86_64" && cfg!(target_arch = "x86_64"), "{name} is not native"),
            Ok(blocks) => assert_eq!(blocks, 2, "{name}"),
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
}

#[test]
fn a_listener_is_asked_for_where_there_is_an_agent() {
    let listener = Some(config::container::SeccompListener { path: "/agent".into(), metadata: None });
    let profile = Seccomp { listener, ..usual_profile() };
    assert_eq!(compile(&profile).unwrap().flags, 4 | 8);
    assert_eq!(compile(&Seccomp { flags: 1, ..profile.clone() }).unwrap().flags, 1 | 8 | 16, "with TSYNC");
    // One program for all pods, whoever their agent is.
    let cache = Cache::new();
    assert_eq!(compile_cached(&usual_profile(), &cache.path()).unwrap().flags, 4);
    assert_eq!(compile_cached(&profile, &cache.path()).unwrap().flags, 4 | 8);
    assert_eq!(cache.files().len(), 1);
}

/// A call that libseccomp does not know, and its number, which is the same on every architecture.
const NEWER: (&str, u32) = ("open_tree_attr", 467);

/// A profile that allows all but what its rules say.
fn denying(rules: Vec<SeccompRule>, architectures: &[&str]) -> Seccomp {
    Seccomp { default_action: SeccompAction::Allow, rules, ..allowing(&[], architectures) }
}

#[test]
fn libseccomp_is_the_one_that_is_built_for_us() {
    assert!(libseccomp::check_version(libseccomp::ScmpVersion { major: 2, minor: 6, micro: 0 }).unwrap());
    assert!(ScmpSyscall::from_name(NEWER.0).is_err(), "another call is the newest now");
}

/// Whatever the architecture is that a process makes the call as.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_newer_than_libseccomp_is_denied_on_all_architectures() {
    let (name, number) = NEWER;
    let denied = vec![rule(&[name, "uprobe"], SeccompAction::Errno(13), &[])];
    let profile = denying(denied, &["SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    for program in [compile(&profile).unwrap().program, list(&profile).unwrap()] {
        let call = |arch, nr| run(&program, &Call { arch, nr, args: [0; 6] });
        for (arch, base) in [(0xc000_003e, 0), (0x4000_0003, 0), (0xc000_003e, X32)] {
            let answers = [number - 1, number, number + 1].map(|number| call(arch, base + number));
            let [allow, errno] = [SeccompAction::Allow, SeccompAction::Errno(13)].map(value);
            assert_eq!(answers, [allow, errno, allow], "{arch:#x} {base:#x}");
        }
        // This one is x86-64's alone.
        assert_eq!(call(0xc000_003e, 336), value(SeccompAction::Errno(13)));
        assert_eq!(call(0x4000_0003, 336), value(SeccompAction::Allow));
    }
}

#[test]
fn a_call_newer_than_libseccomp_is_allowed_where_it_is_listed() {
    let profile = allowing(&["read", NEWER.0], &[]);
    let program = compile(&profile).unwrap().program;
    let numbered = |nr| run(&program, &Call { nr, ..native("read", &[]) });
    let expected = [SeccompAction::Errno(1), SeccompAction::Allow, ENOSYS].map(value);
    assert_eq!([NEWER.1 - 1, NEWER.1, NEWER.1 + 1].map(numbered), expected);
}

/// As for the calls that libseccomp knows.
#[test]
fn rules_by_number_are_alternatives_and_one_without_conditions_stands_for_all() {
    let when = |operator, number| condition(0, operator, number, 0);
    let answer = |rules: Vec<SeccompRule>, argument| {
        let program = compile(&denying(rules, &[])).unwrap().program;
        run(&program, &Call { arch: native("read", &[]).arch, nr: NEWER.1, args: [argument, 0, 0, 0, 0, 0] })
    };
    let (refuse, other) = (SeccompAction::Errno(13), SeccompAction::Errno(95));
    let either = || rule(&[NEWER.0], refuse, &[when(SeccompOperator::Equal, 1), when(SeccompOperator::Equal, 3)]);
    let expected = [SeccompAction::Allow, refuse, SeccompAction::Allow, refuse].map(value);
    assert_eq!([0, 1, 2, 3].map(|argument| answer(vec![either()], argument)), expected);
    let second = || rule(&[NEWER.0], other, &[when(SeccompOperator::Greater, 2)]);
    let expected = [SeccompAction::Allow, refuse, other].map(value);
    assert_eq!([0, 3, 4].map(|argument| answer(vec![either(), second()], argument)), expected);
    let all = || rule(&[NEWER.0], other, &[]);
    assert_eq!([0, 1].map(|argument| answer(vec![either(), all()], argument)), [other, other].map(value));
}

#[test]
fn what_is_stricter_is_the_kernels_order() {
    use SeccompAction::*;
    let order = [KillProcess, KillThread, Trap, Errno(1), Notify, Trace(1), Log, Allow];
    for (at, action) in order.into_iter().enumerate() {
        for (other_at, other) in order.into_iter().enumerate() {
            assert_eq!(bpf::is_stricter(action, other), at < other_at, "{action:?} {other:?}");
        }
    }
    assert!(!bpf::is_stricter(Errno(1), Errno(2)));
}

struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("deep/seccomp")
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn what_was_cached_equals_what_was_compiled() {
    let (cache, profile) = (Cache::new(), usual_profile());
    let fresh = compile(&profile).unwrap();
    assert_eq!(compile_cached(&profile, &cache.path()).unwrap(), fresh);
    let [file] = cache.files().try_into().unwrap();
    let before = fs::metadata(&file).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(cache.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(compile_cached(&profile, &cache.path()).unwrap(), fresh);
    assert_eq!(cache::load(&cache.path(), &cache::key(&profile)).unwrap(), Some(fresh.program));

    let other = Seccomp { default_action: SeccompAction::Log, ..profile };
    assert_ne!(compile_cached(&other, &cache.path()).unwrap().program, compile(&usual_profile()).unwrap().program);
    assert_eq!(cache.files().len(), 2);
}

#[test]
fn a_file_that_was_tampered_with_is_refused_and_replaced() {
    let (cache, profile) = (Cache::new(), usual_profile());
    let fresh = compile_cached(&profile, &cache.path()).unwrap();
    let [file] = cache.files().try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| whole.iter().enumerate().map(|(n, byte)| byte ^ u8::from(n == at)).collect::<Vec<_>>();
    let long = [whole.clone(), vec![0; LONGEST_PROGRAM * 8]].concat();
    let spoiled = [flipped(0), flipped(20), flipped(whole.len() - 1), vec![], whole[..whole.len() - 8].to_vec(), long];
    for bytes in spoiled {
        fs::write(&file, bytes).unwrap();
        assert!(cache::load(&cache.path(), &cache::key(&profile)).is_err());
        assert_eq!(compile_cached(&profile, &cache.path()).unwrap(), fresh);
        assert_eq!(fs::read(&file).unwrap(), whole, "replaced");
    }
}

#[test]
fn what_others_can_write_is_not_read() {
    let (cache, profile) = (Cache::new(), usual_profile());
    let fresh = compile_cached(&profile, &cache.path()).unwrap();
    let [file] = cache.files().try_into().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(cache::load(&cache.path(), &cache::key(&profile)).is_err());
    assert_eq!(compile_cached(&profile, &cache.path()).unwrap(), fresh);

    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(cache::load(&cache.path(), &cache::key(&profile)).is_err());
    assert_eq!(compile_cached(&profile, &cache.path()).unwrap(), fresh);

    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o700)).unwrap();
    compile_cached(&profile, &cache.path()).unwrap();
    assert!(cache::load(&cache.path(), &cache::key(&profile)).unwrap().is_some());
    let link = cache.0.path().join("link");
    std::os::unix::fs::symlink(cache.path(), &link).unwrap();
    assert!(cache::load(&link, &cache::key(&profile)).is_err());
}

#[test]
fn a_cache_that_cannot_be_costs_nothing_but_time() {
    let (cache, profile) = (Cache::new(), usual_profile());
    let file = cache.0.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(compile_cached(&profile, &file.join("below")).unwrap(), compile(&profile).unwrap());
}
