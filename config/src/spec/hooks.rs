//! `hooks`: programs that run beside a container at points of its life, config.md "POSIX-platform Hooks".

use std::time::Duration;

use oci_spec::runtime as oci;

use crate::container::{Hook, Hooks};
use crate::refuse::{At, Refusal};
use crate::spec::{paths, process};

/// Resolves the six lists.
pub(super) fn resolve(hooks: Option<&oci::Hooks>) -> Result<Hooks, Refusal> {
    let Some(hooks) = hooks else { return Ok(Hooks::default()) };
    #[allow(deprecated, reason = "clients still send it")]
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: list(prestart.as_ref()).at("/prestart")?,
        create_runtime: list(hooks.create_runtime().as_ref()).at("/createRuntime")?,
        create_container: list(hooks.create_container().as_ref()).at("/createContainer")?,
        start_container: list(hooks.start_container().as_ref()).at("/startContainer")?,
        poststart: list(hooks.poststart().as_ref()).at("/poststart")?,
        poststop: list(hooks.poststop().as_ref()).at("/poststop")?,
    })
}

fn list(hooks: Option<&Vec<oci::Hook>>) -> Result<Vec<Hook>, Refusal> {
    let hooks = hooks.into_iter().flatten().enumerate();
    hooks.map(|(index, given)| hook(given).at_index(index)).collect()
}

fn hook(hook: &oci::Hook) -> Result<Hook, Refusal> {
    let path = paths::absolute(hook.path()).at("/path")?;
    let args = match hook.args().as_deref() {
        None | Some([]) => vec![path.to_string_lossy().into_owned()],
        Some(args) => args.to_vec(),
    };
    let env = hook.env().as_deref().map(process::env).transpose().at("/env")?;
    Ok(Hook { path, args, env, timeout: hook.timeout().map(timeout).transpose().at("/timeout")? })
}

fn timeout(seconds: i64) -> Result<Duration, Refusal> {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Refusal::new("", format!("{seconds} is not above zero"))),
    }
}
