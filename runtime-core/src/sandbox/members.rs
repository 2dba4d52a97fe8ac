//! Which containers a sandbox has, on disk: containerd calls no `delete` for a container that was created through a sandbox's
//! shim (its shim_manager.go), so when that shim dies the sandbox's own `delete` must know them all.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use config::ContainerId;

use super::files;
use crate::container::{self, Destroyed};
use crate::error::{Error, Kind, Result};

/// In the sandbox's bundle: a symbolic link for each container, from its id to its bundle.
const DIRECTORY: &str = "containers";

/// The containers of the sandbox with this bundle.
#[derive(Debug, Clone)]
pub struct Members {
    directory: PathBuf,
}

impl Members {
    /// None yet, or those of an earlier life.
    pub fn of(bundle: &Path) -> Self {
        Self { directory: bundle.join(DIRECTORY) }
    }

    /// Writes a container down, until the answer is dropped; to be called before anything is made of it. Kind `Exists` where
    /// it is written down already.
    pub fn add(&self, id: &ContainerId, bundle: &Path) -> Result<Member> {
        let link = self.directory.join(id.as_str());
        let made = fs::create_dir_all(&self.directory).and_then(|()| std::os::unix::fs::symlink(bundle, &link));
        match made {
            Ok(()) => Ok(Member { link }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::new(Kind::Exists, format!("container {id} exists already")))
            }
            Err(error) => Err(Error::io(format!("link {} to {}", link.display(), bundle.display()), &error)),
        }
    }

    /// (id, bundle) of each.
    fn all(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let of = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?));
        entries.filter_map(of).collect()
    }
}

/// A container that is written down.
#[derive(Debug)]
pub struct Member {
    link: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.link) {
            log::warn!("{error}");
        }
    }
}

fn remove(link: &Path) -> Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", link.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Ends what is left in `bundle`, from what is on disk alone, after its shim has died: a container as
/// [`container::destroy`] does, and where the bundle is a sandbox's, first its containers, then its own process, last its
/// memory. Goes on past errors and reports the first, beside what it found.
pub async fn destroy(bundle: &Path) -> (Destroyed, Result<()>) {
    let members = Members::of(bundle);
    let mut outcome = Ok(());
    for (id, place) in members.all() {
        outcome = outcome.and(container::destroy(&place).await.1.map_err(|error| error.context(&id)));
        outcome = outcome.and(remove(&members.directory.join(id)));
    }
    let (destroyed, own) = container::destroy(bundle).await;
    (destroyed, outcome.and(own).and(files::unmount(bundle)))
}
