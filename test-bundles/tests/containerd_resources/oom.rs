//! Kills for want of memory: each is told, once, before the exit it caused.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use test_bundles::client::Case;
use test_bundles::events::Event;
use test_bundles::stdio::Stdio;
use test_bundles::{cgroups, spec, wait_until};

use super::{little_memory, place, remove_cgroup};

/// Keeps in memory what has no end of a line.
const HOG: [&str; 2] = ["tail", "/dev/zero"];

/// What each container does, its exit status, and whether memory ends it.
const LIVES: [(&[&str], u32, bool); 5] = [
    (&HOG, 137, true),
    (&["true"], 0, false),
    (&HOG, 137, true),
    (&["sh", "-c", "kill -9 $$; sleep 0.05; exit 137"], 137, false),
    // It says whether its child was killed: one that is only refused memory ends otherwise.
    (&["sh", "-c", "tail /dev/zero; exit $(($? - 100))"], 37, true),
];

pub(super) async fn each_kill_for_want_of_memory_is_told_before_the_exit(case: &Case) -> Result<()> {
    // OOM_KILLS asks for more, or less: 200 of them take minutes on an emulated machine.
    let usual = if case.daemon.release.is_distribution() && test_bundles::slower() == 1 { 200 } else { 12 };
    let asked = std::env::var("OOM_KILLS").ok().and_then(|kills| kills.parse::<usize>().ok());
    let kills = asked.unwrap_or(usual) / 4;
    let lane = || kill_and_listen(case, kills);
    tokio::try_join!(lane(), lane(), lane(), lane()).map(drop)
}

/// Runs one container after another until `kills` of them were killed, and listens to what is told of each.
async fn kill_and_listen(case: &Case, kills: usize) -> Result<()> {
    let mut events = case.events().await?;
    let mut killed = 0;
    for (args, status, by_memory) in LIVES.iter().cycle() {
        let mut container = case.container(args).stdio(Stdio::null()).spec(little_memory).create().await?;
        let id = container.id.clone();
        container.start().await?;
        let ended = container.wait().await?;
        ensure!(ended == *status, "{args:?} ended with {ended}");
        container.delete().await?;
        let told: Vec<_> = events.of(&id, "delete").await?.iter().map(Event::short).collect();
        let expected = ["create", "start", "oom", "exit", "delete"];
        let expected: Vec<_> = expected.into_iter().filter(|kind| *by_memory || *kind != "oom").collect();
        // A program may be at its end before its start is told: that order is another test's.
        let place = |kind: &String| expected.iter().position(|one| one == kind);
        let mut sorted = told.clone();
        sorted.sort_by_key(place);
        let at = |kind| told.iter().position(|one| one == kind);
        ensure!(sorted == expected && at("oom") < at("exit"), "{args:?} after {killed} kills: {told:?}");
        killed += usize::from(*by_memory);
        if killed == kills {
            break;
        }
    }
    Ok(())
}

pub(super) async fn an_exec_killed_for_want_of_memory_is_told(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    let new = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(little_memory);
    let container = new.create().await?;
    let id = container.id.clone();
    container.start().await?;
    let exec = container.exec("hog", &spec::process(&HOG), &Stdio::null()).await?;
    ensure!(exec.run().await?.0 == 137);
    container.end().await?;
    let told: Vec<_> = events.of(&id, "delete").await?.iter().map(Event::short).collect();
    let ooms = told.iter().filter(|kind| *kind == "oom").count();
    let at = |kind| told.iter().position(|one| one == kind);
    ensure!(ooms == 1 && at("oom") < at("exit hog"), "{told:?}");
    ensure_logged(case, &cgroups::directory("memory", &place(case, &id)))
}

pub(super) async fn a_kill_in_a_cgroup_below_is_told(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    // One process alone until it is told to go on, for on v2 none may stay in a cgroup that has limited ones below it.
    let script = "mkfifo /go; echo ready; read line </go; tail /dev/zero; sleep 1000";
    let mut container = case.container(&["sh", "-c", script]).create().await?;
    let mut output = container.output();
    container.start().await?;
    output.until("ready\n").await?;
    let own = place(case, &container.id);
    if cgroups::is_v2() {
        let aside = cgroups::directory("memory", &own).join("aside");
        std::fs::create_dir(&aside)?;
        cgroups::join(&aside, container.pid)?;
    }
    let below = cgroups::limit_memory(&format!("{own}/below"), 8 << 20)?;
    cgroups::join(&below, container.pid)?;
    // For reading too: then the open waits for nobody.
    let go = std::fs::File::options().read(true).write(true).open(format!("/proc/{}/root/go", container.pid));
    std::io::Write::write_all(&mut go?, b"go\n")?;
    // No process of ours ends: it is the kernel's own word that is heard.
    events.of(&container.id, "oom").await?;
    ensure_logged(case, &below)?;
    container.end().await
}

pub(super) async fn a_neighbours_kill_is_not_told(case: &Case) -> Result<()> {
    let mut events = case.events().await?;
    let pod = case.new_id();
    let directory = cgroups::limit_memory(&place(case, &pod), 16 << 20)?;
    let in_pod = |name: &'static str| {
        let place = format!("/{}/{pod}/{name}", case.daemon.namespace);
        move |spec: &mut Value| spec["linux"]["cgroupsPath"] = place.into()
    };
    let quiet = case.container(&["sleep", "1000"]).stdio(Stdio::null()).spec(in_pod("quiet")).create().await?;
    quiet.start().await?;
    let mut hog = case.container(&HOG).stdio(Stdio::null()).spec(in_pod("hog")).create().await?;
    let (quiet_id, hog_id) = (quiet.id.clone(), hog.id.clone());
    hog.start().await?;
    ensure!(hog.wait().await? == 137);
    hog.delete().await?;
    let ooms = |told: &[Event]| told.iter().filter(|event| event.kind == "oom").count();
    ensure!(ooms(&events.of(&hog_id, "delete").await?) == 1);
    quiet.end().await?;
    ensure!(ooms(&events.of(&quiet_id, "delete").await?) == 0);
    ensure_logged(case, &directory)?;
    remove_cgroup(&place(case, &pod))
}

/// The log, which takes its own way, names the cgroup whose limit was hit.
fn ensure_logged(case: &Case, directory: &Path) -> Result<()> {
    let said = format!("the limit of {} was hit", directory.display());
    let log = || case.daemon.log_tail("killed for want of memory");
    ensure!(wait_until(Duration::from_secs(5), || log().contains(&said)), "not {said}, but {}", log());
    Ok(())
}
