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
use crate::descriptors;
use crate::log::Log;
use crate::resources::{self, Flags};

pub(crate) const USAGE: &str = "\
usage: oci [--root DIR] [--log FILE] [--log-format text|json] [--debug] [--systemd-cgroup] VERB

  create [-b BUNDLE] [--pid-file FILE] [--console-socket SOCKET] [--no-pivot] [--no-new-keyring]
         [--preserve-fds N] ID
  run    (create, start, wait and delete; the same flags) [-d] [--keep]
  start  ID
  state  ID
  kill   [-a] ID [SIGNAL]
  delete [-f] ID
  exec   [-p PROCESS.json] [--cwd DIR] [-e NAME=VALUE] [-u UID[:GID]] [-g GID] [-c CAPABILITY] [--no-new-privs]
         [--apparmor PROFILE] [--process-label LABEL] [-t] [-d] [--console-socket SOCKET] [--pid-file FILE]
         [--ignore-paused] [--preserve-fds N] ID [COMMAND ARGUMENT…]
  ps     [-f table|json] ID [PS-ARGUMENT…]
  pause  ID
  resume ID
  update [-r FILE|-] [--memory BYTES] [--cpu-quota USEC] [--pids-limit N] … ID
  list   [-f table|json] [-q]
  features";

/// What is said before the verb.
#[derive(Debug)]
pub(crate) struct Global {
    /// Where the containers' state directories are.
    pub(crate) root: PathBuf,
    pub(crate) systemd_cgroup: bool,
    pub(crate) log: Option<Log>,
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
        exec: Box<Exec>,
    },
    Ps {
        id: ContainerId,
        json: bool,
        arguments: Vec<String>,
    },
    List(Form),
    Pause(ContainerId),
    Resume(ContainerId),
    Update {
        id: ContainerId,
        resources: String,
    },
    Features,
    Help,
    Version,
    /// Not for users: what `create` leaves behind.
    Keep(ContainerId),
}

impl Verb {
    /// How many descriptors of the caller's go to the container.
    pub(crate) fn preserved(&self) -> u32 {
        match self {
            Self::Create(new) | Self::Run(new) => new.create.listen_fds.saturating_add(new.preserve_fds),
            Self::Exec { exec, .. } => exec.preserve_fds,
            _ => 0,
        }
    }
}

/// How `list` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
    Ids,
}

#[derive(Debug)]
pub(crate) struct NewContainer {
    pub(crate) id: ContainerId,
    pub(crate) create: Create,
    /// `run` returns once it is started.
    pub(crate) detach: bool,
    /// `run` leaves it undeleted.
    pub(crate) keep: bool,
    /// How many descriptors of the caller's, behind those of socket activation.
    pub(crate) preserve_fds: u32,
}

/// `exec`. Without a process file, the flags vary the process of the container's config.json.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "a flag each")]
pub(crate) struct Exec {
    pub(crate) process: Option<PathBuf>,
    pub(crate) command: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: Option<(u32, Option<u32>)>,
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor: Option<String>,
    pub(crate) process_label: Option<String>,
    pub(crate) terminal: bool,
    pub(crate) detach: bool,
    pub(crate) ignore_paused: bool,
    pub(crate) preserve_fds: u32,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
}

/// On error with the log that was named before it, which is to hold it.
pub(crate) fn parse(mut parser: Parser) -> std::result::Result<(Global, Verb), (Option<Log>, Error)> {
    let mut global = Global { root: "/run/oci".into(), systemd_cgroup: false, log: None };
    let verb = before_the_verb(&mut parser, &mut global).and_then(|word| verb(&word, &mut parser, &global));
    match verb {
        Ok(verb) => Ok((global, verb)),
        Err(error) => Err((global.log, error)),
    }
}

fn verb(word: &OsString, parser: &mut Parser, global: &Global) -> Result<Verb> {
    Ok(match word.to_str() {
        Some("create") => Verb::Create(create(parser, global)?),
        Some("run") => Verb::Run(create(parser, global)?),
        Some("start") => Verb::Start(plain(parser, &[])?.id()?),
        Some("state") => Verb::State(plain(parser, &[])?.id()?),
        Some("kill") => {
            let mut said = plain(parser, &[('a', "all")])?;
            let signal = if said.values.len() > 1 { said.values.remove(1) } else { "TERM".to_owned() };
            Verb::Kill { signal: signal_number(&signal)?, all: said.flag, id: said.id()? }
        }
        Some("delete") => {
            let said = plain(parser, &[('f', "force")])?;
            Verb::Delete { force: said.flag, id: said.id()? }
        }
        Some("exec") => {
            let (id, exec) = exec(parser)?;
            Verb::Exec { id, exec: Box::new(exec) }
        }
        Some("ps") => ps(parser)?,
        Some("list") => list(parser)?,
        Some("pause") => Verb::Pause(plain(parser, &[])?.id()?),
        Some("resume") => Verb::Resume(plain(parser, &[])?.id()?),
        Some("update") => update(parser)?,
        Some("features") => Verb::Features,
        Some("help") => Verb::Help,
        Some("version") => Verb::Version,
        Some("keep") => Verb::Keep(plain(parser, &[])?.id()?),
        _ => return Err(invalid(format!("no such verb: {}; try oci help", word.display()))),
    })
}

fn before_the_verb(parser: &mut Parser, global: &mut Global) -> Result<OsString> {
    let mut json = false;
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Long("root") => global.root = path(parser)?,
            Long("log") => global.log = Some(Log { path: path(parser)?, json }),
            Long("log-format") => json = json_named(&string(parser)?, "text")?,
            // Nothing more is told than always.
            Long("debug") => {}
            Long("systemd-cgroup") => global.systemd_cgroup = true,
            Short('h') | Long("help") => return Ok("help".into()),
            Short('v') | Long("version") => return Ok("version".into()),
            Value(verb) => return Ok(verb),
            other => return Err(invalid(other.unexpected())),
        }
        if let Some(log) = &mut global.log {
            log.json = json;
        }
    }
    Ok("help".into())
}

fn create(parser: &mut Parser, global: &Global) -> Result<NewContainer> {
    let listen_fds = descriptors::activated();
    let mut create = Create { systemd_cgroup: global.systemd_cgroup, listen_fds, ..Create::default() };
    let (mut id, mut detach, mut keep, mut preserve_fds) = (None, false, false, 0);
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('b') | Long("bundle") => create.bundle = path(parser)?,
            Long("pid-file") => create.pid_file = Some(path(parser)?),
            Long("console-socket") => create.console_socket = Some(path(parser)?),
            Long("no-pivot") => create.no_pivot_root = true,
            Long("no-new-keyring") => create.no_new_keyring = true,
            Long("preserve-fds") => preserve_fds = number(parser)?,
            Short('d') | Long("detach") => detach = true,
            Long("keep") => keep = true,
            // The keeper waits for its own children alone.
            Long("no-subreaper") => {}
            Value(value) if id.is_none() => id = Some(ContainerId::new(value.to_string_lossy())?),
            other => return Err(invalid(other.unexpected())),
        }
    }
    create.bundle = absolute(create.bundle)?;
    Ok(NewContainer { id: id.ok_or_else(no_id)?, create, detach, keep, preserve_fds })
}

fn exec(parser: &mut Parser) -> Result<(ContainerId, Exec)> {
    let mut exec = Exec::default();
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('p') | Long("process") => exec.process = Some(path(parser)?),
            Long("cwd") => exec.cwd = Some(string(parser)?),
            Short('e') | Long("env") => exec.env.push(string(parser)?),
            Short('u') | Long("user") => exec.user = Some(user(&string(parser)?)?),
            Short('g') | Long("additional-gids") => {
                let text = string(parser)?;
                let gid = text.parse().map_err(|_| invalid(format!("--additional-gids {text}: not a group id")))?;
                exec.additional_gids.push(gid);
            }
            Short('c') | Long("cap") => exec.capabilities.push(string(parser)?),
            Long("no-new-privs") => exec.no_new_privileges = true,
            Long("apparmor") => exec.apparmor = Some(string(parser)?),
            Long("process-label") => exec.process_label = Some(string(parser)?),
            Short('t') | Long("tty") => exec.terminal = true,
            Short('d') | Long("detach") => exec.detach = true,
            Long("ignore-paused") => exec.ignore_paused = true,
            Long("preserve-fds") => exec.preserve_fds = number(parser)?,
            Long("console-socket") => exec.console_socket = Some(path(parser)?),
            Long("pid-file") => exec.pid_file = Some(path(parser)?),
            Value(id) => {
                let id = ContainerId::new(id.to_string_lossy())?;
                exec.command = rest(parser)?;
                return Ok((id, exec));
            }
            other => return Err(invalid(other.unexpected())),
        }
    }
    Err(no_id())
}

fn ps(parser: &mut Parser) -> Result<Verb> {
    let mut json = false;
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('f') | Long("format") => json = json_named(&string(parser)?, "table")?,
            Value(id) => {
                let id = ContainerId::new(id.to_string_lossy())?;
                let mut arguments = rest(parser)?;
                // What comes after the id is meant for ps(1), but callers put our own flag there, too.
                if let [flag, form] = arguments.as_slice()
                    && matches!(flag.as_str(), "--format" | "-f")
                {
                    json = json_named(form, "table")?;
                    arguments.clear();
                }
                return Ok(Verb::Ps { id, json, arguments });
            }
            other => return Err(invalid(other.unexpected())),
        }
    }
    Err(no_id())
}

fn list(parser: &mut Parser) -> Result<Verb> {
    let mut form = Form::Table;
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('f') | Long("format") => {
                form = if json_named(&string(parser)?, "table")? { Form::Json } else { Form::Table };
            }
            Short('q') | Long("quiet") => form = Form::Ids,
            other => return Err(invalid(other.unexpected())),
        }
    }
    Ok(Verb::List(form))
}

fn update(parser: &mut Parser) -> Result<Verb> {
    let (mut flags, mut file, mut id) = (Flags::default(), None, None);
    while let Some(argument) = parser.next().map_err(invalid)? {
        match argument {
            Short('r') | Long("resources") => file = Some(PathBuf::from(parser.value().map_err(invalid)?)),
            Long(flag) if Flags::know(flag) => {
                let flag = flag.to_owned();
                flags.set(&flag, &string(parser)?)?;
            }
            Value(value) if id.is_none() => id = Some(ContainerId::new(value.to_string_lossy())?),
            other => return Err(invalid(other.unexpected())),
        }
    }
    let id = id.ok_or_else(no_id)?;
    // With a file the flags do not count, as with runc.
    let resources = file.as_deref().map_or_else(|| Ok(flags.json()), resources::read)?;
    Ok(Verb::Update { id, resources })
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

/// All words that are left, whatever they look like.
fn rest(parser: &mut Parser) -> Result<Vec<String>> {
    let words = parser.raw_args().map_err(invalid)?;
    words.map(|word| word.string().map_err(invalid)).collect()
}

/// Whether it is `json`; `other` is the other that it may be.
fn json_named(form: &str, other: &str) -> Result<bool> {
    match form {
        "json" => Ok(true),
        _ if form == other => Ok(false),
        _ => Err(invalid(format!("format {form}: neither {other} nor json"))),
    }
}

/// `9`, `KILL` or `SIGKILL`.
fn signal_number(text: &str) -> Result<i32> {
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let named = || Signal::from_str(&name).map(|signal| signal as i32).ok();
    text.parse()
        .ok()
        .filter(|number| (0..=64).contains(number))
        .or_else(named)
        .ok_or_else(|| invalid(format!("no such signal: {text}")))
}

fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let parsed = match text.split_once(':') {
        Some((uid, gid)) => uid.parse().ok().zip(gid.parse().ok().map(Some)),
        None => text.parse().ok().zip(Some(None)),
    };
    parsed.ok_or_else(|| invalid(format!("--user {text}: not UID[:GID]")))
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

fn number(parser: &mut Parser) -> Result<u32> {
    parser.value().and_then(|value| value.parse()).map_err(invalid)
}

fn no_id() -> Error {
    invalid("exactly one container id is needed")
}

#[allow(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn invalid(error: impl ToString) -> Error {
    Error::new(Kind::Invalid, error.to_string())
}
