//! `delete`: clears up after a server that died, or that could not be reached, from what is on disk alone.
//!
//! containerd runs it in the bundle, also after a normal end, and deletes the bundle next. It waits some seconds, shows
//! what arrives on stderr as a warning, and tells the world the exit that stdout reports. So it does all it can, says what
//! it could not, and succeeds: a failure would only hide the exit and keep the bundle.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use containerd_shim::api::DeleteResponse;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::util::timestamp;
use runtime_core::{Error, Kind, Result, sandbox};

use crate::flags::Flags;
use crate::start::{self, ADDRESS_FILE, socket};

/// How a process that SIGKILL ended is reported.
const KILLED: u32 = 128 + 9;

/// Runs `delete` in the bundle.
#[inline(never)]
pub(crate) fn delete(flags: &Flags) -> Result<()> {
    let bundle = bundle(flags)?;
    let (destroyed, outcome) = crate::event_loop()?.block_on(sandbox::destroy(&bundle));
    if let Err(error) = outcome {
        warn(&error);
    }
    if let Err(error) = remove_socket(flags, &bundle) {
        warn(&error);
    }
    let response = DeleteResponse {
        pid: u32::try_from(destroyed.pid).unwrap_or_default(),
        exit_status: KILLED,
        exited_at: timestamp().ok().into(),
        ..DeleteResponse::default()
    };
    let bytes = response.write_to_bytes().map_err(|e| Error::new(Kind::System, format!("encode the answer: {e}")))?;
    crate::print(&bytes)
}

/// The bundle: named, or the working directory.
fn bundle(flags: &Flags) -> Result<PathBuf> {
    let named = if flags.bundle.is_empty() { Path::new(".") } else { Path::new(&flags.bundle) };
    std::path::absolute(named).map_err(|e| Error::io("find the bundle", &e))
}

/// Removes the dead server's socket, if the bundle names the one of this container's group. It is the pod's, but nobody
/// knows which container of it is deleted last, and a socket without a server is of use to none.
fn remove_socket(flags: &Flags, bundle: &Path) -> Result<()> {
    let Ok(address) = fs::read_to_string(bundle.join(ADDRESS_FILE)) else { return Ok(()) };
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(&address));
    let group = start::group(&bundle.join("config.json"), &flags.id)?;
    let own = path.parent().map(|dir| socket::path(dir, &flags.address, &flags.namespace, &group)).transpose()?;
    if own.as_deref() == Some(path) { socket::remove_dead(path) } else { Ok(()) }
}

fn warn(error: &Error) {
    // Without stderr there is nobody to warn.
    let _ = writeln!(std::io::stderr(), "{error}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A bundle of container `a` whose server, of group `group`, listened in `dir`.
    fn bundle_with(dir: &Path, group: &str) -> (Flags, PathBuf, UnixListener) {
        let flags = Flags { address: "/c.sock".into(), namespace: "n".into(), id: "a".into(), ..Flags::default() };
        let path = socket::path(dir, &flags.address, &flags.namespace, group).unwrap();
        fs::write(dir.join(ADDRESS_FILE), format!("unix://{}", path.display())).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        (flags, path, listener)
    }

    #[test]
    fn only_a_dead_socket_of_its_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (flags, path, listener) = bundle_with(dir.path(), "a");
        remove_socket(&flags, dir.path()).unwrap();
        assert!(path.exists(), "the server lives");
        drop(listener);
        remove_socket(&flags, dir.path()).unwrap();
        assert!(!path.exists(), "the server is dead");
        remove_socket(&flags, dir.path()).unwrap();
    }

    #[test]
    fn the_dead_socket_of_a_pod_goes_with_any_of_its_containers_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let (flags, path, listener) = bundle_with(dir.path(), "pod");
        drop(listener);
        remove_socket(&flags, dir.path()).unwrap();
        assert!(path.exists(), "the container is not of this pod");
        let config = r#"{"annotations": {"io.containerd.runc.v2.group": "pod"}}"#;
        fs::write(dir.path().join("config.json"), config).unwrap();
        remove_socket(&flags, dir.path()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_bundle_without_an_address_has_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        remove_socket(&Flags::default(), dir.path()).unwrap();
    }
}
