//! The command line, in runc's words.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use config::ContainerId;
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use nix::sys::signal::Signal;
use runtime_core::{Error, Kind, Result};

use crate::control::Create;

pub(crate) const USAGE: &str = "\
usage: oci [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] VERB

  create [-b BUNDLE] [--pid-file FILE] [--console-socket SOCKET] [--no-pivot] [--no-new-keyring] ID
  run    (create, start, wait and delete; the same flags)
  start  ID
  state  ID
  kill   [-a] ID [SIGNAL]
  delete [-f] ID
  exec   [-p PROCESS.json] [--cwd DIR] [-e NAME=VALUE] [-u UID[:GID]] [-t] [-d] [--console-socket SOCKET]
         [--pid-file FILE] ID [COMMAND ARGUMENT…]
  ps     ID
  list
  features";

/// What is said before the verb.
#[derive(Debug)]
pub(crate) struct Global {
    /// Where the containers' state directories are.
    pub(crate) root: PathBuf,
    pub(crate) systemd_cgroup: bool,
    pub(crate) log: Option<Log>,
}

/// Where errors go beside standard error.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) enum Verb {
    Create(NewContainer),
    Run(NewContainer),
    Start(ContainerId),
    State(ContainerId),
    Kill {
        id: ContainerId,
        signal: i32,
        all: bool,
    },
    Delete {
        id: ContainerId,
        force: bool,
    },
    Exec {
        id: ContainerId,
        exec: Exec,
    },
    Ps(ContainerId),
    List,
    Features,
    Help,
    /// Not for users: what `create` leaves behind.
    Keep(ContainerId),
}

#[derive(Debug)]
pub(crate) struct NewContainer {
    pub(crate) id: ContainerId,
    pub(crate) create: Create,
}

/// `exec`. Without a process file, the flags vary the process of the container's config.json.
#[derive(Debug, Default)]
pub(crate) struct Exec {
    pub(crate) process: Option<PathBuf>,
    pub(crate) command: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) terminal: bool,
    pub(crate) detach: bool,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
}

pub(crate) fn parse(mut parser: Parser) -> Result<(Global, Verb)> {
    let (global, verb) = global(&mut parser).map_err(invalid)?;
    let verb = match verb.to_str() {
        Some("create") => Verb::Create(create(&mut parser, &global)?),
        Some("run") => Verb::Run(create(&mut parser, &global)?),
        Some("start") => Verb::Start(plain(&mut parser, &[])?.id()?),
        Some("state") => Verb::State(plain(&mut parser, &[])?.id()?),
        Some("kill") => {
            let mut said = plain(&mut parser, &[('a', "all")])?;
            let signal = if said.values.len() > 1 { said.values.remove(1) } else { "TERM".to_owned() };
            Verb::Kill { signal: signal_number(&signal)?, all: said.flag, id: said.id()? }
        }
        Some("delete") => {
            let said = plain(&mut parser, &[('f', "force")])?;
            Verb::Delete { force: said.flag, id: said.id()? }
        }
        Some("exec") => {
            let (id, exec) = exec(&mut parser)?;
            Verb::Exec { id, exec }
        }
        Some("ps") => Verb::Ps(plain(&mut parser, &[])?.id()?),
        Some("list") => Verb::List,
        Some("features") => Verb::Features,
        Some("help") => Verb::Help,
        Some("keep") => Verb::Keep(plain(&mut parser, &[])?.id()?),
        _ => return Err(invalid(format!("no such verb: {}; try oci help", verb.display()))),
    };
    Ok((global, verb))
}

fn global(parser: &mut Parser) -> std::result::Result<(Global, OsString), lexopt::Error> {
    let mut global = Global { root: "/run/oci".into(), systemd_cgroup: false, log: None };
    let mut json = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("root") => {
                let root = std::path::absolute(parser.value()?);
                global.root = root.map_err(|error| lexopt::Error::Custom(error.into()))?;
            }
            Long("log") => global.log = Some(Log { path: parser.value()?.into(), json: false }),
            Long("log-format") => json = parser.value()? == "json",
            Long("systemd-cgroup") => global.systemd_cgroup = true,
            Short('h') | Long("help") => return Ok((global, "help".into())),
            Value(verb) => {
                if let Some(log) = &mut global.log {
                    log.json = json;
                }
                return Ok((global, verb));
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok((global, "help".into()))
}

fn create(parser: &mut Parser, global: &Global) -> Result<NewContainer> {
    let mut create = Create { systemd_cgroup: global.systemd_cgroup, ..Create::default() };
    let mut id = None;
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('b') | Long("bundle") => create.bundle = path(parser)?,
            Long("pid-file") => create.pid_file = Some(path(parser)?),
            Long("console-socket") => create.console_socket = Some(path(parser)?),
            Long("no-pivot") => create.no_pivot_root = true,
            Long("no-new-keyring") => create.no_new_keyring = true,
            Value(value) if id.is_none() => id = Some(ContainerId::new(value.to_string_lossy())?),
            other => return Err(invalid(other.unexpected())),
        }
    }
    create.bundle = absolute(create.bundle)?;
    Ok(NewContainer { id: id.ok_or_else(no_id)?, create })
}

fn exec(parser: &mut Parser) -> Result<(ContainerId, Exec)> {
    let mut exec = Exec::default();
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('p') | Long("process") => exec.process = Some(path(parser)?),
            Long("cwd") => exec.cwd = Some(string(parser)?),
            Short('e') | Long("env") => exec.env.push(string(parser)?),
            Short('u') | Long("user") => exec.user = Some(user(&string(parser)?)?),
            Short('t') | Long("tty") => exec.terminal = true,
            Short('d') | Long("detach") => exec.detach = true,
            Long("console-socket") => exec.console_socket = Some(path(parser)?),
            Long("pid-file") => exec.pid_file = Some(path(parser)?),
            Value(id) => {
                let id = ContainerId::new(id.to_string_lossy())?;
                let words = parser.raw_args().map_err(invalid)?.map(|word| word.string().map_err(invalid));
                exec.command = words.collect::<Result<_>>()?;
                return Ok((id, exec));
            }
            other => return Err(invalid(other.unexpected())),
        }
    }
    Err(no_id())
}

/// What the smaller verbs are told: values, and whether a flag was among them.
#[derive(Default)]
struct Plain {
    values: Vec<String>,
    flag: bool,
}

impl Plain {
    fn id(self) -> Result<ContainerId> {
        match <[String; 1]>::try_from(self.values) {
            Ok([id]) => Ok(ContainerId::new(id)?),
            Err(_) => Err(no_id()),
        }
    }
}

fn plain(parser: &mut Parser, flags: &[(char, &str)]) -> Result<Plain> {
    let mut said = Plain::default();
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short(letter) if flags.iter().any(|(short, _)| *short == letter) => said.flag = true,
            Long(word) if flags.iter().any(|(_, long)| *long == word) => said.flag = true,
            Value(value) => said.values.push(value.string().map_err(invalid)?),
            other => return Err(invalid(other.unexpected())),
        }
    }
    Ok(said)
}

/// `9`, `KILL` or `SIGKILL`.
fn signal_number(text: &str) -> Result<i32> {
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    let named = || Signal::from_str(&name).map(|signal| signal as i32).ok();
    text.parse()
        .ok()
        .filter(|number| (0..=64).contains(number))
        .or_else(named)
        .ok_or_else(|| invalid(format!("no such signal: {text}")))
}

fn user(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ => Err(invalid(format!("--user {text}: not UID[:GID]"))),
    }
}

fn path(parser: &mut Parser) -> Result<PathBuf> {
    absolute(parser.value().map_err(invalid)?.into())
}

/// The keeper works in another directory than the user.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
    std::path::absolute(&path).map_err(|error| Error::io(format!("resolve {}", path.display()), &error))
}

fn string(parser: &mut Parser) -> Result<String> {
    parser.value().and_then(ValueExt::string).map_err(invalid)
}

fn no_id() -> Error {
    invalid("exactly one container id is needed")
}

#[allow(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn invalid(error: impl ToString) -> Error {
    Error::new(Kind::Invalid, error.to_string())
}
