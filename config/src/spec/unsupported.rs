//! What the specification knows and this runtime cannot do: refused by its pointer, so that nobody believes it done.
//!
//! A field leaves this file in the change that makes it work.

use oci_spec::runtime as oci;

use crate::refuse::Refusal;

/// Fields of config.json itself and of `linux`.
pub(super) fn in_spec(spec: &oci::Spec) -> Result<(), Refusal> {
    if let Some(hooks) = spec.hooks() {
        in_hooks(hooks)?;
    }
    refuse_if(spec.vm().is_some(), "/vm", "virtual machines are")?;
    match spec.linux() {
        Some(linux) => in_linux(linux),
        None => Ok(()),
    }
}

/// Fields of `process`. Pointers are relative to it.
pub(super) fn in_process(process: &oci::Process) -> Result<(), Refusal> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let affine = affinity.is_some_and(|cpus| text(cpus.initial().as_ref()) || text(cpus.cpu_affinity_final().as_ref()));
    refuse_if(text(process.apparmor_profile().as_ref()), "/apparmorProfile", "AppArmor profiles are")?;
    refuse_if(text(process.selinux_label().as_ref()), "/selinuxLabel", "SELinux labels are")?;
    refuse_if(process.scheduler().is_some(), "/scheduler", "scheduling policies are")?;
    refuse_if(process.io_priority().is_some(), "/ioPriority", "an I/O priority is")?;
    refuse_if(affine, "/execCPUAffinity", "a CPU affinity of exec is")
}

fn in_hooks(hooks: &oci::Hooks) -> Result<(), Refusal> {
    #[allow(deprecated, reason = "a client may still send it, and then it must be refused")]
    let prestart = hooks.prestart();
    for (name, hooks) in [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        refuse_if(some(hooks.as_ref()), &format!("/hooks/{name}/0"), "hooks are")?;
    }
    Ok(())
}

fn in_linux(linux: &oci::Linux) -> Result<(), Refusal> {
    let devices = linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty());
    refuse_if(devices, "/linux/netDevices", "moving network devices is")?;
    refuse_if(text(linux.mount_label().as_ref()), "/linux/mountLabel", "SELinux labels are")?;
    refuse_if(linux.intel_rdt().is_some(), "/linux/intelRdt", "Intel RDT is")?;
    refuse_if(linux.memory_policy().is_some(), "/linux/memoryPolicy", "a memory policy is")?;
    let Some(personality) = linux.personality() else { return Ok(()) };
    let other = personality.domain() != oci::LinuxPersonalityDomain::PerLinux;
    refuse_if(other, "/linux/personality/domain", "another personality than LINUX is")?;
    refuse_if(some(personality.flags().as_ref()), "/linux/personality/flags", "a personality's flags are")
}

fn refuse_if(given: bool, pointer: &str, what: &str) -> Result<(), Refusal> {
    if given { Err(Refusal::unsupported(pointer, what)) } else { Ok(()) }
}

/// Whether there is any text in it.
fn text(field: Option<&String>) -> bool {
    field.is_some_and(|text| !text.is_empty())
}

/// Whether there is anything in it.
fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}
