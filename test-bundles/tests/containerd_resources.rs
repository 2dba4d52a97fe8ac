//! What a container uses, is refused and is given anew, as clients of containerd see it, on either version of cgroups.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use test_bundles::client::Case;
use test_bundles::{cgroups, leftovers, suite, test};

#[path = "containerd_resources/metrics.rs"]
mod metrics;
#[path = "containerd_resources/oom.rs"]
mod oom;
#[path = "containerd_resources/pause.rs"]
mod pause;
#[path = "containerd_resources/shim_cgroup.rs"]
mod shim_cgroup;
#[path = "containerd_resources/update.rs"]
mod update;

use metrics::{metrics_are_those_of_runc, without_a_cgroup_there_are_no_metrics};
use oom::{
    a_kill_in_a_cgroup_below_is_told, a_neighbours_kill_is_not_told, an_exec_killed_for_want_of_memory_is_told,
    each_kill_for_want_of_memory_is_told_before_the_exit,
};
use pause::{
    a_paused_container_can_be_killed, a_paused_container_stands_still, execs_are_paused_and_refused_with_the_container,
    pause_and_resume_are_refused_at_the_wrong_moment,
};
use shim_cgroup::{a_cgroup_that_the_shim_cannot_join_is_refused_by_name, the_shim_is_in_the_cgroup_asked_for};
use update::{
    a_limit_below_use_is_refused_where_asked, a_refused_update_changes_nothing,
    device_rules_are_changed_and_left_alone, updates_are_live_whatever_the_state,
};

fn main() -> ExitCode {
    suite::run(&[
        test!(metrics_are_those_of_runc).not_on_runc("it is what they are compared with"),
        test!(without_a_cgroup_there_are_no_metrics),
        test!(a_paused_container_stands_still),
        test!(a_paused_container_can_be_killed),
        test!(pause_and_resume_are_refused_at_the_wrong_moment),
        test!(execs_are_paused_and_refused_with_the_container),
        test!(updates_are_live_whatever_the_state),
        test!(device_rules_are_changed_and_left_alone).not_on_runc("it takes them from no update"),
        test!(a_refused_update_changes_nothing).not_on_runc("it leaves what it had written"),
        test!(a_limit_below_use_is_refused_where_asked).not_on_runc("it checks on cgroup v2 only"),
        test!(each_kill_for_want_of_memory_is_told_before_the_exit),
        test!(an_exec_killed_for_want_of_memory_is_told).not_on_runc("its v1 watch tells of it late or twice"),
        test!(a_kill_in_a_cgroup_below_is_told).not_on_runc("it does not look below"),
        test!(a_neighbours_kill_is_not_told).not_on_runc("its v1 watch does not count"),
        test!(the_shim_is_in_the_cgroup_asked_for).not_on_runc("it wants one in every hierarchy of v1"),
        test!(a_cgroup_that_the_shim_cannot_join_is_refused_by_name).not_on_runc("it says so in other words"),
    ])
}

/// Takes the averages of pressure away, which fall for minutes after it is over; how long it was in all stays.
fn without_averages(metrics: &mut Value) {
    if let Some(fields) = metrics.as_object_mut() {
        fields.retain(|name, _| !name.starts_with("avg"));
        fields.values_mut().for_each(without_averages);
    }
}

/// `ctr task metrics`, as JSON.
fn metrics(case: &Case, id: &str) -> Result<Value> {
    let text = case.daemon.ctr(&["task", "metrics", "--format", "json", id])?.success()?;
    let mut metrics: Value = serde_json::from_str(&text).with_context(|| format!("the metrics are JSON: {text}"))?;
    // runc's shim has them in the order in which the kernel happens to list them.
    if let Some(sizes) = metrics["hugetlb"].as_array_mut() {
        sizes.sort_by_key(|size| size["pagesize"].to_string());
    }
    without_averages(&mut metrics);
    Ok(metrics)
}

/// Where the cgroup of container `id` is.
fn place(case: &Case, id: &str) -> String {
    format!("/{}/{id}", case.daemon.namespace)
}

/// Removes an empty cgroup from every hierarchy.
fn remove_cgroup(path: &str) -> Result<()> {
    let mut directories = leftovers::cgroup_dirs(path).into_iter();
    directories.try_for_each(|at| std::fs::remove_dir(&at).with_context(|| format!("rmdir {}", at.display())))
}

/// The disk that `directory` is on, with a generous limit.
fn throttle(directory: &Path) -> Result<Value> {
    let (major, minor) = cgroups::disk_of(directory)?;
    Ok(json!({"major": major, "minor": minor, "rate": 1_u64 << 30}))
}

/// With so little memory that it is used up at once.
fn little_memory(spec: &mut Value) {
    spec["linux"]["resources"]["memory"] = json!({"limit": 8 << 20, "swap": 8 << 20});
}
