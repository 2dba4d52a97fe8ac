//! Everything a container says arrives, whole and where it was sent: fifos, files, loggers, terminals, nowhere.

use std::io::{Read, Write};
use std::process::{ExitCode, Stdio as ProcessStdio};
use std::task::Poll;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use test_bundles::client::Case;
use test_bundles::stdio::Stdio;
use test_bundles::{ctr, image, suite, test};

#[path = "containerd_stdio/hangups.rs"]
mod hangups;
#[path = "containerd_stdio/loggers.rs"]
mod loggers;
#[path = "containerd_stdio/readers.rs"]
mod readers;

use hangups::{
    a_terminal_that_nobody_has_open_wakes_nobody, a_terminal_that_was_closed_or_hung_up_comes_back,
    the_terminal_of_an_exec_comes_back_too,
};
use loggers::{
    a_logger_gets_both_streams_and_the_name_of_the_container, a_logger_that_dies_neither_ends_nor_stops_its_container,
    a_logger_that_is_not_ready_is_refused_by_the_second_scheme, a_logger_that_reads_no_more_is_ended,
    execs_and_terminals_have_loggers_too,
};
use readers::{
    a_fifo_that_nobody_opens_keeps_nobody_else, a_gigabyte_costs_the_shim_nothing,
    a_log_that_nobody_reads_keeps_nobody, a_reader_that_goes_and_another_that_comes_get_it_all,
    a_reader_that_stops_keeps_nobody_else,
};

fn main() -> ExitCode {
    suite::run(&[
        test!(fifty_megabytes_arrive_whole),
        test!(input_is_read_to_its_end),
        test!(ctr_passes_on_input_that_ends_at_once).not_on_runc("it opens stdin before ctr can say that it has ended"),
        test!(nobody_has_to_listen),
        test!(a_file_gets_both_streams_in_order),
        test!(a_logger_gets_both_streams_and_the_name_of_the_container),
        test!(a_gigabyte_costs_the_shim_nothing).not_on_runc("it copies"),
        test!(a_reader_that_goes_and_another_that_comes_get_it_all).not_on_runc("it loses what it has read already"),
        test!(a_fifo_that_nobody_opens_keeps_nobody_else).not_on_runc("it waits in Create for a reader"),
        test!(a_reader_that_stops_keeps_nobody_else).not_on_runc("it loses what it has read already"),
        test!(a_log_that_nobody_reads_keeps_nobody).own_daemon().not_on_runc("it does not say what it holds"),
        test!(sixty_four_execs_at_once),
        test!(execs_and_terminals_have_loggers_too),
        test!(a_logger_that_dies_neither_ends_nor_stops_its_container).not_on_runc("SIGPIPE ends the program"),
        test!(a_logger_that_is_not_ready_is_refused_by_the_second_scheme)
            .not_on_runc("only from 2.2 on it knows the second, and its words are others"),
        test!(a_logger_that_reads_no_more_is_ended),
        test!(a_terminal_has_a_size_that_can_change),
        test!(ctr_run_gives_a_terminal),
        test!(a_terminal_that_was_closed_or_hung_up_comes_back),
        test!(the_terminal_of_an_exec_comes_back_too),
        test!(a_terminal_that_nobody_has_open_wakes_nobody).not_on_runc("its threads wake by themselves"),
    ])
}

/// Numbered lines, so that a piece that is lost, doubled or moved shows.
async fn fifty_megabytes_arrive_whole(case: &Case) -> Result<()> {
    let lines = 6_500_000 / test_bundles::slower() as usize;
    let mut container = case.container(&["seq", "1000000", &(1_000_000 + lines - 1).to_string()]).create().await?;
    let output = container.output();
    container.start().await?;
    let bytes = output.bytes().await;
    ensure!(container.wait().await? == 0);
    container.delete().await?;
    ensure!(bytes.len() == lines * 8, "{} bytes, not {}", bytes.len(), lines * 8);
    let mut expected = Sha256::new();
    for number in 1_000_000..1_000_000 + lines {
        expected.update(format!("{number}\n"));
    }
    ensure!(Sha256::digest(&bytes) == expected.finalize(), "the bytes are not those that were written");
    Ok(())
}

async fn input_is_read_to_its_end(case: &Case) -> Result<()> {
    let mut container = case.container(&["cat"]).stdio(Stdio::piped()).create().await?;
    let output = container.output();
    container.start().await?;
    let mut input = container.input()?;
    let text = "a line of input\n".repeat(10_000);
    let sent = text.clone();
    // A thread of its own: what cat sends back must be read meanwhile.
    let writer = std::thread::spawn(move || input.write_all(sent.as_bytes()));
    let reader = tokio::spawn(output.text());
    while !writer.is_finished() {
        tokio::task::yield_now().await;
    }
    writer.join().expect("the writer does not panic")?;
    container.process("").close_stdin().await?;
    ensure!(container.wait().await? == 0);
    container.delete().await?;
    ensure!(reader.await? == text);
    Ok(())
}

/// `printf x | ctr run … cat`, and the same as an exec: ctr has read all of its input before Create is answered.
async fn ctr_passes_on_input_that_ends_at_once(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let runtime = test_bundles::runtime();
    // The exit code tells: of output, ctr itself drops what it has not read yet when the exit arrives (on a machine with
    // much to do, one run in some hundreds), for it cancels its streams before it deletes the task.
    let script = "[ \"$(cat)\" = x ]";
    for nth in 0..50 {
        let id = case.new_id();
        let name = format!("visit-{nth}");
        let run = ["run", "--rm", "--runtime", &runtime, image::NAME, &id, "sh", "-c", script];
        let exec = ["tasks", "exec", "--exec-id", &name, &container.id, "sh", "-c", script];
        for args in [&run[..], &exec[..]] {
            let mut command = case.daemon.ctr_command(args);
            let (input, mut client) = std::io::pipe()?;
            client.write_all(b"x")?;
            drop(client);
            command.stdin(input).stdout(ProcessStdio::piped()).stderr(ProcessStdio::piped());
            let child = command.spawn()?;
            let ran = ctr::finish(child).with_context(|| format!("{args:?}, {nth} went before"))?;
            ensure!(ran.code == 0, "{args:?}, {nth} went before: {ran:?}");
        }
    }
    container.end().await
}

async fn nobody_has_to_listen(case: &Case) -> Result<()> {
    // Into a pipe that nobody reads, seq would stop at 64 kB.
    let script = "[ -c /proc/$$/fd/0 ] && [ -c /proc/$$/fd/1 ] && [ -c /proc/$$/fd/2 ] && seq 100000 && exit 5";
    let mut container = case.container(&["sh", "-c", script]).stdio(Stdio::null()).create().await?;
    ensure!(container.run().await? == 5);
    Ok(())
}

async fn a_file_gets_both_streams_in_order(case: &Case) -> Result<()> {
    let log = case.daemon.dir().join("logs/deep").join(case.new_id());
    let script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done";
    for _ in 0..2 {
        let stdio = Stdio::to(format!("file://{}", log.display()));
        let mut container = case.container(&["sh", "-c", script]).stdio(stdio).create().await?;
        ensure!(container.run().await? == 0);
    }
    let logged = std::fs::read_to_string(&log).with_context(|| format!("{}", log.display()))?;
    let lines: Vec<_> = logged.lines().filter(|line| !line.contains("DEPRECATION")).collect();
    let once = ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"];
    ensure!(lines.len() == 12, "it is appended to, not replaced: {lines:?}");
    // runc's shim copies each stream by itself, so only there may the two cross.
    if !test_bundles::is_runc() {
        ensure!(lines == [once, once].concat(), "{lines:?}");
    }
    Ok(())
}

async fn sixty_four_execs_at_once(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let process = test_bundles::spec::process(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let names: Vec<_> = (0..64).map(|nth| format!("visit-{nth}")).collect();
    let execs = names.iter().map(|name| async {
        let exec = container.exec(name, &process, &Stdio::outputs()).await?;
        exec.run().await
    });
    for (nth, ran) in futures(execs).await.into_iter().enumerate() {
        let ran = ran.with_context(|| format!("exec {nth}"))?;
        ensure!(ran == (7, "out\n".to_owned()), "exec {nth}: {ran:?}");
    }
    container.end().await
}

/// Runs all of them side by side.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, result) in pending.iter_mut().filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *result = Some(value),
                Poll::Pending => ready = false,
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, result)| result).collect()
}

async fn a_terminal_has_a_size_that_can_change(case: &Case) -> Result<()> {
    let script = "tty; while read word; do stty size; [ $word = end ] && exit 3; done";
    let mut container = case.container(&["sh", "-c", script]).stdio(Stdio::terminal()).create().await?;
    let mut output = container.output();
    container.start().await?;
    // A terminal's client writes when there is something to answer to.
    let mut input = container.input()?;
    output.until("/dev/").await?;
    for (word, width, height) in [("again", 80, 24), ("end", 200, 51)] {
        container.process("").resize(width, height).await?;
        writeln!(input, "{word}")?;
        output.until(&format!("{height} {width}")).await?;
    }
    let status = container.wait().await?;
    ensure!(status == 3, "{status}");
    // A client follows its window, and may be late.
    container.process("").resize(80, 24).await?;
    container.delete().await?;
    Ok(())
}

/// The machine's own end: ctr on a pseudo-terminal, as a person has it.
async fn ctr_run_gives_a_terminal(case: &Case) -> Result<()> {
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None)?;
    let id = case.new_id();
    let runtime = test_bundles::runtime();
    // ctr sets the size after the start: the script asks until it is there.
    let script = "until stty size | grep -q 33; do sleep 0.01; done; stty size; tty; exit 9";
    let args = ["run", "--rm", "--tty", "--runtime", &runtime, image::NAME, &id, "sh", "-c", script];
    let mut command = case.daemon.ctr_command(&args);
    command.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave);
    let child = command.spawn()?;
    // It holds the terminal's other end open, and the output would never end.
    drop(command);
    let mut master = std::fs::File::from(pty.master);
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        // Ends with EIO when the last writer has gone.
        let _ = master.read_to_end(&mut seen);
        String::from_utf8_lossy(&seen).into_owned()
    });
    let code = ctr::finish(child)?.code;
    let seen = reader.join().expect("the reader does not panic");
    ensure!(code == 9, "exit code {code}: {seen}");
    ensure!(seen.contains("33 111"), "{seen}");
    ensure!(seen.contains("/dev/"), "{seen}");
    Ok(())
}
