//! What is not handed over.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{client, fifo, open, private, read_now, read_to_end, run, streams};
use crate::io::Streams;

fn is_pipe(file: &File) -> bool {
    let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    name.display().to_string().starts_with("pipe:")
}

/// Reads what is in a log once somebody has copied it.
async fn logged(path: &Path, expected: &str) {
    while fs::read_to_string(path).unwrap() != expected {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_process_cannot_change_the_log_that_it_writes() {
    run(async {
        let dir = private();
        for (name, scheme) in [("uri", "file://"), ("path", "")] {
            let path = dir.path().join(name);
            fs::write(&path, "before ").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let streams = Streams { stdout: format!("{scheme}{}", path.display()), ..Streams::default() };
            let (_io, [_, mut stdout, _]) = open(&streams).await;
            assert!(is_pipe(&stdout), "{name}");
            assert!(stdout.set_len(0).is_err());
            // Of the pipe, and no more.
            stdout.set_permissions(fs::Permissions::from_mode(0o777)).unwrap();
            stdout.write_all(b"after").unwrap();
            logged(&path, "before after").await;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        }
    });
}

#[test]
fn a_log_goes_on_until_delete_and_nothing_is_lost_then() {
    run(async {
        let path = private().keep().join("log");
        let streams = Streams { stdout: format!("file://{}", path.display()), ..Streams::default() };
        let (mut io, [_, mut stdout, _]) = open(&streams).await;
        io.ended();
        stdout.write_all(b"by a child, ").unwrap();
        logged(&path, "by a child, ").await;
        stdout.write_all(b"at the last moment").unwrap();
        io.close().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "by a child, at the last moment");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    });
}

#[test]
fn a_file_is_read_for_the_process() {
    run(async {
        let dir = private();
        let path = dir.path().join("in");
        let long = "x".repeat(200_000);
        fs::write(&path, &long).unwrap();
        let streams = Streams { stdin: path.display().to_string(), ..Streams::default() };
        let (mut io, [stdin, ..]) = open(&streams).await;
        assert!(is_pipe(&stdin));
        io.started();
        let read = std::thread::spawn(move || std::io::read_to_string(stdin).unwrap());
        while !read.is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(read.join().unwrap() == long, "all of it, and its end");
    });
}

#[test]
fn a_fifo_is_handed_over_only_where_its_directory_keeps_others_out() {
    run(async {
        let dir = private();
        for (mode, copied) in [(0o700, false), (0o755, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let path = fifo(&dir, &format!("{mode:o}"));
            let mut client = client(&path);
            let (mut io, [_, mut stdout, _]) = open(&streams(None, Some(&path))).await;
            assert_eq!(is_pipe(&stdout), copied, "{mode:o}");
            stdout.write_all(b"said").unwrap();
            let mut said = Vec::new();
            while said.is_empty() {
                said = read_now(&mut client).0;
                tokio::task::yield_now().await;
            }
            assert_eq!(said, b"said");
            drop(stdout);
            io.ended();
            drop(io.outputs.drain(..));
            // The end comes before Delete, for which a client may wait until it has seen the end.
            assert_eq!(read_to_end(&mut client).await, b"");
        }
    });
}
