//! The process that `oci create` leaves behind, and what becomes of a container that has lost it. Ours alone: other
//! runtimes have none.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_bundles::bundle::{self, Bundle, ours};

#[test]
fn it_is_inits_parent_in_a_session_of_its_own() {
    if ours() {
        let bundle = Bundle::new("lifecycle");
        bundle.create().success();
        let keeper = keeper(&bundle);
        let command = fs::read_to_string(format!("/proc/{keeper}/cmdline")).unwrap();
        assert!(command.contains(bundle.id()), "{command}");
        assert_eq!(nix::unistd::getsid(Some(keeper)), Ok(keeper));
        assert_eq!(fs::read_dir(format!("/proc/{keeper}/task")).unwrap().count(), 1);
    }
}

#[test]
fn it_ends_with_the_container() {
    if ours() {
        let bundle = Bundle::new("lifecycle");
        bundle.start();
        let keeper = bundle::pidfd(keeper(&bundle).as_raw()).unwrap();
        bundle.call(&["delete", "--force", bundle.id()]).success();
        bundle::wait(&keeper);
    }
}

#[test]
fn without_it_a_created_init_ends_and_the_rest_can_be_deleted() {
    if ours() {
        let bundle = Bundle::new("lifecycle");
        bundle.create().success();
        lose(&bundle);
        bundle.wait();
        delete_by_force(&bundle);
    }
}

#[test]
fn without_it_a_running_container_is_destroyed_from_what_is_on_disk() {
    if ours() {
        let bundle = Bundle::new("lifecycle");
        let init = bundle::pidfd(bundle.start()).unwrap();
        lose(&bundle);
        delete_by_force(&bundle);
        bundle::wait(&init);
    }
}

fn keeper(bundle: &Bundle) -> Pid {
    let status = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(parent.trim().parse().unwrap())
}

fn lose(bundle: &Bundle) {
    let keeper = keeper(bundle);
    let ended = bundle::pidfd(keeper.as_raw()).unwrap();
    kill(keeper, Signal::SIGKILL).unwrap();
    bundle::wait(&ended);
}

/// Nobody knows what a container does that has lost its keeper, and nobody says so.
fn delete_by_force(bundle: &Bundle) {
    for verb in [&["state"][..], &["start"], &["delete"]] {
        let ran = bundle.call(&[verb, &[bundle.id()]].concat());
        assert_ne!(ran.status, 0, "{verb:?}");
        assert!(ran.stderr.contains("keeper has died"), "{}", ran.stderr);
    }
    bundle.call(&["delete", "--force", bundle.id()]).success();
    bundle.assert_nothing_left();
}
