use std::path::Path;

use protobuf::{Message, MessageField};

use super::proto::cri::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext};
use super::*;

fn resolved(config: &PodSandboxConfig) -> Result<Sandbox, Refusal> {
    let config = config.write_to_bytes().unwrap();
    let bundle = Path::new("/run/s");
    Sandbox::resolve(&SandboxRequest { id: "pod", bundle, namespace: "k8s.io", netns_path: "", config: &config })
}

fn with_parent(parent: &str) -> PodSandboxConfig {
    let linux = LinuxPodSandboxConfig { cgroup_parent: parent.into(), ..Default::default() };
    PodSandboxConfig { linux: MessageField::some(linux), ..Default::default() }
}

fn with_modes(network: NamespaceMode, pid: NamespaceMode, ipc: NamespaceMode) -> PodSandboxConfig {
    let [network, pid, ipc] = [network, pid, ipc].map(EnumOrUnknown::new);
    let options = NamespaceOption { network, pid, ipc, ..Default::default() };
    let context = LinuxSandboxSecurityContext { namespace_options: MessageField::some(options), ..Default::default() };
    let linux = LinuxPodSandboxConfig { security_context: MessageField::some(context), ..Default::default() };
    PodSandboxConfig { linux: MessageField::some(linux), ..Default::default() }
}

#[test]
fn the_modes_say_what_the_pod_has_to_itself() {
    use NamespaceKind::{Ipc, Network, Pid, Uts};
    use NamespaceMode::{CONTAINER, NODE, POD};
    for (modes, kinds, host_pid) in [
        ((POD, POD, POD), &[Ipc, Uts, Network, Pid][..], false),
        ((POD, CONTAINER, POD), &[Ipc, Uts, Network], false),
        ((NODE, NODE, POD), &[Ipc], true),
        ((POD, NODE, NODE), &[Uts, Network], true),
    ] {
        let sandbox = resolved(&with_modes(modes.0, modes.1, modes.2)).unwrap();
        let found: Vec<_> = sandbox.namespaces.iter().map(|namespace| namespace.kind).collect();
        assert_eq!((found.as_slice(), sandbox.host_pid), (kinds, host_pid), "{modes:?}");
        assert!(sandbox.namespaces.is_sorted_by_key(|namespace| namespace.kind), "not in the order of joining");
    }
    assert_eq!(resolved(&PodSandboxConfig::new()).unwrap().namespaces.len(), 4);
}

#[test]
fn the_cgroups_are_where_cri_has_them() {
    let cgroups = |parent: &str| {
        let sandbox = resolved(&with_parent(parent)).unwrap();
        (sandbox.cgroup, sandbox.parent)
    };
    let absolute = |path: &str| CgroupPath::Absolute(path.into());
    let unit = |slice: &str, prefix: &str, name: &str| CgroupPath::Systemd {
        slice: slice.into(),
        prefix: prefix.into(),
        name: name.into(),
    };
    assert_eq!(cgroups(""), (absolute("k8s.io/pod"), None));
    assert_eq!(cgroups("/kubepods/p1"), (absolute("kubepods/p1/pod"), Some(absolute("kubepods/p1"))));
    let slice = "kubepods-pod1.slice";
    let own = unit(slice, "cri-containerd", "pod");
    assert_eq!(cgroups(slice), (own.clone(), Some(unit("kubepods.slice", "", slice))));
    assert_eq!(cgroups("/kubepods.slice/kubepods-pod1.slice/"), (own, Some(unit("kubepods.slice", "", slice))));
    assert_eq!(cgroups("top.slice").1, Some(unit("-.slice", "", "top.slice")));
    assert_eq!(resolved(&with_parent("/a/../..")).unwrap_err().pointer, "/linux/cgroup_parent");
}

#[test]
fn resolv_conf_is_as_cri_writes_it() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let dns = DNSConfig {
        servers: words(&["10.0.0.1", "10.0.0.2"]),
        searches: words(&["a.b", "c"]),
        options: words(&["ndots:5", "debug"]),
        ..Default::default()
    };
    let text = "search a.b c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5 debug\n";
    assert_eq!(resolv_conf(&dns).unwrap(), text);
    // An empty one says: no names are looked up. None at all says: as on the host.
    assert_eq!(resolv_conf(&DNSConfig::new()).unwrap(), "");
    assert_eq!(resolved(&PodSandboxConfig::new()).unwrap().resolv_conf, None);
    let dns = DNSConfig { searches: words(&["a", "b\nnameserver 6.6.6.6"]), ..Default::default() };
    assert_eq!(resolv_conf(&dns).unwrap_err().pointer, "/searches/1");
}
