//! `ShimCgroup` of the runtime's options: what the shim itself uses counts where the node's owner says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::tonic::Code;
use test_bundles::client::{Case, NewContainer, refusal};
use test_bundles::stdio::Stdio;
use test_bundles::{cgroups, leftovers, spec, wait_until};

/// A container whose options ask for the cgroup `path` for its shim.
fn served_from<'c>(case: &'c Case, path: &str) -> NewContainer<'c> {
    // Field 3 of containerd.runc.v1.Options, a text.
    let field = [&[3 << 3 | 2, u8::try_from(path.len()).expect("a short path")], path.as_bytes()].concat();
    case.container(&["sleep", "1000"]).stdio(Stdio::null()).options("containerd.runc.v1.Options", field)
}

/// With a limit of its own, a neighbour of its container's cgroup; nothing of the container is in it, and nothing stays.
pub(super) async fn the_shim_is_in_the_cgroup_asked_for(case: &Case) -> Result<()> {
    let shims = format!("/{}/shims", case.daemon.namespace);
    let directory = cgroups::limit_memory(&shims, 64 << 20)?;
    let container = served_from(case, &shims).create().await?;
    container.start().await?;
    let exec = container.exec("visit", &spec::process(&["sleep", "2000"]), &Stdio::null()).await?;
    exec.process.start().await?;
    let shim = leftovers::shims(&case.daemon, &container.id);
    ensure!(
        shim.len() == 1 && leftovers::processes_in_cgroup(&shims) == shim,
        "not the shim {shim:?} alone in {shims}"
    );
    let used: u64 = cgroups::read(&shims, cgroups::either("memory.usage_in_bytes", "memory.current"))?.parse()?;
    ensure!(used > 0, "nothing counts in {shims}");
    exec.process.kill(9).await?;
    exec.process.wait().await?;
    exec.process.delete().await?;
    container.end().await?;
    ensure!(wait_until(Duration::from_secs(10), || std::fs::remove_dir(&directory).is_ok()), "{shims} is in use");
    Ok(())
}

pub(super) async fn a_cgroup_that_the_shim_cannot_join_is_refused_by_name(case: &Case) -> Result<()> {
    let refused = |path: &str| {
        let new = served_from(case, path);
        async { refusal(new.create().await).context("a cgroup that cannot be joined") }
    };
    let (_, said) = refused("/no/such/cgroup").await?;
    ensure!(said.contains("ShimCgroup: no hierarchy has a cgroup /no/such/cgroup"), "{said}");
    let (_, said) = refused("/a/../b").await?;
    ensure!(said.contains("ShimCgroup: \"/a/../b\" is not the absolute path of a cgroup"), "{said}");
    if cgroups::is_v2() {
        // What hands controllers on has no processes of its own.
        let inner = format!("/{}/inner", case.daemon.namespace);
        let below = cgroups::limit_memory(&format!("{inner}/below"), 64 << 20)?;
        let (code, said) = refused(&inner).await?;
        ensure!(
            code == Code::Unknown
                && said.contains(&format!("ShimCgroup: write 0 to /sys/fs/cgroup{inner}/cgroup.procs: EBUSY")),
            "{said}"
        );
        for directory in below.ancestors().take(2) {
            std::fs::remove_dir(directory)?;
        }
    }
    Ok(())
}
