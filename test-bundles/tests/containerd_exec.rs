//! Exec into a running container: as whom, where, with what, several at once, and what is refused.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use containerd_client::tonic::Code;
use serde_json::json;
use test_bundles::client::{Case, Container, code, refusal};
use test_bundles::stdio::Stdio;
use test_bundles::{spec, suite, test};

fn main() -> ExitCode {
    suite::run(&[
        test!(exec_has_its_own_user_environment_directory_and_exit_code),
        test!(execs_run_side_by_side),
        test!(exec_reads_its_input_to_the_end),
        test!(exec_has_a_terminal_of_its_own),
        test!(a_signal_reaches_the_exec_alone),
        test!(a_missing_program_is_told_at_start_and_the_container_lives),
        test!(an_exec_that_was_only_created_is_deleted_with_status_0),
        test!(names_and_states_are_guarded),
    ])
}

async fn sleeper(case: &Case) -> Result<Container<'_>> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    Ok(container)
}

async fn exec_has_its_own_user_environment_directory_and_exit_code(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    let mut process = spec::process(&["sh", "-c", "id -u; id -g; id -G; pwd; echo $COLOUR; umask; exit 42"]);
    process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [1002], "umask": 0o27});
    process["env"] = json!(["PATH=/bin", "COLOUR=blue"]);
    process["cwd"] = json!("/tmp");
    let (status, output) = container.exec("who", &process, &Stdio::outputs()).await?.run().await?;
    ensure!(status == 42, "{status}");
    let lines: Vec<_> = output.lines().collect();
    // runc gives an exec the umask of the container, whatever the exec asks for.
    let umask = if test_bundles::is_runc() { "0022" } else { "0027" };
    ensure!(lines == ["1000", "1001", "1001 1002", "/tmp", "blue", umask], "{lines:?}");
    container.end().await
}

async fn execs_run_side_by_side(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    let mut execs = Vec::new();
    for nth in 0..8 {
        // Each waits for all the others: run one after another, they would wait for ever.
        let script =
            format!("touch /tmp/{nth}; until [ $(ls /tmp | wc -l) = 8 ]; do sleep 0.01; done; echo {nth}; exit {nth}");
        let exec =
            container.exec(&format!("n{nth}"), &spec::process(&["sh", "-c", &script]), &Stdio::outputs()).await?;
        exec.process.start().await?;
        execs.push(exec);
    }
    for (nth, mut exec) in execs.into_iter().enumerate() {
        let output = exec.streams.output.take().expect("it has one").text().await;
        let status = exec.process.wait().await?;
        ensure!(status as usize == nth && output == format!("{nth}\n"), "{nth}: {status} {output:?}");
        ensure!(exec.process.delete().await? == status);
    }
    container.end().await
}

async fn exec_reads_its_input_to_the_end(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    let mut exec = container.exec("cat", &spec::process(&["cat"]), &Stdio::piped()).await?;
    exec.process.start().await?;
    {
        use std::io::Write;
        exec.streams.input()?.write_all(b"as it went in\n")?;
    }
    exec.process.close_stdin().await?;
    let output = exec.streams.output.take().expect("it has one").text().await;
    ensure!(exec.process.wait().await? == 0);
    ensure!(output == "as it went in\n", "{output:?}");
    exec.process.delete().await?;
    container.end().await
}

async fn exec_has_a_terminal_of_its_own(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    let process = spec::process(&["sh", "-c", "tty; read size; stty size"]);
    let mut exec = container.exec("tty", &process, &Stdio::terminal()).await?;
    exec.process.start().await?;
    let mut output = exec.streams.output.take().expect("it has one");
    output.until("/dev/pts/").await?;
    exec.process.resize(132, 43).await?;
    {
        use std::io::Write;
        exec.streams.input()?.write_all(b"now\n")?;
    }
    output.until("43 132").await?;
    ensure!(exec.process.wait().await? == 0);
    exec.process.delete().await?;
    container.end().await
}

async fn a_signal_reaches_the_exec_alone(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    let exec = container.exec("short", &spec::process(&["sleep", "1000"]), &Stdio::null()).await?;
    let before = exec.process.kill(15).await;
    ensure!(before.as_ref().is_err_and(|error| code(error) == Some(Code::FailedPrecondition)), "{before:?}");
    exec.process.start().await?;
    exec.process.kill(15).await?;
    ensure!(exec.process.wait().await? == 128 + 15);
    let after = exec.process.kill(15).await;
    ensure!(after.as_ref().is_err_and(|error| code(error) == Some(Code::NotFound)), "{after:?}");
    ensure!(exec.process.delete().await? == 128 + 15);
    ensure!(container.process("").state().await?.status == 2, "the container was hit too");
    container.end().await
}

/// As containerd's client tests have it: Exec takes what only the kernel can judge, Start tells.
async fn a_missing_program_is_told_at_start_and_the_container_lives(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    let mut nowhere = spec::process(&["true"]);
    nowhere["cwd"] = json!("/no/such/directory");
    for (name, process, told) in [
        ("missing", spec::process(&["/no/such/program"]), "/no/such/program"),
        ("nowhere", nowhere, "/no/such/directory"),
    ] {
        let exec = container.exec(name, &process, &Stdio::null()).await?;
        let (_, message) = refusal(exec.process.start().await)?;
        ensure!(message.contains(told), "{message}");
        let again = exec.process.start().await;
        ensure!(again.is_err(), "it was started in the end");
        exec.process.delete().await?;
    }
    let (status, _) = container.exec("after", &spec::process(&["/bin/true"]), &Stdio::null()).await?.run().await?;
    ensure!(status == 0);
    container.end().await
}

async fn an_exec_that_was_only_created_is_deleted_with_status_0(case: &Case) -> Result<()> {
    let container = sleeper(case).await?;
    for (name, program) in [("good", "/bin/true"), ("bad", "/no/such/program")] {
        let exec = container.exec(name, &spec::process(&[program]), &Stdio::null()).await?;
        let status = exec.process.delete().await?;
        ensure!(status == 0, "{name}: {status}");
    }
    container.end().await
}

async fn names_and_states_are_guarded(case: &Case) -> Result<()> {
    let mut container = sleeper(case).await?;
    let process = spec::process(&["sleep", "1000"]);
    let exec = container.exec("twice", &process, &Stdio::null()).await?;
    let again = container.exec("twice", &process, &Stdio::null()).await;
    ensure!(matches!(&again, Err(error) if code(error) == Some(Code::AlreadyExists)), "{:?}", again.err());
    exec.process.start().await?;
    ensure!(exec.process.delete().await.is_err(), "a running exec was deleted");
    let unknown = container.process("nobody").wait().await;
    ensure!(unknown.as_ref().is_err_and(|error| code(error) == Some(Code::NotFound)), "{unknown:?}");
    let deleted = container.delete().await;
    ensure!(deleted.is_err(), "a running container was deleted");
    // The exec shares the container's pid namespace and ends with it.
    container.kill(9, false).await?;
    ensure!(exec.process.wait().await? == 128 + 9);
    ensure!(container.wait().await? == 128 + 9);
    exec.process.delete().await?;
    container.delete().await?;
    Ok(())
}
