//! System calls of a process, counted by strace(1): the kernel's own tracepoints for it (`raw_syscalls`) are not in every
//! kernel, and ptrace(2) is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

/// A process that is traced, with the children that it makes meanwhile.
#[derive(Debug)]
pub struct Strace {
    tracer: Child,
    pid: u32,
    log: tempfile::TempPath,
    /// Held: it speaks of every child, and a closed pipe would end it.
    _said: BufReader<ChildStderr>,
}

/// How often each system call was made: by the process itself, and by its children.
#[derive(Debug, Default)]
pub struct Calls {
    /// By the process.
    pub own: BTreeMap<String, u32>,
    /// By what it forked, until a program is executed: the rest is the program's.
    pub children: BTreeMap<String, u32>,
}

/// Why nothing can be traced here, or `None` when it can.
pub fn missing() -> Option<&'static str> {
    let run = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    match run {
        Ok(status) if status.success() => None,
        Ok(_) => Some("strace cannot trace a process here"),
        Err(_) => Some("strace is not there"),
    }
}

impl Calls {
    /// How many by the process, but for those whose number is not its own to choose: how often it fell asleep and found nothing
    /// to receive, and whether an event follows its answer before the count ends, is the scheduler's; when its heap grows is the
    /// allocator's.
    pub fn own_sum(&self) -> u32 {
        let by_chance = |name: &str| {
            matches!(name, "epoll_wait" | "epoll_pwait" | "recvfrom" | "recvmsg" | "sendto" | "brk" | "mprotect")
        };
        self.own.iter().filter(|(name, _)| !by_chance(name)).map(|(_, times)| times).sum()
    }

    /// How many by its children.
    pub fn children_sum(&self) -> u32 {
        self.children.values().sum()
    }
}

impl Strace {
    /// From when this returns, every call is counted.
    pub fn attach(pid: u32) -> Result<Self> {
        let log = tempfile::NamedTempFile::new()?.into_temp_path();
        let mut command = Command::new("strace");
        command.arg("-f").arg("-o").arg(&log).arg("-p").arg(pid.to_string());
        let mut tracer = command.stderr(Stdio::piped()).spawn().context("start strace")?;
        let mut said = BufReader::new(tracer.stderr.take().context("a pipe")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        ensure!(line.contains(" attached"), "strace says {line:?}");
        Ok(Self { tracer, pid, log, _said: said })
    }

    /// Lets the process go on untraced; what it has called.
    pub fn finish(mut self) -> Result<Calls> {
        crate::leftovers::signal(self.tracer.id(), Signal::SIGINT);
        self.tracer.wait()?;
        let text = fs::read_to_string(&self.log)?;
        let mut calls = Calls::default();
        let mut executed = BTreeSet::new();
        for line in text.lines() {
            let (pid, rest) = line.split_once(' ').context("a line without a pid")?;
            // Signals, ends, and second halves of calls that another process's stood between.
            let Some((name, _)) = rest.trim_start().split_once('(').filter(|(name, _)| is_name(name)) else { continue };
            if executed.contains(pid) {
                continue;
            }
            if name == "execve" {
                executed.insert(pid);
            }
            let by = if pid == self.pid.to_string() { &mut calls.own } else { &mut calls.children };
            *by.entry(name.to_owned()).or_default() += 1;
        }
        Ok(calls)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
