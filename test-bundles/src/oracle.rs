//! The same words to a real client twice, once with runc and once with this shim: whatever runc does is right.
//!
//! A case is a bash script over a few functions (`prelude`), so that it reads as what a user types. What it prints and its
//! exit code must be equal on both runtimes; its standard error is shown where they are not. A case whose script fails on
//! runc proves nothing and fails, unless it says what a host may lack: then it is printed as skipped, and only when both fail
//! alike.
//!
//! runc's answers vary: one run in ten with an input never ends through nerdctl, and its shim may lose the last words or why a
//! container was killed. Any of them is right, so it is asked again where this shim says something else. This shim is asked once;
//! only through nerdctl, which closes the streams of a container when it hears of its end, whatever of them it has read (`cancel` in
//! its cioutil), is it asked again where it said less.
//!
//! `test-bundles/scripts/clients` runs these inside a lab of clients and daemons; anywhere else every case is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::ctr::{Output, finish};
use crate::image::Image;
use crate::leftovers;

/// Tests wait for processes more than they compute.
const CASES_AT_ONCE: usize = 3;
/// A script that is not done by then hangs; with it goes whatever it started.
const LIMIT: Duration = Duration::from_secs(50);
/// How often one that varies is asked.
const TIMES: usize = 3;

/// One thing that a user does.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    script: &'static str,
    lacks: &'static [(&'static str, &'static str)],
    says: Option<&'static str>,
    alone: bool,
}

impl Case {
    /// `script` runs under bash with the client's prelude before it.
    pub const fn new(name: &'static str, script: &'static str) -> Self {
        Self { name, script, lacks: &[], says: None, alone: false }
    }

    /// Runs with no other beside it, for it takes a daemon away.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// What it says on this shim, where runc's now and then loses some of it and cannot be asked.
    #[must_use]
    pub const fn says(mut self, text: &'static str) -> Self {
        self.says = Some(text);
        self
    }

    /// By client, why the case may fail even on runc; `""` stands for every client.
    #[must_use]
    pub const fn lacks(mut self, lacks: &'static [(&'static str, &'static str)]) -> Self {
        self.lacks = lacks;
        self
    }
}

/// A client, and how it is told which runtime to use.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// As the user calls it.
    pub name: &'static str,
    /// The functions that its cases use, and `load`, which takes an image's archive.
    pub prelude: &'static str,
    /// What follows `runc` and `myshim` in the name of a runtime: `io.containerd.myshim.v2` in full, or a handler's name.
    pub runtime: fn(&str) -> String,
    /// Runtimes that are held against runc.
    pub tested: &'static [&'static str],
    /// Below this cgroup are its containers.
    pub cgroup: &'static str,
    /// Whether it may lose what a container has said last.
    pub loses: bool,
}

/// Held for writing by a case that runs alone. It guards the daemons, of which a case that fails says nothing.
static DAEMONS: RwLock<()> = RwLock::new(());

/// What a script said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: i32,
    stdout: String,
}

/// The `main` of a test file: every case through `client`, then a look at what is left.
pub fn run(client: Client, cases: &[Case]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CASES_AT_ONCE);
    let lab = std::env::var_os("CLIENTS_STATE").map(PathBuf::from);
    let lab = Arc::new(lab);
    if let Some(state) = lab.as_deref().filter(|_| !arguments.list)
        && let Err(error) = load_images(client, state)
    {
        eprintln!("test result: FAILED. 0 passed; 1 failed: {error:#}");
        return ExitCode::FAILURE;
    }
    let trials = client.tested.iter().flat_map(|runtime| cases.iter().map(|case| (*runtime, *case)));
    let trials = trials.map(|(runtime, case)| {
        let lab = lab.clone();
        Trial::ignorable_test(format!("{runtime}::{}", case.name), move || {
            let Some(state) = lab.as_deref() else {
                return Ok(Completion::ignored_with("no lab of clients: make test-clients has one"));
            };
            let _alone = case.alone.then(|| DAEMONS.write());
            let _beside = (!case.alone).then(|| DAEMONS.read());
            one(client, runtime, case, state).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(state) = lab.as_deref().filter(|_| !arguments.list) {
        let left = left(&client, state);
        if !left.is_empty() {
            eprintln!("test result: FAILED. 0 passed; 1 failed: {} left behind:\n{}", client.name, left.join("\n"));
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

/// Gives the client the images that its cases have beside the lab's own.
fn load_images(client: Client, state: &Path) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("images-").tempdir().context("make a directory for images")?;
    let made = [Some(Image::with_a_dangling_link(dir.path())?), Image::with_systemd(dir.path())?];
    for image in made.into_iter().flatten() {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &format!("{}load \"$IMAGE\"", client.prelude)]);
        command.env("IMAGE", &image.archive).env("STATE", state);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let loaded = finish(command.spawn().context("start bash")?)?;
        loaded.success().with_context(|| format!("load {}", image.archive.display()))?;
    }
    Ok(())
}

fn one(client: Client, runtime: &str, case: Case, state: &Path) -> Result<Completion> {
    let (mut wanted, mut why) = match case.says {
        Some(text) => (Said { code: 0, stdout: text.to_owned() }, String::new()),
        None => script(client, ("runc", runtime), case, state)?,
    };
    let (mut got, mut errors) = script(client, (runtime, runtime), case, state)?;
    for _ in 1..TIMES {
        if client.loses && got.stdout.len() < wanted.stdout.len() {
            (got, errors) = script(client, (runtime, runtime), case, state)?;
        }
        if wanted != got && case.says.is_none() {
            (wanted, why) = script(client, ("runc", runtime), case, state)?;
        }
    }
    if wanted != got {
        bail!("differs from runc{}\nrunc: {why}\n{runtime}: {errors}", difference(&wanted, &got));
    }
    let lacks = case.lacks.iter().find(|(of, _)| of.is_empty() || *of == client.name);
    if let (Some((_, reason)), true) = (lacks, wanted.code != 0) {
        return Ok(Completion::ignored_with(format!("on runc too: {reason}")));
    }
    ensure!(wanted.code == 0, "fails on runc too: exit {}\n{}{why}", wanted.code, wanted.stdout);
    ensure!(!wanted.stdout.trim().is_empty(), "a case that says nothing proves nothing");
    Ok(Completion::Completed)
}

/// Both from the first line on that is not the same.
fn difference(wanted: &Said, got: &Said) -> String {
    let same = wanted.stdout.lines().zip(got.stdout.lines()).take_while(|(one, other)| one == other).count();
    let rest = |said: &Said| {
        let lines: Vec<_> = said.stdout.lines().skip(same).take(12).map(|line| format!("\n    {line:?}")).collect();
        lines.concat()
    };
    format!(", exit {}, in line {}:{}\nto exit {}:{}", wanted.code, same + 1, rest(wanted), got.code, rest(got))
}

/// Runs the script of `case` on the first runtime and removes the containers that it named after the case and the second one,
/// for which it runs: with another name than what goes on beside it.
fn script(client: Client, (runtime, tested): (&str, &str), case: Case, state: &Path) -> Result<(Said, String)> {
    let dir = tempfile::Builder::new().prefix("client-").tempdir().context("make a directory for a case")?;
    let bash = |text: String| -> Result<Output> {
        let mut command = Command::new("timeout");
        command.arg("--signal=KILL").arg((LIMIT * crate::slower()).as_secs().to_string());
        command.args(["bash", "-euo", "pipefail", "-c", &text]).current_dir(dir.path());
        command.env("RUNTIME", (client.runtime)(runtime)).env("SHIM_NAME", format!("containerd-shim-{runtime}-v2"));
        command.env("N", format!("{}-{tested}", case.name.replace('_', "-"))).env("STATE", state);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().context("start bash")?).with_context(|| format!("{} with {runtime}", case.name))
    };
    let said = bash(format!("{COMMON}{}export -f c\n{}", client.prelude, case.script));
    let cleared = bash(format!("{COMMON}{}clear", client.prelude))?;
    let said = said?;
    ensure!(cleared.code == 0, "{} with {runtime}: clear: {}{}", case.name, cleared.stdout, cleared.stderr);
    Ok((Said { code: said.code, stdout: said.stdout }, said.stderr))
}

/// Functions that the preludes of all clients share. `c` is the client.
const COMMON: &str = r#"
says() { # COMMAND...: whatever it says and however it ends
    local code=0; "$@" || code=$?
    echo "[exit $code]"
}
until_is() { # TEXT COMMAND...: waits until the command says it
    local text=$1 said=; shift
    for _ in $(seq 400); do
        said=$("$@" 2>/dev/null) || true
        [ "$said" != "$text" ] || return 0
        sleep 0.05
    done
    echo "not $text but $said: $*" >&2; return 1
}
tty() { # COMMAND...: with a terminal of 24 lines and 80 columns
    local words; words=$(printf '%q ' "$@")
    SHELL=/bin/bash script -qefc "stty rows 24 cols 80 2>/dev/null; $words" /dev/null
}
type_after() { # TEXT KEYS: types once the file `said` has the text
    until grep -qa -- "$1" said; do sleep 0.05; done 2>/dev/null
    printf "$2"
}
up() { # [OPTIONS] IMAGE COMMAND...
    run -d "$@" >&2
}
traces() { # ID
    pgrep -f "^[^ ]*/containerd-shim-[^ ]* .*-id $1 "; find /sys/fs/cgroup -name "$1"
    grep -F "$1" /proc/self/mountinfo; ls -d "$STATE"/run/state/io.containerd.runtime.v2.task/*/"$1"
} 2>/dev/null
served() { # whether the container is the runtime's that was asked for
    local id; id=$(c inspect -f '{{.Id}}' $N)
    pgrep -f "^[^ ]*/$SHIM_NAME .*-id $id " >/dev/null && echo served
}
same() {
    sed -E 's/(lowerdir)\+?=[^, ]*/\1/; s/(upperdir|workdir)=[^, ]*/\1/g; s/ master:[0-9]+//; s/[0-9a-f]{64}/ID/g
        s, - ([^ ]+ [^ ]+) (ro|rw), - \1,; s,^(/proc/acpi|/sys/firmware|/sys/fs/cgroup) .* tmpfs .*,\1 tmpfs,'
}
gone() { # ID
    until_is "" traces "$1" && echo gone
}
clear() {
    local ids; ids=$(c ps -aq --filter label=case=$N)
    [ -z "$ids" ] || c rm -f $ids
}
"#;

/// What the client's containers under this shim have left.
fn left(client: &Client, state: &Path) -> Vec<String> {
    let address = state.join("run/containerd.sock");
    let mut found = Vec::new();
    crate::wait_until(Duration::from_secs(10), || {
        found = leftovers::of_clients(&address, client.cgroup);
        found.is_empty()
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a case whose script has `ask`, which counts how often this runtime was asked, and `$RUNTIME`; and how often
    /// runc and this shim were.
    fn asked(loses: bool, script: &'static str) -> (Result<()>, [usize; 2]) {
        let state = tempfile::tempdir().unwrap();
        let prelude = "c() { :; }\nclear() { :; }\nask() { echo >>$STATE/$RUNTIME; wc -l <$STATE/$RUNTIME; }\n";
        let client =
            Client { name: "none", prelude, runtime: str::to_owned, tested: &["ours"], cgroup: "/none", loses };
        let outcome = one(client, "ours", Case::new("a_case", script), state.path());
        let times = ["runc", "ours"].map(|runtime| {
            let asked = std::fs::read_to_string(state.path().join(runtime)).unwrap_or_default();
            asked.lines().count()
        });
        (outcome.map(drop), times)
    }

    #[test]
    fn the_same_answer_is_asked_for_once() {
        let (outcome, times) = asked(true, "ask >&2; echo same");
        outcome.unwrap();
        assert_eq!(times, [1, 1]);
    }

    #[test]
    fn any_of_runcs_answers_is_right() {
        let (outcome, times) = asked(false, "times=$(ask); if [ $RUNTIME = runc ]; then echo $times; else echo 2; fi");
        outcome.unwrap();
        assert_eq!(times, [2, 1]);
    }

    #[test]
    fn an_answer_that_runc_never_gives_is_wrong() {
        let (outcome, times) = asked(false, "ask >&2; echo $RUNTIME");
        assert!(outcome.unwrap_err().to_string().contains("differs from runc"));
        assert_eq!(times, [TIMES, 1]);
    }

    #[test]
    fn words_are_lost_by_some_clients_alone() {
        let script = "times=$(ask); echo said; [ $RUNTIME$times = ours1 ] || echo last words";
        let (outcome, times) = asked(true, script);
        outcome.unwrap();
        assert_eq!(times, [1, 2]);
        let (outcome, times) = asked(false, script);
        assert!(outcome.unwrap_err().to_string().contains("differs from runc"));
        assert_eq!(times, [TIMES, 1]);
    }
}
