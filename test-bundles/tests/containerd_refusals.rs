//! Bad input: each is refused with the field or the step by name, and leaves nothing behind.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use containerd_client::tonic::Code;
use serde_json::{Value, json};
use test_bundles::client::{Case, NewContainer, refusal};
use test_bundles::stdio::Stdio;
use test_bundles::{is_runc, suite, test};

fn main() -> ExitCode {
    suite::run(&[
        test!(a_spec_that_cannot_be_honoured_is_refused_by_name),
        test!(a_spec_of_another_shape_is_refused),
        test!(a_container_runs_after_all_those_refusals),
    ])
}

struct Refused {
    /// What is wrong, for the message of a failure.
    what: &'static str,
    edit: fn(&mut Value),
    /// The message has one of each.
    says: &'static [&'static [&'static str]],
    /// Whether config.json alone shows it: then the caller is to blame, and the code says so.
    invalid: bool,
    /// Whether the distribution's runtime refuses it too.
    on_runc: bool,
}

const NOT_A_DIRECTORY: &[&str] = &["not a directory", "ENOTDIR"];

const TABLE: &[Refused] = &[
    Refused {
        what: "a root that is not there",
        edit: |spec| spec["root"]["path"] = json!("/no/such/rootfs"),
        says: &[&["/no/such/rootfs"]],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "a program that is not there",
        edit: |spec| spec["process"]["args"] = json!(["/no/such/program"]),
        says: &[&["/no/such/program"], &["no such file", "ENOENT"]],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "no program",
        edit: |spec| spec["process"]["args"] = json!([]),
        says: &[&["args"]],
        invalid: true,
        on_runc: true,
    },
    Refused {
        what: "a program that is not executable",
        edit: |spec| spec["process"]["args"] = json!(["/etc/passwd"]),
        says: &[&["/etc/passwd"], &["permission denied", "EACCES"]],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "a directory that is a file",
        edit: |spec| spec["process"]["cwd"] = json!("/etc/passwd"),
        says: &[&["/etc/passwd", "cwd"], NOT_A_DIRECTORY],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "a relative directory",
        edit: |spec| spec["process"]["cwd"] = json!("tmp"),
        says: &[&["cwd", "Cwd"]],
        invalid: true,
        on_runc: true,
    },
    Refused {
        what: "a namespace path that is no namespace",
        edit: |spec| {
            spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network", "path": "/etc/hostname"}]);
        },
        says: &[&["/etc/hostname", "namespaces"]],
        invalid: true,
        on_runc: false,
    },
    Refused {
        what: "a namespace of another type",
        edit: |spec| {
            spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/uts"}]);
        },
        says: &[&["/proc/self/ns/uts", "namespaces"]],
        invalid: true,
        on_runc: false,
    },
    Refused {
        what: "a namespace type that is unknown",
        edit: |spec| spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "astral"}]),
        says: &[&["astral"]],
        invalid: true,
        on_runc: true,
    },
    Refused {
        what: "a system call to notify nobody of",
        edit: |spec| {
            let rules = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
        },
        says: &[&["listenerPath"]],
        invalid: true,
        on_runc: false,
    },
    Refused {
        what: "an unknown limit",
        edit: |spec| spec["process"]["rlimits"] = json!([{"type": "RLIMIT_FLY", "hard": 1, "soft": 1}]),
        says: &[&["RLIMIT_FLY", "rlimit"]],
        invalid: true,
        on_runc: true,
    },
    Refused {
        what: "a filesystem that does not exist",
        edit: |spec| {
            let mounts = spec["mounts"].as_array_mut().expect("it is a list");
            mounts.push(json!({"destination": "/mnt/here", "type": "nofs", "source": "none"}));
        },
        says: &[&["/mnt/here"], &["no such device", "ENODEV"]],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "a bind mount of what is not there",
        edit: |spec| {
            let mounts = spec["mounts"].as_array_mut().expect("it is a list");
            mounts
                .push(json!({"destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"]}));
        },
        says: &[&["/no/such/source"], &["no such file", "ENOENT"]],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "a sysctl that does not exist",
        edit: |spec| spec["linux"]["sysctl"] = json!({"net.no_such_key": "1"}),
        says: &[&["no_such_key"]],
        invalid: false,
        on_runc: true,
    },
    Refused {
        what: "a seccomp action that is unknown",
        edit: |spec| spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_FLY"}),
        says: &[&["SCMP_ACT_FLY", "seccomp"]],
        invalid: true,
        on_runc: true,
    },
];

async fn a_spec_that_cannot_be_honoured_is_refused_by_name(case: &Case) -> Result<()> {
    let mut wrong = Vec::new();
    for row in TABLE.iter().filter(|row| row.on_runc || !is_runc()) {
        let container = case.container(&["/bin/true"]).stdio(Stdio::null()).spec(row.edit);
        let id = container.id.clone();
        let (code, message) = refused(container).await.with_context(|| row.what)?;
        let lower = message.to_lowercase();
        let says = |words: &&[&str]| words.iter().any(|word| lower.contains(&word.to_lowercase()));
        if !row.says.iter().all(says) {
            wrong.push(format!("{} ({id}): {message}", row.what));
        }
        if !is_runc() && (code == Code::InvalidArgument) != row.invalid {
            wrong.push(format!("{} ({id}): code {code:?}: {message}", row.what));
        }
    }
    ensure!(wrong.is_empty(), "not named:\n  {}", wrong.join("\n  "));
    Ok(())
}

/// What is no JSON at all never reaches a shim: containerd reads it first. 2.1 reads all of it, after it has started the
/// shim, and then forgets that it did; so the last two are not for it.
async fn a_spec_of_another_shape_is_refused(case: &Case) -> Result<()> {
    let mut texts = vec!["null", "{}", "{\"process\": 7}", "{\"root\": []}"];
    if case.daemon.release.version == "2.1" {
        texts.truncate(2);
    }
    for text in texts {
        let (code, message) = refused(case.container(&["/bin/true"]).stdio(Stdio::null()).spec_text(text)).await?;
        let named = ["process", "root", "config", "spec", "ociVersion"].iter().any(|word| message.contains(word));
        // The runc of 2023 panics over a spec of null.
        ensure!(named || is_runc() && text == "null", "{text}: {message}");
        // 2.4 reads all of it too, and gives what it refuses itself no code.
        let by_the_shim = !message.contains("failed to validate OCI runtime features");
        ensure!(is_runc() || !by_the_shim || code == Code::InvalidArgument, "{text}: code {code:?}: {message}");
    }
    Ok(())
}

async fn a_container_runs_after_all_those_refusals(case: &Case) -> Result<()> {
    for row in TABLE.iter().filter(|row| row.on_runc || !is_runc()).take(3) {
        refused(case.container(&["/bin/true"]).stdio(Stdio::null()).spec(row.edit)).await?;
    }
    ensure!(case.container(&["/bin/true"]).stdio(Stdio::null()).create().await?.run().await? == 0);
    Ok(())
}

/// Refused when created or when started, as the runtime finds out; then nothing of it stays.
async fn refused(container: NewContainer<'_>) -> Result<(Code, String)> {
    match container.create().await {
        Err(error) => refusal::<()>(Err(error)),
        Ok(mut created) => {
            let refused = refusal(created.start().await);
            if refused.is_err() {
                created.kill(9, true).await.or_else(|_| anyhow::Ok(()))?;
            }
            created.wait().await?;
            created.delete().await?;
            refused
        }
    }
}
