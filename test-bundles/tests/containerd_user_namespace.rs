//! User namespaces as containerd asks for them: a container with maps of its own, and a pod's further containers, which are given
//! the path of the first one's and the same maps besides.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use test_bundles::client::{Case, Container};
use test_bundles::stdio::Stdio;
use test_bundles::{image, spec, suite, test};

fn main() -> ExitCode {
    suite::run(&[
        test!(ctr_runs_a_container_with_maps),
        test!(a_pod_shares_a_user_namespace).not_on_runc("it does not map the layers of a rootfs"),
        test!(an_exec_is_root_of_the_maps).not_on_runc("it does not map the layers of a rootfs"),
    ])
}

const UIDS: &str = "0:100000:65536";
const MAP: &str = "0 100000 65536";

async fn ctr_runs_a_container_with_maps(case: &Case) -> Result<()> {
    let id = case.new_id();
    let script = "cat /proc/self/uid_map; id -u; touch /made && stat -c %u:%g /made /bin/sh; echo again > /dev/stdout";
    let maps = ["--uidmap", UIDS, "--gidmap", UIDS];
    let tail = [image::NAME, &id, "sh", "-c", script];
    let ran = case.daemon.ctr_run(&[&maps[..], &tail].concat())?;
    let words: Vec<_> = ran.stdout.split_whitespace().collect();
    ensure!(ran.code == 0 && words == ["0", "100000", "65536", "0", "0:0", "0:0", "again"], "{ran:?}");
    Ok(())
}

/// The spec as CRI sends it for a pod with user namespaces.
fn in_user_namespace(spec: &mut Value, joined: Option<u32>) {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
    let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.push(json!({ "type": "user" }));
    let Some(pid) = joined else { return };
    for namespace in namespaces {
        let file = match namespace["type"].as_str() {
            Some("network") => "net",
            Some(kind @ ("ipc" | "uts" | "user")) => kind,
            _ => continue,
        };
        namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
    }
}

/// A container in a user namespace, with a rootfs that is shown by the same ids.
async fn create<'c>(case: &'c Case, args: &[&str], joined: Option<u32>, stdio: Stdio) -> Result<Container<'c>> {
    let prepared = case.container(args).spec(|spec| in_user_namespace(spec, joined)).stdio(stdio).prepare().await?;
    prepared.remap(UIDS, 100_000)?.create().await
}

fn link(pid: u32, file: &str) -> Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/{file}")).context("read a namespace's link")
}

async fn a_pod_shares_a_user_namespace(case: &Case) -> Result<()> {
    let first = create(case, &["sleep", "1000"], None, Stdio::null()).await?;
    first.start().await?;
    let mut second = create(case, &["cat", "/proc/self/uid_map"], Some(first.pid), Stdio::outputs()).await?;
    for file in ["user", "net", "ipc", "uts"] {
        ensure!(link(first.pid, file)? == link(second.pid, file)?, "{file}");
    }
    ensure!(link(first.pid, "pid")? != link(second.pid, "pid")?);
    let output = second.output();
    ensure!(second.run().await? == 0);
    ensure!(output.text().await.split_whitespace().eq(MAP.split(' ')));
    first.end().await
}

async fn an_exec_is_root_of_the_maps(case: &Case) -> Result<()> {
    let container = create(case, &["sleep", "1000"], None, Stdio::null()).await?;
    container.start().await?;
    let exec = container
        .exec("look", &spec::process(&["sh", "-c", "id -u; cat /proc/self/uid_map"]), &Stdio::outputs())
        .await?;
    let (status, output) = exec.run().await?;
    ensure!(status == 0 && output.split_whitespace().collect::<Vec<_>>() == ["0", "0", "100000", "65536"], "{output}");
    let mut nobody = spec::process(&["true"]);
    nobody["user"] = json!({ "uid": 65_536, "gid": 0 });
    let refused = container.refused_exec("nobody", &nobody, &Stdio::null()).await?;
    ensure!(refused.1.contains("/user/uid: 65536 is not mapped in the user namespace"), "{refused:?}");
    container.end().await
}
