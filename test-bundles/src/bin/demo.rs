//! `make demo`: a container's whole life under the shim, on a private containerd, shown step by step.
//!
//! Started by the Makefile with the shim's path in `SHIM` and a directory of its own as the only argument. What it starts
//! it ends, by pid; what it keeps in that directory (containerd's images) makes the next run quicker.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use test_bundles::containerd::{Containerd, shim_binary};
use test_bundles::ctr;
use test_bundles::image::{self, Image};

/// What the container does: it says who it is, waits to be visited, and ends with a status of its own.
const PROGRAM: &str = r#"echo "hello from pid $$ on $(hostname), one of $(ls /proc | grep -c '^[0-9]') processes it can see"
until [ -e /tmp/visited ]; do sleep 0.02; done
echo "somebody was here: $(cat /tmp/visited)"
exit 7"#;

const EVENT_LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).context("usage: demo DIRECTORY")?);
    std::fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let runtime = test_bundles::runtime();

    if !test_bundles::is_runc() {
        let shim = shim_binary()?;
        say(&format!("the shim: {} ({} kB, static)", shim.display(), shim.metadata()?.len() / 1000));
    }
    say(&format!("start a private containerd in {}", dir.display()));
    let daemon = Containerd::start_at(&dir)?;
    if daemon.ctr(&["images", "list", "--quiet"])?.success()?.contains(image::NAME) {
        say(&format!("the image {} is there from the last run", image::NAME));
    } else {
        say(&format!("make an image from /bin/busybox and import it as {}", image::NAME));
        Image::make(&dir)?.import(&daemon)?;
    }

    // A run that was interrupted leaves its container in containerd's database.
    let _ = daemon.ctr(&["containers", "delete", "demo"])?;

    let events = watch_events(&daemon)?;
    say(&format!("ctr run --rm --runtime {runtime} {} demo sh -c '…'", image::NAME));
    let run = ["run", "--rm", "--runtime", &runtime, image::NAME, "demo", "sh", "-c", PROGRAM];
    let mut container =
        daemon.ctr_command(&run).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(container.stdout.take().expect("it was asked for"));
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.is_empty() {
        let output = ctr::finish(container)?;
        anyhow::bail!("the container did not start: {}", output.stderr.trim());
    }
    print!("    {line}");

    say("ctr task exec demo sh -c 'echo … > /tmp/visited'");
    let visit = "echo \"exec with pid $$, user $(id -un)\" > /tmp/visited; cat /tmp/visited";
    print!("    {}", daemon.ctr(&["task", "exec", "--exec-id", "visit", "demo", "sh", "-c", visit])?.success()?);

    for line in output.lines() {
        println!("    {}", line?);
    }
    let code = ctr::finish(container)?.code;
    say("the events that arrived at containerd");
    loop {
        let event = events.recv_timeout(EVENT_LIMIT).context("the delete event never arrived")?;
        println!("    {}", shortened(&event));
        if event.starts_with("/tasks/delete") {
            break;
        }
    }
    say(&format!("exit status {code}"));
    ensure!(code == 7, "the container ended with 7, and ctr says {code}");
    say("end the containerd that was started");
    daemon.stop()
}

/// Topics of the demo's own task events, from `ctr events`. That it listens is known when it hears of a namespace made
/// for the purpose: events before a subscription are lost.
fn watch_events(daemon: &Containerd) -> Result<mpsc::Receiver<String>> {
    let mut watcher =
        daemon.ctr_command(&["events"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout = watcher.stdout.take().expect("it was asked for");
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        // It ends with its daemon.
        let _ = watcher.wait();
    });
    let listens = test_bundles::wait_until(EVENT_LIMIT, || {
        let _ = daemon.ctr(&["namespaces", "label", &daemon.namespace, "seen=yes"]);
        let _ = daemon.ctr(&["namespaces", "label", &daemon.namespace, "seen="]);
        receive.try_recv().is_ok()
    });
    ensure!(listens, "ctr events does not listen");
    let (tasks, shown) = mpsc::channel();
    std::thread::spawn(move || {
        for line in receive {
            if let Some(at) = line.find("/tasks/")
                && tasks.send(line[at..].to_owned()).is_err()
            {
                break;
            }
        }
    });
    Ok(shown)
}

/// The create event lists every mount of the rootfs: more than a line shows.
fn shortened(event: &str) -> String {
    const SHOWN: usize = 110;
    let mut shown: String = event.chars().take(SHOWN).collect();
    if event.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn say(step: &str) {
    println!("==> {step}");
}
