//! Files in memory: memfd_create(2).

use std::ffi::CStr;
use std::fs::File;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, Result};

/// An empty file that can never be executed, so that no `vm.memfd_noexec` refuses it. `name` is for people who look.
pub(crate) fn create(name: &CStr) -> Result<File> {
    match memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3 there is neither the flag nor the sysctl.
        Err(Errno::INVAL) => memfd_create(name, MemfdFlags::CLOEXEC),
        made => made,
    }
    .map(File::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_cannot_be_executed() {
        let mode = super::create(c"test").unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0, "{mode:o}");
    }
}
