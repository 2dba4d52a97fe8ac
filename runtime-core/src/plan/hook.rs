//! A hook as a plan: config.md "POSIX-platform Hooks". Where it runs is what its steps say; how it is run, and why it is a
//! plan at all, says [`crate::hooks`].

use std::path::Path;

use config::container::{Hook, Process};
use init::Step;
use init::sync::Point;

use super::process::{Candidates, Executed};
use super::{Facts, Plan, namespaces, process};
use crate::error::Result;

/// The mask that everybody's programs expect; ours may be any.
const UMASK: u32 = 0o022;

impl Plan {
    /// A hook in the runtime's own namespaces, standing in the bundle as with other runtimes.
    pub fn hook_outside(hook: &Hook, bundle: &Path) -> Result<Self> {
        let mut plan = Self::default();
        plan.begin_hook(0);
        plan.run_hook(hook, bundle)
    }

    /// A createContainer hook: in the cgroup and the namespaces of an init that has not pivoted, with all rights there, so
    /// that paths are still the host's. It stands in the root file system.
    pub fn hook_before_pivot(hook: &Hook, container: &config::Container, facts: &Facts<'_>) -> Result<Self> {
        let mut plan = Self::default();
        namespaces::join_container(&mut plan, &container.process, &container.namespaces, facts);
        plan.begin_hook(0);
        process::keyring(&mut plan, facts, false);
        process::become_root(&mut plan);
        plan.run_hook(hook, &container.root.path)
    }

    /// A startContainer hook: a process executed into the container with the identity of its init, `process`.
    pub fn hook_inside(
        hook: &Hook,
        process: &Process,
        namespaces: &[config::container::Namespace],
        facts: &Facts<'_>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        namespaces::join_container(&mut plan, process, namespaces, facts);
        plan.begin_hook(process.user.uid);
        process::keyring(&mut plan, facts, false);
        process::settle(&mut plan, &process.cwd, false);
        process::execute(&mut plan, process, &executed(hook), facts);
        plan.checked()
    }

    /// A session of its own, so that it can be ended with all that it has started.
    fn begin_hook(&mut self, uid: u32) {
        self.second(Step::NewSession);
        process::set_stdio(self, uid);
    }

    fn run_hook(mut self, hook: &Hook, directory: &Path) -> Result<Self> {
        process::settle(&mut self, directory, false);
        self.second(Step::Umask { mask: UMASK });
        process::find(&mut self, &executed(hook));
        self.close_on_exec();
        self.second(Step::Sync { point: Point::Ready });
        self.second(Step::Execute);
        self.checked()
    }
}

fn executed(hook: &Hook) -> Executed<'_> {
    let path = hook.path.to_string_lossy().into_owned();
    Executed { args: &hook.args, env: &hook.env, candidates: Candidates::from([path]), finds_home: false }
}
