//! Runtime options: what a client may choose for a whole container beside config.json.
//!
//! The shim fills this from `runc.v1.Options`; the OCI command line from its flags. Both options sources and the node's
//! file get one documented precedence here when they come.

/// Options of one container, resolved. The names are `runc.v1.Options`'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `no_pivot_root`: move the root over `/` in place of `pivot_root(2)`, for a rootfs on a ramdisk.
    pub no_pivot_root: bool,
    /// `no_new_keyring`: keep the session keyring.
    pub no_new_keyring: bool,
    /// `systemd_cgroup`: the cgroup is made by systemd.
    pub systemd_cgroup: bool,
    /// `io_uid`, `io_gid`: who owns the pipes and terminals the shim makes.
    pub io_uid: u32,
    /// See [`Options::io_uid`].
    pub io_gid: u32,
}
