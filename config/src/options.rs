//! Runtime options: what a client or the node's administrator may choose beside config.json.
//!
//! The shim's `start` and Create collect their [`Source`]s, the OCI command line makes the values of its flags. One
//! precedence: of the sources that name an option the last one in this order wins, whole options at a time.
//!
//! ```text
//! defaults  <  the node's file  <  the file at config_path  <  config_body, or the fields of runc.v1.Options
//! ```
//!
//! Files and `config_body` are TOML, one flat table of the keys below, which are the names that containerd's own
//! configuration has for `runc.v1.Options`. In TOML a key that is there counts, `false` and `0` too; in a protobuf message
//! they cannot be told from nothing. An empty text says nothing anywhere: containerd writes out every option of a handler
//! that it knows. A key that nobody knows is refused with its source.
//!
//! | key | default | what it does |
//! |---|---|---|
//! | `SystemdCgroup` | false | systemd makes the cgroup; a `cgroupsPath` of the form `slice:prefix:name` says so as well |
//! | `NoPivotRoot` | false | the root is moved over `/` in place of `pivot_root(2)`, for a rootfs on a ramdisk |
//! | `NoNewKeyring` | false | the container keeps the session keyring of the shim |
//! | `IoUid`, `IoGid` | 0 | who owns the pipes and fifos that a container gets as its stdio |
//! | `Root` | `/run/containerd-shim-myshim` | where the runtime keeps what it shares between bundles |
//! | `ShimCgroup` | none | the cgroup that a shim joins when it starts; it must exist |
//! | `LogLevel` | info | `error`, `warn`, `info`, `debug` or `trace`: the shim logs so much, or more where containerd asks for it |
//! | `IdleSeconds` | 60 | a shim without containers and without clients ends after so long; 0: never |
//! | `SlowCreateMilliseconds` | 1000 | a Create that takes as long is logged as a warning, with its slowest parts; 0: never |
//! | `BinaryName` | none | refused: no other runtime is run |
//! | `CriuPath`, `CriuImagePath`, `CriuWorkPath` | none | refused until there are checkpoints |
//! | `TaskApiAddress`, `TaskApiVersion` | none | containerd's note to itself where a sandbox's tasks are served |
//! | `TypeUrl` | none | what the keys are, which must be these |
//!
//! A pod's shim is started once: `ShimCgroup`, `LogLevel` and `IdleSeconds` are those of its first container. The others
//! are each container's own.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use toml::Value;

use crate::refuse::Refusal;

/// Where the runtime keeps what it shares between bundles, unless `Root` says otherwise.
const ROOT: &str = "/run/containerd-shim-myshim";

/// What `TypeUrl` may say, after the last slash.
const TYPES: [&str; 2] = ["containerd.runc.v1.Options", "runtimeoptions.v1.Options"];

/// Options of one container, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `NoPivotRoot`: move the root over `/` in place of `pivot_root(2)`, for a rootfs on a ramdisk.
    pub no_pivot_root: bool,
    /// `NoNewKeyring`: keep the session keyring.
    pub no_new_keyring: bool,
    /// `SystemdCgroup`: the cgroup is made by systemd.
    pub systemd_cgroup: bool,
    /// `IoUid`, `IoGid`: who owns the pipes and fifos that a container gets.
    pub io_uid: u32,
    /// See [`Options::io_uid`].
    pub io_gid: u32,
    /// `Root`: absolute; where the runtime keeps what it shares between bundles.
    pub root: PathBuf,
    /// `ShimCgroup`: below the root of each hierarchy, without a slash in front.
    pub shim_cgroup: Option<PathBuf>,
    /// `LogLevel`, where somebody has set it.
    pub log_level: Option<LevelFilter>,
    /// `IdleSeconds`: how long a shim stays that has nothing to do; 0 is for ever.
    pub idle_seconds: u32,
    /// `SlowCreateMilliseconds`: from when on a Create is worth a warning; 0 is never.
    pub slow_create_milliseconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            no_pivot_root: false,
            no_new_keyring: false,
            systemd_cgroup: false,
            io_uid: 0,
            io_gid: 0,
            root: ROOT.into(),
            shim_cgroup: None,
            log_level: None,
            idle_seconds: 60,
            slow_create_milliseconds: 1000,
        }
    }
}

/// The value of one option, as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// True or false.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// A text; an empty one says nothing.
    Text(String),
}

/// What one source says. Of the same key twice the last counts, which TOML does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    settings: Vec<(String, Setting)>,
}

impl Source {
    /// Options that come as fields of a message called `name`.
    pub fn fields(name: &str, settings: Vec<(String, Setting)>) -> Self {
        Self { name: name.to_owned(), settings }
    }

    /// Options as TOML text, that of `name`.
    pub fn toml(name: &str, text: &str) -> Result<Self, Refusal> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.split('\n').count();
            Refusal::new(format!("{name}: line {line}"), error.message().replace('\n', ", "))
        })?;
        let setting = |(key, value)| match setting(value) {
            Some(setting) => Ok((key, setting)),
            None => Err(Refusal::new(format!("{name}: {key}"), "no option has a value of this kind")),
        };
        let settings = table.into_iter().map(setting).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), settings })
    }

    /// The TOML file at `path`, which must be there.
    pub fn file(path: &Path) -> Result<Self, Refusal> {
        if !path.is_absolute() {
            return Err(unreadable(path, "not an absolute path"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Self::toml(&path.display().to_string(), &text)
    }

    /// The node's file: none says nothing.
    pub fn node(path: &Path) -> Result<Self, Refusal> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::toml(&path.display().to_string(), &text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::fields("the node's file", Vec::new())),
            Err(error) => Err(unreadable(path, &error)),
        }
    }
}

impl Options {
    /// The defaults with what `sources` say, the last of them first in rank.
    pub fn resolve(sources: &[Source]) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for Source { name, settings } in sources {
            for (key, setting) in settings {
                options.set(key, setting).map_err(|reason| Refusal::new(format!("{name}: {key}"), reason))?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, setting: &Setting) -> Result<(), String> {
        match key {
            "NoPivotRoot" => self.no_pivot_root = setting.switch()?,
            "NoNewKeyring" => self.no_new_keyring = setting.switch()?,
            "SystemdCgroup" => self.systemd_cgroup = setting.switch()?,
            "IoUid" => self.io_uid = setting.number()?,
            "IoGid" => self.io_gid = setting.number()?,
            "IdleSeconds" => self.idle_seconds = setting.number()?,
            "SlowCreateMilliseconds" => self.slow_create_milliseconds = setting.number()?,
            "Root" => self.root = setting.text()?.map_or(Ok(self.root.clone()), absolute)?,
            "ShimCgroup" => self.shim_cgroup = setting.text()?.map(cgroup).transpose()?.or(self.shim_cgroup.take()),
            "LogLevel" => self.log_level = setting.text()?.map(level).transpose()?.or(self.log_level),
            "BinaryName" => setting.only_empty("this shim runs containers itself and no other runtime")?,
            "CriuPath" | "CriuImagePath" | "CriuWorkPath" => setting.only_empty("checkpoints are not supported yet")?,
            "ConfigPath" | "ConfigBody" => setting.only_empty("a source of options names no further one")?,
            "TypeUrl" => setting.text()?.map_or(Ok(()), known_type)?,
            "TaskApiAddress" => drop(setting.text()?),
            "TaskApiVersion" => drop(setting.number()?),
            _ => return Err("there is no such option".to_owned()),
        }
        Ok(())
    }
}

impl Setting {
    fn switch(&self) -> Result<bool, String> {
        match self {
            Self::Switch(on) => Ok(*on),
            other => Err(format!("{other} is neither true nor false")),
        }
    }

    fn number(&self) -> Result<u32, String> {
        let number = if let Self::Number(number) = self { u32::try_from(*number).ok() } else { None };
        number.ok_or_else(|| format!("{self} is no number from 0 to {}", u32::MAX))
    }

    /// None where it is empty.
    fn text(&self) -> Result<Option<&str>, String> {
        match self {
            Self::Text(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            other => Err(format!("{other} is no text")),
        }
    }

    fn only_empty(&self, reason: &str) -> Result<(), String> {
        self.text()?.map_or(Ok(()), |text| Err(format!("{text:?}: {reason}")))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => write!(f, "{on}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

fn setting(value: Value) -> Option<Setting> {
    match value {
        Value::Boolean(on) => Some(Setting::Switch(on)),
        Value::Integer(number) => Some(Setting::Number(number)),
        Value::String(text) => Some(Setting::Text(text)),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is not an absolute path")) }
}

/// A cgroup's path as the kernel writes it, from the root of the hierarchies.
fn cgroup(text: &str) -> Result<PathBuf, String> {
    let inner = Path::new(text.trim_start_matches('/'));
    let normal = |component| matches!(component, std::path::Component::Normal(_));
    if text.starts_with('/') && inner.components().all(normal) {
        Ok(inner.to_owned())
    } else {
        Err(format!("{text:?} is not the absolute path of a cgroup"))
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    let level = text.parse().ok().filter(|level| *level != LevelFilter::Off);
    level.ok_or_else(|| format!("{text:?} is none of error, warn, info, debug and trace"))
}

fn known_type(text: &str) -> Result<(), String> {
    if TYPES.iter().any(|name| text.rsplit('/').next() == Some(name)) {
        Ok(())
    } else {
        Err(format!("{text:?} is neither {} nor {}", TYPES[0], TYPES[1]))
    }
}

fn unreadable(path: &Path, reason: impl fmt::Display) -> Refusal {
    Refusal::new(format!("options file {}", path.display()), reason.to_string())
}

#[cfg(test)]
mod tests;
