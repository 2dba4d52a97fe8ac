//! What must outlive the shim: who init is and where its cgroup lies, in the bundle. Written at Create, read by
//! [`crate::container::destroy`] when the shim that knew it has died.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use config::container::Hook;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::subject::Subject;

/// The record's file name in the bundle.
const FILE: &str = "myshim.json";

/// The record of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct State {
    /// Init's pid; 0 before it was forked.
    pub(crate) pid: i32,
    /// When init started, in clock ticks since boot (proc(5), field 22 of stat): with the pid it names a process for good.
    pub(crate) start_time: u64,
    /// The cgroup's directories.
    pub(crate) cgroup: Vec<PathBuf>,
    /// The systemd unit that the cgroup is.
    #[serde(default)]
    pub(crate) unit: Option<String>,
    /// What is to run when the container is gone.
    #[serde(default)]
    pub(crate) poststop: Vec<Hook>,
    /// Whom those hooks are told about.
    #[serde(default)]
    pub(crate) subject: Subject,
}

impl State {
    /// Writes the record into `bundle`, whole or not at all.
    pub(crate) fn write(&self, bundle: &Path) -> Result<()> {
        let (file, draft) = (bundle.join(FILE), bundle.join(".myshim.json"));
        let failed = |error| Error::io(format!("write {}", file.display()), &error);
        let json = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        fs::write(&draft, json).map_err(failed)?;
        fs::rename(&draft, &file).map_err(failed)
    }

    /// Reads the record of `bundle`; none if there is none.
    pub(crate) fn read(bundle: &Path) -> Result<Option<Self>> {
        let file = bundle.join(FILE);
        let failed = |error| Error::io(format!("read {}", file.display()), &error);
        match fs::read(&file) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes the record. False if there is none: of several who want it gone, one alone is told that it did it.
    pub(crate) fn remove(bundle: &Path) -> Result<bool> {
        match fs::remove_file(bundle.join(FILE)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(format!("remove {}", bundle.join(FILE).display()), &error)),
        }
    }
}

/// When process `pid` started, as in [`State::start_time`]; none if there is no such process.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything; the 22nd is the 20th after it.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::container::Hook;

    use super::{State, Subject, start_time};

    #[test]
    fn a_record_is_read_as_written_and_removed_once() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(State::read(bundle.path()).unwrap(), None);
        let hook = Hook {
            path: "/h".into(),
            args: vec!["h".into()],
            env: Some(Vec::new()),
            timeout: Some(Duration::from_secs(3)),
        };
        let subject = Subject { id: "c1".into(), bundle: "/b".into(), annotations: vec![("a".into(), "b".into())] };
        let cgroup = vec!["/sys/fs/cgroup/pids/x".into()];
        let state = State { pid: 7, start_time: 9, cgroup, unit: None, poststop: vec![hook], subject };
        state.write(bundle.path()).unwrap();
        assert_eq!(State::read(bundle.path()).unwrap(), Some(state));
        assert!(State::remove(bundle.path()).unwrap());
        assert!(!State::remove(bundle.path()).unwrap());
        assert_eq!(State::read(bundle.path()).unwrap(), None);
    }

    #[test]
    fn a_broken_record_is_an_error_that_names_it() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("myshim.json"), "{").unwrap();
        assert!(State::read(bundle.path()).unwrap_err().to_string().contains("myshim.json"));
    }

    #[test]
    fn a_process_has_one_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }
}
