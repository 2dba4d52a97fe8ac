//! What the targets share: a plan of whatever is accepted, and what holds for every plan.
//!
//! Each target is a file in `fuzz_targets/` and a `[[bin]]` in Cargo.toml; `make fuzz` runs every one that it finds there, from
//! `seeds/<target>/` or, for `config_json`, from the bundles that the tests run.

use std::path::Path;

use config::container::NamespaceKind;
use config::{Container, ContainerId};
use init::step::{Root, Way};
use init::sync::Point;
use init::{Instruction, Program, Step};
use runtime_core::cgroup::Hierarchy;
use runtime_core::plan::lsm::Lsm;
use runtime_core::plan::seccomp::Filter;
use runtime_core::plan::{Facts, Plan};

/// Resolves `text` as config.json of a bundle at `/bundle`.
pub fn resolve(text: &[u8]) -> Result<Container, config::Refusal> {
    let id = ContainerId::new("fuzz").expect("letters are an id");
    config::Bundle::resolve(text, Path::new("/bundle"), &id)
}

/// Plans `container` on cgroup v1 and v2, with a pivot and without, and looks at every plan; then an exec into it.
pub fn plan(container: &Container) {
    let v1 = ["memory", "cpu,cpuacct"].map(|name| Hierarchy {
        name: name.to_owned(),
        host: Path::new("/sys/fs/cgroup").join(name).join("fuzz"),
        links: name.split(',').filter(|_| name.contains(',')).map(str::to_owned).collect(),
    });
    let v2 = [Hierarchy { name: String::new(), host: "/sys/fs/cgroup/fuzz".into(), links: Vec::new() }];
    let joins = ["/sys/fs/cgroup/memory/fuzz".into()];
    // Compiling a profile is libseccomp's affair, and slow: any program will do.
    let filter = Filter { program: vec![Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }], flags: 0 };
    for (hierarchies, no_pivot_root) in [(&v1[..], false), (&v2[..], true)] {
        let filter = container.seccomp.as_ref().map(|_| &filter);
        let facts = Facts {
            hierarchies,
            joins: &joins,
            filter,
            lsm: Lsm { apparmor: true, selinux: true },
            grantable: u64::MAX >> 23,
            proc_for_others: true,
            makes_devices: true,
            no_pivot_root,
            root: None,
            keyring: Some("_ses.fuzz"),
            preserved: 2,
        };
        match Plan::init(container, &facts) {
            Ok(plan) => {
                check(&plan, Some(container.has(NamespaceKind::Mount)), filter.is_some());
            }
            // Only what the options of the runtime forbid, which config.json cannot know.
            Err(error) => assert!(no_pivot_root, "{error}"),
        }
        let exec =
            Plan::exec(&container.process, &container.namespaces, &facts).expect("an exec can always be planned");
        check(&exec, None, filter.is_some());
    }
}

/// The laws that the safety of a container rests on. `init`: that of a container with a mount namespace, or without.
fn check(plan: &Plan, init: Option<bool>, filtered: bool) {
    let descriptors: Vec<i32> = (100..).take(plan.sources().len()).collect();
    let memory = plan.memory().expect("there is memory");
    plan.with_program(&descriptors, 99, &memory, |program| {
        assert!(program.descriptors.len() == plan.sources().len());
        laws(program, init, filtered);
        // Printing goes to every string and table that a step refers to; a wrong reference shows as a question mark.
        assert_eq!(plan.lines().count(), program.stage_one.len() + program.stage_two.len());
    });
}

fn laws(program: &Program<'_>, init: Option<bool>, filtered: bool) {
    let steps = [program.stage_one, program.stage_two].concat();
    let all = |kind: fn(&Step) -> bool| -> Vec<usize> {
        steps.iter().enumerate().filter(|(_, step)| kind(step)).map(|(place, _)| place).collect()
    };
    let one = |kind: fn(&Step) -> bool| match all(kind)[..] {
        [place] => place,
        ref places => panic!("{} steps of a kind that there is one of: {places:?}", places.len()),
    };
    let execute = one(|s| matches!(s, Step::Execute));
    let ready = one(|s| matches!(s, Step::Sync { point: Point::Ready }));
    // Behind the two that are preserved.
    let close = one(|s| matches!(s, Step::CloseOthers { from: 5 }));
    // Those before are of the way into a user namespace.
    let identity = *all(|s| matches!(s, Step::Identity { .. })).last().expect("a process has a user");
    let bounding = one(|s| matches!(s, Step::BoundingSet { .. }));
    let cwd = one(|s| matches!(s, Step::WorkingDirectory { .. }));
    let capabilities = all(|s| matches!(s, Step::Capabilities { .. }));
    assert_eq!(execute + 1, steps.len(), "nothing comes after execve");
    assert!(close < ready && ready < execute, "files are closed before the start is waited for");
    assert!(bounding < identity && capabilities.iter().all(|place| identity < *place), "rights go with the user");
    assert!(!capabilities.is_empty() && cwd < identity);

    let seccomp = all(|s| matches!(s, Step::Seccomp { .. }));
    assert_eq!(seccomp.len(), usize::from(filtered));
    for place in seccomp {
        assert!(identity < place && close < place && place < ready);
        let late = |step: &Step| {
            matches!(
                step,
                Step::Capabilities { .. }
                    | Step::NewSession { .. }
                    | Step::Rlimit { .. }
                    | Step::Sync { .. }
                    | Step::Execute
            )
        };
        assert!(steps[place + 1..].iter().all(late), "a filter forbids what it likes of what comes after it");
    }
    if let Some(mounts) = init {
        root(&all, cwd, capabilities[0]);
        assert!(mounts || !steps.iter().any(mounts_something), "nothing is mounted on the host");
    }
}

fn mounts_something(step: &Step) -> bool {
    match step {
        Step::HostPropagation { .. }
        | Step::MountFilesystem { .. }
        | Step::MountBind { .. }
        | Step::SetAttributes { .. }
        | Step::SetPropagation { .. }
        | Step::MaskPath { .. }
        | Step::ReadonlyPath { .. } => true,
        Step::OpenRoot { root, .. } => !matches!(root, Root::Directory(_)),
        Step::EnterRoot { way } => *way != Way::Change,
        Step::OpenConsole { mount, .. } => mount.is_some(),
        _ => false,
    }
}

fn root(all: &dyn Fn(fn(&Step) -> bool) -> Vec<usize>, cwd: usize, capabilities: usize) {
    let [pivot] = all(|s| matches!(s, Step::EnterRoot { .. }))[..] else { panic!("one way to the root") };
    let [open] = all(|s| matches!(s, Step::OpenRoot { .. }))[..] else { panic!("one root") };
    let made = all(|s| matches!(s, Step::MountFilesystem { .. } | Step::MountBind { .. } | Step::MakeNode { .. }));
    assert!(
        made.iter().all(|place| open < *place && *place < pivot),
        "mounts are made while the host's paths are there"
    );
    let covered = all(|s| matches!(s, Step::MaskPath { .. } | Step::ReadonlyPath { .. }));
    assert!(
        covered.iter().all(|place| pivot < *place && *place < cwd),
        "nothing is covered on the host, or after the cwd"
    );
    assert!(pivot < cwd && pivot < capabilities, "rights are dropped in the container's root");
}
