//! The program by snapshot; what it answers, by a small interpreter, against the rules read one by one; and, as root, the
//! kernel's own opinion of both, where the host has a cgroup2 of any kind.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// `12: if r3 != 0 goto 16`
fn print(program: &[Instruction]) -> String {
    let mut text = String::new();
    for (at, instruction) in program.iter().enumerate() {
        let (to, from) = registers(*instruction);
        let (value, offset) = (instruction.immediate.cast_unsigned(), instruction.offset);
        let target = at + 1 + usize::try_from(offset).unwrap();
        let words = match instruction.code {
            code::LOAD => format!("r{to} = context[{offset}]"),
            code::COPY => format!("r{to} = r{from}"),
            code::SET => format!("r{to} = {value}"),
            code::AND => format!("r{to} &= {value:#x}"),
            code::SHIFT_RIGHT => format!("r{to} >>= {value}"),
            code::IF_EQUAL => format!("if r{to} == {value} goto {target}"),
            code::UNLESS_EQUAL => format!("if r{to} != {value} goto {target}"),
            code::EXIT => "return r0".to_owned(),
            code => panic!("{code:#x} is none of ours"),
        };
        writeln!(text, "{at}: {words}").unwrap();
    }
    text
}

fn registers(instruction: Instruction) -> (usize, usize) {
    let halves = (instruction.registers & 0xf, instruction.registers >> 4);
    let (to, from) = if cfg!(target_endian = "little") { halves } else { (halves.1, halves.0) };
    (to.into(), from.into())
}

/// What `program` answers to a request; a program that does not come to an end within its length is wrong.
fn run(program: &[Instruction], request: &DeviceSet) -> bool {
    let kind = if request.block { BLOCK } else { CHARACTER };
    let context = [request.access << 16 | kind, request.major.unwrap(), request.minor.unwrap()];
    let (mut registers_now, mut at) = ([0_u32; 6], 0);
    for _ in program {
        let instruction = program[at];
        let ((to, from), value) = (registers(instruction), instruction.immediate.cast_unsigned());
        at += 1;
        let jump = match instruction.code {
            code::EXIT => return registers_now[0] == 1,
            code::IF_EQUAL => registers_now[to] == value,
            code::UNLESS_EQUAL => registers_now[to] != value,
            code => {
                registers_now[to] = match code {
                    code::LOAD => context[usize::try_from(instruction.offset).unwrap() / 4],
                    code::COPY => registers_now[from],
                    code::SET => value,
                    code::AND => registers_now[to] & value,
                    code::SHIFT_RIGHT => registers_now[to] >> value,
                    _ => panic!("{code:#x} is none of ours"),
                };
                false
            }
        };
        if jump {
            at += usize::try_from(instruction.offset).unwrap();
        }
    }
    panic!("no end");
}

/// Each access alone is as the last rule that speaks of it says; nothing is allowed of which none does.
fn evaluate(rules: &[DeviceRule], request: &DeviceSet) -> bool {
    let is_about = |rule: &DeviceRule, access: u32| match rule.device {
        None => true,
        Some(set) => {
            set.block == request.block
                && set.major.is_none_or(|major| Some(major) == request.major)
                && set.minor.is_none_or(|minor| Some(minor) == request.minor)
                && set.access & access != 0
        }
    };
    let mut asked = [DeviceSet::MKNOD, DeviceSet::READ, DeviceSet::WRITE].into_iter();
    asked.all(|access| {
        request.access & access == 0
            || rules.iter().rev().find(|rule| is_about(rule, access)).is_some_and(|rule| rule.allow)
    })
}

fn rule(allow: bool, block: bool, major: Option<u32>, minor: Option<u32>, access: u32) -> DeviceRule {
    DeviceRule { allow, device: Some(DeviceSet { block, major, minor, access }) }
}

#[test]
fn the_program_of_a_few_rules() {
    let rules = [
        DeviceRule { allow: false, device: None },
        rule(true, true, Some(8), None, ALL),
        rule(false, true, Some(8), Some(1), DeviceSet::WRITE),
        rule(true, false, Some(u32::MAX), Some(3), DeviceSet::READ),
    ];
    insta::assert_snapshot!(print(&program(&rules)));
}

#[test]
fn a_denied_write_is_denied_to_who_reads_too() {
    let rules = [
        DeviceRule { allow: false, device: None },
        rule(true, false, Some(7), Some(7), ALL),
        rule(false, false, Some(7), Some(7), DeviceSet::WRITE),
    ];
    let may = |access| run(&program(&rules), &DeviceSet { block: false, major: Some(7), minor: Some(7), access });
    assert!(may(DeviceSet::READ) && may(DeviceSet::READ | DeviceSet::MKNOD));
    assert!(!may(DeviceSet::WRITE) && !may(DeviceSet::READ | DeviceSet::WRITE));
}

/// Few numbers, so that rules meet, with those among them that the default rules are about.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(3), Just(5), Just(8), Just(136), Just(u32::MAX)]
}

fn any_rule() -> impl Strategy<Value = DeviceRule> {
    let set = (any::<bool>(), prop::option::of(number()), prop::option::of(number()), 1..=ALL);
    let one = (any::<bool>(), set)
        .prop_map(|(allow, (block, major, minor, access))| rule(allow, block, major, minor, access));
    let all = any::<bool>().prop_map(|allow| DeviceRule { allow, device: None });
    prop_oneof![8 => one, 1 => all]
}

proptest! {
    #[test]
    fn the_program_says_what_the_rules_say(
        rules in prop::collection::vec(any_rule(), 0..12),
        block in any::<bool>(), major in number(), minor in number(), access in 1..=ALL,
    ) {
        let request = DeviceSet { block, major: Some(major), minor: Some(minor), access };
        let effective = devices::effective(&rules);
        // The default rules follow the container's own, unless those allow everything.
        let mut all = rules;
        if !allows_all(&effective) {
            all.extend(devices::effective(&[]).into_iter().skip(1));
        }
        prop_assert_eq!(run(&program(&effective), &request), evaluate(&all, &request));
    }
}

/// A cgroup of the test's own in the host's cgroup2, whatever controllers that has.
fn scratch_cgroup(name: &str) -> Option<std::path::PathBuf> {
    let host = super::super::host::Host::get().unwrap();
    let hierarchy = host.hierarchies.iter().find(|hierarchy| hierarchy.is_v2)?;
    let directory = hierarchy.path.join(format!("runtime-core-test-{name}-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    Some(directory)
}

#[test]
fn the_kernel_refuses_what_the_rules_deny() {
    let Some(cgroup) = scratch_cgroup("devices") else {
        eprintln!("skipped: no cgroup2 here");
        return;
    };
    let full = |access| rule(false, false, Some(1), Some(7), access);
    let open = |file: &str, redirection: &str| {
        let script = format!("echo 0 >{}/cgroup.procs && : {redirection}{file}", cgroup.display());
        std::process::Command::new("sh")
            .args(["-c", &script])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    let programs = || {
        let directory = open_fd(&cgroup, OFlags::RDONLY).unwrap();
        bpf::attached(directory.as_fd(), NAME).unwrap().len()
    };
    let before = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).unwrap();

    enforce(&cgroup, &[DeviceRule { allow: true, device: None }]).unwrap();
    assert_eq!(programs(), 0, "all is allowed without a program");
    enforce(&cgroup, &[]).unwrap();
    assert!(open("/dev/null", "<>") && open("/dev/zero", "<"));
    assert!(!open("/dev/kmsg", "<"), "not a default device");
    enforce(&cgroup, &[rule(true, false, Some(1), Some(11), DeviceSet::READ)]).unwrap();
    assert!(open("/dev/kmsg", "<") && !open("/dev/kmsg", ">"));
    // The default devices are allowed whatever the rules say.
    enforce(&cgroup, &[full(ALL)]).unwrap();
    assert!(!open("/dev/kmsg", "<") && open("/dev/full", "<"));
    assert_eq!(programs(), 1, "replaced, not added");
    enforce(&cgroup, &[DeviceRule { allow: true, device: None }]).unwrap();
    assert!(open("/dev/kmsg", "<"));

    let after = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).unwrap();
    assert_eq!(before, after);
    std::fs::remove_dir(&cgroup).unwrap();
}
