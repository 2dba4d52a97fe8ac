//! An image that boots as a machine does: the machine's own systemd(1), with one service that talks on the console.
//!
//! What it asks of a terminal is more than a shell asks: systemd opens and closes the console for each line that it writes,
//! and hangs it up before the service; agetty(8) hangs it up once more.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::add;

const SYSTEMD: &str = "/lib/systemd/systemd";

/// How it is called. Its log would keep the console open where there is no journal.
pub(super) const COMMAND: [&str; 3] = [SYSTEMD, "--show-status=true", "--log-target=null"];

const PROGRAMS: [&str; 3] = [SYSTEMD, "/lib/systemd/systemd-shutdown", "/sbin/agetty"];
/// What younger ones have besides.
const EXECUTOR: &str = "/lib/systemd/systemd-executor";

const FILES: [(&str, u32, &str); 5] = [
    ("etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
    ("etc/os-release", 0o644, "ID=lab\nPRETTY_NAME=Lab\n"),
    ("etc/systemd/system/default.target", 0o644, "[Unit]\nRequires=talk.service\nAfter=talk.service\n"),
    (
        "etc/systemd/system/talk.service",
        0o644,
        "[Unit]\nDescription=somebody who listens\nDefaultDependencies=no\nSuccessAction=exit-force\nSuccessActionExitStatus=7\n\
         FailureAction=exit-force\n\
         [Service]\nType=oneshot\nStandardInput=tty\nStandardOutput=tty\nTTYPath=/dev/console\nTTYReset=yes\nTTYVHangup=yes\n\
         ExecStart=/sbin/agetty --noclear --noissue --skip-login --login-program /bin/talk console\n",
    ),
    ("bin/talk", 0o755, "#!/bin/sh\necho 'say something'\nread a\necho \"it heard $a\"\n"),
];

/// Whether the machine has what it is made of.
pub(super) fn is_here() -> bool {
    PROGRAMS.iter().all(|program| Path::new(program).exists())
}

/// Adds it to a root.
pub(super) fn add_to<W: Write>(tar: &mut tar::Builder<W>) -> Result<()> {
    let programs = PROGRAMS.into_iter().chain([EXECUTOR]).filter(|program| Path::new(program).exists());
    let mut files: Vec<String> = programs.map(str::to_owned).collect();
    for program in files.clone() {
        files.extend(libraries(&program)?);
    }
    files.sort_unstable();
    files.dedup();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("read {file}"))?;
        add(tar, file.trim_start_matches('/'), 0o755, &bytes)?;
    }
    FILES.iter().try_for_each(|(path, mode, text)| add(tar, path, *mode, text.as_bytes()))
}

/// What the dynamic linker loads for a program, and the linker: ldd(1).
fn libraries(program: &str) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    ensure!(output.status.success(), "ldd {program}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}
