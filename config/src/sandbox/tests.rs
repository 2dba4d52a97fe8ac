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
    with_options(NamespaceOption { network, pid, ipc, ..Default::default() })
}

fn with_options(options: NamespaceOption) -> PodSandboxConfig {
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
fn a_user_namespace_has_maps_with_root_in_them() {
    let lines = |lines: &[(u32, u32, u32)]| {
        let line = |&(container_id, host_id, length): &(u32, u32, u32)| IDMapping {
            container_id,
            host_id,
            length,
            ..Default::default()
        };
        lines.iter().map(line).collect::<Vec<_>>()
    };
    let users = |mode, uids: &[(u32, u32, u32)], gids: &[(u32, u32, u32)]| {
        let mode = EnumOrUnknown::new(mode);
        let users = UserNamespace { mode, uids: lines(uids), gids: lines(gids), ..Default::default() };
        resolved(&with_options(NamespaceOption { userns_options: MessageField::some(users), ..Default::default() }))
    };
    let good = [(0, 1000, 65536)];
    let sandbox = users(NamespaceMode::POD, &good, &[(0, 7, 3), (3, 70, 1)]).unwrap();
    assert_eq!(sandbox.namespaces.last(), Some(&Namespace { kind: NamespaceKind::User, path: None }));
    let map = |container, host, size| IdMap { container, host, size };
    assert_eq!(sandbox.mappings.uids, [map(0, 1000, 65536)]);
    assert_eq!(sandbox.mappings.gids, [map(0, 7, 3), map(3, 70, 1)]);
    let on_host = users(NamespaceMode::NODE, &[], &[]).unwrap();
    assert!(!on_host.has(NamespaceKind::User) && on_host.mappings.is_empty());
    for (refused, pointer) in [
        (users(NamespaceMode::POD, &[], &good), "/uids"),
        (users(NamespaceMode::POD, &good, &[(1, 1000, 9)]), "/gids"),
        (users(NamespaceMode::POD, &[(0, 1, 9), (0, 100, 9)], &good), "/uids/1/containerID"),
        (users(NamespaceMode::CONTAINER, &good, &good), "/mode"),
        (users(NamespaceMode::TARGET, &good, &good), "/mode"),
    ] {
        let wanted = format!("{NAMESPACE_OPTIONS}/userns_options{pointer}");
        assert_eq!(refused.unwrap_err().pointer, wanted);
    }
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
