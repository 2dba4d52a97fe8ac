//! The shim as a process of the machine: its threads, memory, socket, score, session; and what its binary says of itself.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, ExitCode, Stdio as ProcessStdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_shim::protos;
use nix::sys::signal::Signal;
use protos::api::{ConnectRequest, ShutdownRequest};
use protos::shim_sync::TaskClient;
use protos::ttrpc::context::with_duration as with_timeout;
use test_bundles::client::{Case, Container};
use test_bundles::containerd::shim_binary;
use test_bundles::stdio::Stdio;
use test_bundles::{ctr, leftovers, suite, test, wait_until};

/// For one call to the shim itself.
const TTRPC_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    suite::run(&[
        test!(the_server_has_one_thread_and_little_memory).not_on_runc("a Go program has many threads"),
        test!(the_socket_is_for_its_owner_alone),
        test!(the_socket_is_gone_when_delete_returns),
        test!(the_score_is_one_above_that_of_containerd),
        test!(the_server_is_a_process_group_of_its_own_and_holds_nothing_of_start),
        test!(it_tells_its_state_when_asked).not_on_runc("it has no SIGUSR1 of its own"),
        test!(its_program_is_not_the_file_on_the_host).not_on_runc("the shim is no part of its container"),
        test!(it_knows_itself_and_its_task).not_on_runc("an old one serves Task v2 alone"),
        test!(it_stays_while_it_has_a_container).not_on_runc("an old one serves Task v2 alone"),
        test!(version_and_info_need_no_containerd).not_on_runc("it asks another binary"),
    ])
}

async fn with_shim(case: &Case) -> Result<(Container<'_>, u32)> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    container.start().await?;
    let shims = leftovers::shims(&case.daemon, &container.id);
    ensure!(shims.len() == 1, "{shims:?}");
    Ok((container, shims[0]))
}

async fn the_server_has_one_thread_and_little_memory(case: &Case) -> Result<()> {
    let (container, shim) = with_shim(case).await?;
    let exec = container.exec("busy", &test_bundles::spec::process(&["/bin/true"]), &Stdio::outputs()).await?;
    exec.run().await?;
    let threads = fs::read_dir(format!("/proc/{shim}/task"))?.count();
    ensure!(threads == 1, "{threads} threads");
    let memory = fs::read_to_string(format!("/proc/{shim}/smaps_rollup"))?;
    let pss_kb = memory.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?.trim();
    println!("containerd {}: one thread, PSS {pss_kb}", case.daemon.release.version);
    container.end().await
}

/// containerd's client tests look for it then (`TestShimDoesNotLeakSockets`). Many lives, for it may be a matter of who is faster.
async fn the_socket_is_gone_when_delete_returns(case: &Case) -> Result<()> {
    for _ in 0..20 {
        let mut container = case.container(&["true"]).stdio(Stdio::null()).create().await?;
        let socket = leftovers::shim_socket(&case.daemon, &container.id);
        ensure!(socket.exists());
        container.start().await?;
        container.wait().await?;
        container.delete_task().await?;
        ensure!(!socket.exists(), "{} is still there", socket.display());
        container.forget().await?;
    }
    Ok(())
}

async fn the_socket_is_for_its_owner_alone(case: &Case) -> Result<()> {
    let (container, _) = with_shim(case).await?;
    let socket = leftovers::shim_socket(&case.daemon, &container.id);
    let metadata = socket.metadata().with_context(|| format!("{}", socket.display()))?;
    ensure!(metadata.file_type().is_socket());
    ensure!(metadata.permissions().mode() & 0o777 == 0o600, "socket: {:o}", metadata.permissions().mode());
    let dir = socket.parent().expect("it is in a directory").metadata()?.permissions().mode();
    ensure!(dir & 0o022 == 0, "directory: {dir:o}");
    container.end().await
}

async fn the_score_is_one_above_that_of_containerd(case: &Case) -> Result<()> {
    let (container, shim) = with_shim(case).await?;
    let score =
        |pid: u32| -> Result<i32> { Ok(fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim().parse()?) };
    let (daemon, shim) = (score(case.daemon.pid())?, score(shim)?);
    ensure!(shim == (daemon + 1).min(1000), "containerd {daemon}, shim {shim}");
    container.end().await
}

async fn the_server_is_a_process_group_of_its_own_and_holds_nothing_of_start(case: &Case) -> Result<()> {
    let (container, shim) = with_shim(case).await?;
    let stat = fs::read_to_string(format!("/proc/{shim}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(") ").context("no stat")?.1.split(' ').collect();
    ensure!(fields[2] == shim.to_string(), "process group {}, pid {shim}", fields[2]);
    // containerd waits until every holder of start's stdout has closed it: a server that kept it would hang the create.
    for fd in [0, 1] {
        let target = fs::read_link(format!("/proc/{shim}/fd/{fd}"))?;
        ensure!(!target.to_string_lossy().starts_with("pipe:"), "fd {fd}: {}", target.display());
    }
    container.end().await
}

async fn it_tells_its_state_when_asked(case: &Case) -> Result<()> {
    let (container, shim) = with_shim(case).await?;
    let exec = container.exec("visit", &test_bundles::spec::process(&["sh", "-c", "exit 3"]), &Stdio::null()).await?;
    exec.process.start().await?;
    exec.process.wait().await?;
    let pid = exec.process.state().await?.pid;
    leftovers::signal(shim, Signal::SIGUSR1);
    let said = format!("init running, pid {}; exec visit stopped with status 3, pid {pid}", container.pid);
    let log = || case.daemon.log_tail(&container.id);
    ensure!(wait_until(Duration::from_secs(5), || log().contains(&said)), "no {said:?} in {}", log());
    ensure!(log().contains("state: 1 containers, "), "{}", log());
    exec.process.delete().await?;
    container.end().await
}

/// CVE-2019-5736: what the shim executes, and an init that waits for its start with it, is a copy that nobody can write. A
/// program that runs cannot be written for that alone (ETXTBSY), but one can wait until it has ended.
async fn its_program_is_not_the_file_on_the_host(case: &Case) -> Result<()> {
    let container = case.container(&["sleep", "1000"]).stdio(Stdio::null()).create().await?;
    let shims = leftovers::shims(&case.daemon, &container.id);
    ensure!(shims.len() == 1 && shims[0] != container.pid, "{shims:?}, init is {}", container.pid);
    let identity = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let installed = identity(&shim_binary()?.to_string_lossy())?;
    for pid in [shims[0], container.pid] {
        let program = format!("/proc/{pid}/exe");
        ensure!(identity(&program)? != installed, "pid {pid} executes the installed file");
        let error = fs::OpenOptions::new().write(true).open(&program).err().and_then(|error| error.raw_os_error());
        ensure!(error == Some(nix::errno::Errno::EROFS as i32), "pid {pid}: {error:?}");
    }
    container.start().await?;
    container.end().await
}

/// containerd asks so after its restart.
async fn it_knows_itself_and_its_task(case: &Case) -> Result<()> {
    let (container, shim) = with_shim(case).await?;
    let mut request = ConnectRequest::new();
    request.id.clone_from(&container.id);
    let answer = ttrpc(case, &container)?.connect(with_timeout(TTRPC_LIMIT), &request)?;
    ensure!((answer.shim_pid, answer.task_pid) == (shim, container.pid), "{answer:?}");
    ensure!(answer.version == env!("CARGO_PKG_VERSION"), "{answer:?}");
    container.end().await
}

/// The one that is deleted first says Shutdown in a group too.
async fn it_stays_while_it_has_a_container(case: &Case) -> Result<()> {
    let (container, shim) = with_shim(case).await?;
    ttrpc(case, &container)?.shutdown(with_timeout(TTRPC_LIMIT), &ShutdownRequest::new())?;
    let exec = container.exec("after", &test_bundles::spec::process(&["sh", "-c", "exit 4"]), &Stdio::null()).await?;
    let (status, _) = exec.run().await?;
    ensure!(status == 4 && leftovers::is_running(shim), "{status}");
    container.end().await
}

/// A connection to the shim itself, past containerd.
fn ttrpc(case: &Case, container: &Container<'_>) -> Result<TaskClient> {
    let socket = leftovers::shim_socket(&case.daemon, &container.id);
    let client = protos::ttrpc::Client::connect(&format!("unix://{}", socket.display()));
    Ok(TaskClient::new(client.with_context(|| format!("connect to {}", socket.display()))?))
}

async fn version_and_info_need_no_containerd(_: &Case) -> Result<()> {
    let shim = shim_binary()?;
    let ask = |flag: &str| -> Result<ctr::Output> {
        let mut command = Command::new(&shim);
        command.arg(flag).env_clear().stdin(ProcessStdio::null());
        ctr::finish(command.stdout(ProcessStdio::piped()).stderr(ProcessStdio::piped()).spawn()?)
    };
    let version = ask("-v")?.success()?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    // Protobuf RuntimeInfo: the name and the type of the features are text in it.
    let info = ask("-info")?.success()?;
    ensure!(info.contains("io.containerd.myshim.v2") || info.contains("containerd-shim-myshim-v2"), "{info}");
    ensure!(info.contains("types.containerd.io/opencontainers/runtime-spec/1/features/Features"), "{info}");
    ensure!(info.contains("\"ociVersionMin\""), "{info}");
    Ok(())
}
