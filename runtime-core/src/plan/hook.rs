//! A hook as a plan: config.md "POSIX-platform Hooks". Where it runs is what its steps say; how it is run, and why it is a
//! plan at all, says [`crate::hooks`].

use std::path::Path;

use config::container::{Hook, Process};
use init::Step;
use init::sync::Point;

use super::process::{Candidates, Executed};
use super::{Facts, Plan, namespaces, process, rootfs};
use crate::error::Result;

/// The mask that everybody's programs expect; ours may be any.
const UMASK: u32 = 0o022;

impl Plan {
    /// A hook in the runtime's own namespaces, standing in the bundle as with other runtimes. `env` is for one that has no
    /// environment of its own.
    pub fn hook_outside(hook: &Hook, bundle: &Path, env: &[String]) -> Result<Self> {
        let mut plan = Self::default();
        plan.begin_hook();
        plan.run_hook(hook, bundle, env)
    }

    /// A createContainer hook: in the cgroup and the namespaces of an init that has not pivoted, with all rights there, so
    /// that paths are still the host's. It is not in a pid namespace that the container joins: it enters the namespaces of stage
    /// one, which is not in that one. It stands in the root file system. `env` is for one that has no environment of its own.
    pub fn hook_before_pivot(
        hook: &Hook,
        container: &config::Container,
        env: &[String],
        facts: &Facts<'_>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        namespaces::join_container(&mut plan, &container.process, &container.namespaces, facts);
        plan.begin_hook();
        process::keyring(&mut plan, facts, false);
        plan.push(namespaces::ROOT);
        plan.run_hook(hook, &container.root.path, env)
    }

    /// A startContainer hook: a process executed into the container with the identity of its init, `process`, and with its
    /// environment where it has none of its own.
    pub fn hook_inside(
        hook: &Hook,
        process: &Process,
        namespaces: &[config::container::Namespace],
        facts: &Facts<'_>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        namespaces::join_container(&mut plan, process, namespaces, facts);
        rootfs::enter_running(&mut plan, facts);
        process::keyring(&mut plan, facts, false);
        process::set_stdio(&mut plan, process.user.uid);
        process::settle(&mut plan, &process.cwd, false);
        let finds_home = hook.env.is_none() && process::finds_home(&process.env);
        let executed = Executed { finds_home, ..executed(hook, &process.env) };
        process::execute(&mut plan, process, &executed, facts);
        plan.checked()
    }

    /// A session of its own, so that it can be ended with all that it has started.
    fn begin_hook(&mut self) {
        self.fork();
        self.push(Step::NewSession { terminal: false });
        process::set_stdio(self, 0);
    }

    fn run_hook(mut self, hook: &Hook, directory: &Path, env: &[String]) -> Result<Self> {
        process::settle(&mut self, directory, false);
        self.push(Step::Umask { mask: UMASK });
        process::find(&mut self, &executed(hook, env));
        self.close_others();
        self.push(Step::Sync { point: Point::Ready });
        self.push(Step::Execute);
        self.checked()
    }
}

/// `env` is for a hook that has no environment of its own.
fn executed<'a>(hook: &'a Hook, env: &'a [String]) -> Executed<'a> {
    let path = hook.path.to_string_lossy().into_owned();
    let env = hook.env.as_deref().unwrap_or(env);
    Executed { args: &hook.args, env, candidates: Candidates::from([path]), searched: false, finds_home: false }
}
