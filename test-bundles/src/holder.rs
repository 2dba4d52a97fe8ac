//! Namespaces for a container to join: held by a process of the test's, and gone with it.

#![allow(clippy::missing_panics_doc, reason = "a harness panics wherever something is not as the test needs it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process that holds namespaces: unshare(1) with a waiting child, which is pid 1 where there is a new pid namespace. Once it is
/// ready it executes nothing more, for a container that joins its mounts may take its root away.
#[derive(Debug)]
pub struct Holder(Child);

impl Holder {
    /// New ones by unshare(1)'s flags: `--net`.
    pub fn new(flags: &[&str]) -> Self {
        let script = "echo ready; read never";
        let mut unshare = Command::new("unshare");
        unshare.args(["--fork", "--kill-child"]).args(flags).args(["sh", "-c", script]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = unshare.spawn().expect("unshare(1) is installed");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("it speaks");
        assert_eq!(ready, "ready\n");
        Self(child)
    }

    /// The same in a new user namespace with these lines of uid_map and gid_map.
    pub fn with_ids(flags: &[&str], uids: &str, gids: &str) -> Self {
        let holder = Self::new(&[&["--user"], flags].concat());
        for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
            fs::write(format!("/proc/{}/{file}", holder.0.id()), map).expect("root may write the maps");
        }
        holder
    }

    /// The file of the namespace that the kernel calls `file`.
    pub fn path(&self, file: &str) -> String {
        let file = match file {
            "pid" => "pid_for_children",
            "time" => "time_for_children",
            file => file,
        };
        format!("/proc/{}/ns/{file}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the holder is the test's own");
    }
}
