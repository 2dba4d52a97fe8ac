//! `ctr`, containerd's own command line, with an end to every wait.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::containerd::Containerd;
use crate::wait_until;

/// Longest time that any command of a test may take.
const LIMIT: Duration = Duration::from_mins(1);

/// How a command ended and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128+n when a signal ended `ctr` itself.
    pub code: i32,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    /// The output of a command that must succeed.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit code {}: {}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

impl Containerd {
    /// Runs `ctr ARGS` in the daemon's namespace and waits for its end.
    pub fn ctr<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Output> {
        let child = self.ctr_command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        finish(child.context("start ctr")?)
    }

    /// Runs `ctr run --rm` with the runtime under test: `args` are options, image, id and command.
    pub fn ctr_run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Output> {
        let runtime = crate::runtime();
        let head = ["run", "--rm", "--runtime", &runtime].map(OsStr::new);
        self.ctr(&head.into_iter().chain(args.iter().map(AsRef::as_ref)).collect::<Vec<_>>())
    }

    /// `ctr` with this daemon's address and namespace, not yet started.
    pub fn ctr_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(self.release.ctr());
        command.arg("--address").arg(self.socket()).arg("--namespace").arg(&self.namespace).args(args);
        command
    }
}

/// Collects what `child` says until it ends; kills it when it takes too long.
pub fn finish(mut child: Child) -> Result<Output> {
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let mut status = None;
    let ended = wait_until(LIMIT, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if !ended {
        child.kill().context("kill a command that hangs")?;
        child.wait().context("wait for a command that was killed")?;
    }
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.map(|reader| reader.join().expect("a reader does not panic")).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Some(status) = status else { bail!("still running after {LIMIT:?}: {stdout}{stderr}") };
    let code = std::os::unix::process::ExitStatusExt::signal(&status).map_or(status.code().unwrap_or(-1), |n| 128 + n);
    Ok(Output { code, stdout, stderr })
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the text early, and the test that reads it says so.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
