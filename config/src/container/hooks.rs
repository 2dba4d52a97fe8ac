//! `hooks`: programs that run beside the container. (config.md#posix-platform-hooks)

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `hooks`: what runs beside the container, in order, at six points of its life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `prestart`
    pub prestart: Vec<Hook>,
    /// `createRuntime`
    pub create_runtime: Vec<Hook>,
    /// `createContainer`
    pub create_container: Vec<Hook>,
    /// `startContainer`
    pub start_container: Vec<Hook>,
    /// `poststart`
    pub poststart: Vec<Hook>,
    /// `poststop`
    pub poststop: Vec<Hook>,
}

/// One of `hooks`. It can be written down, for who must run it after the runtime has died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// `path`: absolute, on the host or in the container, as its kind has it.
    pub path: PathBuf,
    /// `args`: the program's own name is the first; never empty.
    pub args: Vec<String>,
    /// `env`: all that it gets. None where config.json does not say: the runtime core's `hooks` has the default of each kind.
    pub env: Option<Vec<String>>,
    /// `timeout`: how long it may take.
    pub timeout: Option<Duration>,
}
