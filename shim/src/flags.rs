//! The command line, in the syntax of Go's `flag` package: `-name value`, `-name=value`, one dash or two, the verb after
//! all flags.
//!
//! containerd adds flags from release to release, and an older shim must start all the same: an unknown flag is passed
//! over, with its value where it has one.

use std::ffi::OsString;

use runtime_core::{Error, Kind, Result};

/// The verbs, which an unknown flag cannot take for its value.
const VERBS: [&str; 4] = ["start", "delete", "plan", "help"];

/// What the command line says; an absent string is empty, as Go has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "the command line's own switches")]
pub(crate) struct Flags {
    /// `-h`, `-help`: print what this program is and exit.
    pub(crate) help: bool,
    /// `-v`, `-version`: print the version and exit.
    pub(crate) version: bool,
    /// `-info`: print what this runtime can do and exit.
    pub(crate) info: bool,
    /// `-debug`: log more.
    pub(crate) debug: bool,
    /// `-namespace`: containerd's namespace.
    pub(crate) namespace: String,
    /// `-id`: the container.
    pub(crate) id: String,
    /// `-address`: containerd's gRPC socket.
    pub(crate) address: String,
    /// `-bundle`: given with `delete` only.
    pub(crate) bundle: String,
    /// `-log-level`: from `start` to its server, where it is not what `-debug` says.
    pub(crate) log_level: String,
    /// `-idle-seconds`: from `start` to its server, where it is not the default.
    pub(crate) idle_seconds: String,
    /// What to do; none serves.
    pub(crate) verb: Option<String>,
    /// What follows the verb.
    pub(crate) operands: Vec<String>,
}

impl Flags {
    /// Reads the command line without the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut args = args.into_iter().map(text).collect::<Result<Vec<_>>>()?.into_iter().peekable();
        let mut flags = Self::default();
        while let Some(flag) = args.next_if(|arg| arg.len() > 1 && arg.starts_with('-')) {
            if flag == "--" {
                break;
            }
            let (name, inline) = split(&flag);
            if let Some(switch) = flags.switch(name) {
                *switch = inline.is_none_or(|value| !matches!(value, "false" | "0" | "f" | "F" | "FALSE" | "False"));
            } else if let Some(field) = flags.field(name) {
                *field = match inline {
                    Some(value) => value.to_owned(),
                    None => {
                        args.next().ok_or_else(|| Error::new(Kind::Invalid, format!("flag {flag} needs a value")))?
                    }
                };
            } else if inline.is_none() {
                args.next_if(|next| !next.starts_with('-') && !VERBS.contains(&next.as_str()));
            }
        }
        flags.verb = args.next();
        flags.operands = args.collect();
        Ok(flags)
    }

    /// The same flags, if they say whose container this is about.
    pub(crate) fn identified(self) -> Result<Self> {
        for (name, value) in [("namespace", &self.namespace), ("id", &self.id)] {
            if value.is_empty() {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("-{name} is missing: this program is run by containerd, not by hand; -h tells more"),
                ));
            }
        }
        Ok(self)
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "h" | "help" => Some(&mut self.help),
            "v" | "version" => Some(&mut self.version),
            "info" => Some(&mut self.info),
            "debug" => Some(&mut self.debug),
            _ => None,
        }
    }

    fn field(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "namespace" => Some(&mut self.namespace),
            "id" => Some(&mut self.id),
            "address" => Some(&mut self.address),
            "bundle" => Some(&mut self.bundle),
            "log-level" => Some(&mut self.log_level),
            "idle-seconds" => Some(&mut self.idle_seconds),
            _ => None,
        }
    }
}

fn text(arg: OsString) -> Result<String> {
    arg.into_string().map_err(|arg| Error::new(Kind::Invalid, format!("argument {} is not UTF-8", arg.display())))
}

/// `--name=value` into `name` and `value`.
fn split(flag: &str) -> (&str, Option<&str>) {
    let flag = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')).unwrap_or(flag);
    flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags> {
        Flags::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_every_containerd_sends_to_start() {
        let flags =
            parse("-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id abc -debug start")
                .unwrap();
        assert_eq!(
            flags,
            Flags {
                namespace: "k8s.io".into(),
                address: "/run/c.sock".into(),
                id: "abc".into(),
                debug: true,
                verb: Some("start".into()),
                ..Flags::default()
            }
        );
    }

    #[test]
    fn unknown_flags_are_passed_over_with_their_values() {
        for line in [
            "-id a -new start",
            "-new x -id a start",
            "-new=x -id a start",
            "--id=a --new -other y start",
            "-socket s -debug-socket d -id a start",
        ] {
            let flags = parse(line).unwrap();
            assert_eq!((flags.id.as_str(), flags.verb.as_deref()), ("a", Some("start")), "{line}");
        }
        assert_eq!(parse("-id a -new value").unwrap().verb, None);
    }

    #[test]
    fn a_verb_may_be_the_value_of_a_known_flag() {
        let flags = parse("-id start -namespace delete delete").unwrap();
        assert_eq!((flags.id.as_str(), flags.namespace.as_str()), ("start", "delete"));
        assert_eq!(flags.verb.as_deref(), Some("delete"));
    }

    #[test]
    fn switches_take_values_only_inline() {
        assert!(!parse("-debug=false start").unwrap().debug);
        assert!(parse("-debug=true start").unwrap().debug);
        assert!(parse("-h").unwrap().help && parse("--help").unwrap().help);
        assert!(parse("-v").unwrap().version && parse("--version").unwrap().version);
        assert!(parse("-info").unwrap().info);
    }

    #[test]
    fn operands_follow_the_verb() {
        let flags = parse("plan /run/bundle -v").unwrap();
        assert_eq!(flags.operands, ["/run/bundle", "-v"]);
        assert!(!flags.version);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse("-id").unwrap_err().to_string(), "flag -id needs a value");
        let error = parse("-namespace n start").unwrap().identified().unwrap_err();
        assert!(error.to_string().starts_with("-id is missing"), "{error}");
    }
}
