//! The Sandbox service: pods without a pause container. What must hold of every method, in and out of order, and of what is
//! there afterwards: nothing.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests, which clippy does not see.
#![allow(clippy::default_trait_access, reason = "empty requests, whose types the calls name")]

#[path = "sandbox/pod.rs"]
mod pod;
#[path = "sandbox/update.rs"]
mod update;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::ShutdownRequest;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, PingRequest, PlatformRequest, SandboxMetricsRequest, ShutdownSandboxRequest,
};
use containerd_shim_protos::ttrpc::Code;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod::{CONTAINER, MAPPED, NODE, Pod, cgroups, field, limit, linux, modes, refusal, users};
use serde_json::{Value, json};
use test_bundles::{bundle, wait_until};

/// Options of a pod whose containers have pid namespaces of their own: it needs no process.
fn plain() -> Vec<u8> {
    linux(&modes(0, CONTAINER, 0), "", &[])
}

/// `net:[4026531840]`
fn identity(path: impl AsRef<Path>) -> String {
    fs::read_link(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display())).display().to_string()
}

fn status(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// What of a process's stack is in memory.
fn stack_kilobytes(pid: i32) -> u32 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let stack = maps.split_once("[stack]").unwrap().1;
    let resident = stack.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    resident.trim_end_matches("kB").trim().parse().unwrap()
}

fn children(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
}

/// The namespaces that a process holds open.
fn held(pid: i32) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_namespace = |path: PathBuf| {
        ["ipc:", "uts:", "net:", "pid:", "user:"].iter().any(|kind| path.to_string_lossy().starts_with(kind))
    };
    files.filter(|file| fs::read_link(file.path()).is_ok_and(is_namespace)).count()
}

#[test]
fn a_pod_needs_no_process() {
    let config = [field(2, b"pod-host"), linux(&modes(0, CONTAINER, 0), "", &[("kernel.shm_rmid_forced", "1")])];
    let (pod, started) = Pod::ready(&config.concat());
    assert_eq!((started.pid, pod.status()), (0, ("SANDBOX_READY".into(), 0)));
    assert_eq!(children(pod.server), "", "a process is left");
    let namespaces = pod.namespaces();
    let kinds: Vec<_> = namespaces.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ipc", "network", "uts"]);

    let seen = pod.container(&[]).run();
    assert_eq!(seen["hostname"], "pod-host");
    for (kind, name) in [("ipc", "ipc"), ("network", "net"), ("uts", "uts")] {
        let path = namespaces[kind].as_str().unwrap();
        assert_eq!(seen["namespaces"][name], identity(path), "{kind}");
        assert_ne!(seen["namespaces"][name], identity(format!("/proc/self/ns/{name}")), "{kind}");
    }
    let sysctl = "/proc/sys/kernel/shm_rmid_forced";
    assert_eq!(pod.container(&["read", sysctl]).run()[sysctl], "1\n");
    pod.shutdown();
}

#[test]
fn start_tells_where_all_that_is_shared_lies() {
    let (pod, started) = Pod::ready(&plain());
    assert!(started.created_at.is_some());
    let spec = started.spec.as_ref().unwrap();
    assert_eq!(spec.type_url, "types.containerd.io/opencontainers/runtime-spec/1/Spec");
    let spec: Value = serde_json::from_slice(&spec.value).unwrap();
    let namespaces = pod.namespaces();
    for namespace in spec["linux"]["namespaces"].as_array().unwrap() {
        assert_eq!(namespace["path"], namespaces[namespace["type"].as_str().unwrap()]);
    }
    let mounts = spec["mounts"].as_array().unwrap().iter();
    let mounts: Vec<_> =
        mounts.map(|mount| (mount["destination"].as_str().unwrap(), mount["source"].clone())).collect();
    let places: Vec<_> = mounts.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm"]);
    assert!(mounts.iter().all(|(_, source)| Path::new(source.as_str().unwrap()).exists()), "{mounts:?}");
    pod.shutdown();
}

#[test]
fn its_containers_share_its_files_and_memory() {
    let dns =
        field(4, &[field(1, b"10.0.0.1"), field(1, b"10.0.0.2"), field(2, b"a.b"), field(3, b"ndots:5")].concat());
    let (pod, _) = Pod::ready(&[field(2, b"pod-host"), dns, plain()].concat());
    let files = ["/etc/hostname", "/etc/resolv.conf", "/etc/hosts"];
    let read = pod.container(&["read", files[0], files[1], files[2]]).run();
    assert_eq!(read[files[0]], "pod-host\n");
    assert_eq!(read[files[1]], "search a.b\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n");
    assert_eq!(read[files[2]], json!(fs::read_to_string("/etc/hosts").unwrap()));

    let memory = "/dev/shm/shared";
    assert_eq!(pod.container(&["write", memory]).run()[memory], "ok");
    assert_eq!(pod.container(&["read", memory]).run()[memory], "written\n");
    // One with an ipc namespace of its own has a memory of its own.
    let mut own = pod.container(&["read", memory]);
    own.bundle.config["linux"]["namespaces"][3] = json!({"type": "ipc"});
    assert_eq!(own.run()[memory], "ENOENT");

    // What a container brings along stays; what it does not is read-only where its root is.
    let mut brings = pod.container(&["read", "/etc/hosts"]);
    let hosts = brings.bundle.path().join("my-hosts");
    fs::write(&hosts, "mine\n").unwrap();
    let mount = json!({"destination": "/etc/hosts", "type": "bind", "source": hosts, "options": ["bind"]});
    brings.bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    assert_eq!(brings.run()["/etc/hosts"], "mine\n");
    let mut readonly = pod.container(&["write", "/etc/hosts"]);
    readonly.bundle.config["root"]["readonly"] = json!(true);
    assert_eq!(readonly.run()["/etc/hosts"], "EROFS");
    assert_eq!(pod.container(&["write", "/etc/hosts"]).run()["/etc/hosts"], "ok");
    pod.shutdown();
}

#[test]
fn a_shared_pid_namespace_has_a_first_process_that_is_nobody() {
    let (pod, started) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let init = i32::try_from(started.pid).unwrap();
    assert_eq!(pod.status(), ("SANDBOX_READY".into(), started.pid));
    assert_eq!(status(init, "NSpid").split_whitespace().last(), Some("1"));
    assert_eq!(status(init, "Uid").split_whitespace().next(), Some("65535"));
    assert_eq!((status(init, "CapPrm"), status(init, "CapBnd")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!(status(init, "NoNewPrivs"), "1");
    assert_eq!(fs::read_dir(format!("/proc/{init}/fd")).unwrap().count(), 0, "it holds files");
    assert_eq!(fs::read_dir(format!("/proc/{init}/root")).unwrap().count(), 0, "it sees files");
    assert!(fs::write(format!("/proc/{init}/root/x"), "").is_err(), "its root can be written to");
    assert!(!cgroups(&format!("test/{}", pod.id)).is_empty(), "it has no cgroup");
    assert!(stack_kilobytes(init) <= 64, "it keeps a copy of the shim's stack: {} kB", stack_kilobytes(init));

    let seen = pod.container(&[]).shared_pid().run();
    assert_ne!(seen["pid"], 1);
    assert_eq!(seen["namespaces"]["pid"], identity(format!("/proc/{init}/ns/pid")));
    pod.shutdown();
}

#[test]
fn the_first_process_reaps_and_takes_no_signal() {
    let (pod, started) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let init = i32::try_from(started.pid).unwrap();
    let container = pod.container(&["fork-orphan"]).shared_pid();
    container.start();
    // Its orphan is the namespace's, and is killed with the container: nobody but the first process can reap it.
    assert_eq!(container.wait(), 0);
    container.delete();
    assert!(wait_until(Duration::from_secs(10), || children(init).is_empty()), "not reaped: {}", children(init));
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGUSR1] {
        kill(Pid::from_raw(init), signal).unwrap();
    }
    pod.shutdown();
}

#[test]
fn nobody_in_the_pod_sees_how_the_shim_was_started() {
    let (pod, started) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let files = ["/proc/1/comm", "/proc/1/cmdline", "/proc/1/environ"];
    let seen = pod.container(&["read", files[0], files[1], files[2]]).shared_pid().run();
    // A process that lets nobody trace it shows its environment to no container; for the host it is empty.
    assert_eq!(files.map(|file| seen[file].as_str().unwrap()), ["pause\n", "pause\0", "EACCES"]);
    assert_eq!(said(&fs::read(format!("/proc/{}/environ", started.pid)).unwrap()), 0);

    // One that waits for its start has nothing else to show either.
    let waits = pod.container(&["sleep"]).shared_pid();
    let created = waits.create().unwrap();
    let pid = status(created, "NSpid").split_whitespace().last().unwrap().to_owned();
    let files = ["comm", "cmdline"].map(|file| format!("/proc/{pid}/{file}"));
    let seen = pod.container(&["read", &files[0], &files[1]]).shared_pid().run();
    assert_eq!(files.map(|file| seen[file].as_str().unwrap().to_owned()), ["containerd-shim\n", "containerd-shim\0"]);
    assert_eq!(said(&fs::read(format!("/proc/{created}/environ")).unwrap()), 0);
    pod.stop(0).unwrap();
    waits.delete();
    pod.shutdown();
}

/// How many bytes of an environment say something.
fn said(environment: &[u8]) -> usize {
    environment.iter().filter(|byte| **byte != 0).count()
}

#[test]
fn a_first_process_that_is_killed_ends_the_sandbox() {
    let (pod, started) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let container = pod.container(&["sleep"]).shared_pid();
    container.start();
    kill(Pid::from_raw(i32::try_from(started.pid).unwrap()), Signal::SIGKILL).unwrap();
    let ended = pod.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(ended.exit_status, 137);
    assert_eq!(pod.status().0, "SANDBOX_NOTREADY");
    assert_eq!(container.wait(), 137);
    container.delete();
    assert_eq!(refusal(pod.container(&[]).create()).0, Code::FAILED_PRECONDITION);
    pod.shutdown();
}

#[test]
fn a_pod_may_be_in_the_hosts_namespaces() {
    let (pod, started) = Pod::ready(&linux(&modes(NODE, NODE, NODE), "", &[]));
    assert_eq!(started.pid, 0);
    assert_eq!((pod.namespaces(), held(pod.server)), (json!({}), 0));
    let seen = pod.container(&[]).shared_pid().run();
    for name in ["net", "ipc", "uts", "pid"] {
        assert_eq!(seen["namespaces"][name], identity(format!("/proc/self/ns/{name}")), "{name}");
    }
    pod.shutdown();
}

#[test]
fn a_network_namespace_that_was_made_for_it_is_joined_and_let_go() {
    // A process of ours holds one, as a bind mount in /run/netns does for CRI.
    let mut holder = std::process::Command::new("unshare");
    let mut holder = holder.args(["--net", "sleep", "60"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let own = identity("/proc/self/ns/net");
    let path = format!("/proc/{}/ns/net", holder.id());
    assert!(wait_until(Duration::from_secs(5), || identity(&path) != own));
    let pod = Pod::new();
    let request = CreateSandboxRequest { netns_path: path.clone(), ..pod.request(&plain()) };
    pod.sandbox.create_sandbox(limit(), &request).unwrap();
    pod.start().unwrap();
    assert_eq!(pod.container(&[]).run()["namespaces"]["net"], identity(&path));
    assert_eq!(held(pod.server), 3);
    pod.stop(0).unwrap();
    assert_eq!(held(pod.server), 0, "it would keep CRI's network alive");
    pod.shutdown();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// The user namespace that owns the one at `path`, as `identity` says it.
fn owner(path: &str) -> String {
    let owner = config::sandbox::owner(Path::new(path)).unwrap();
    identity(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&owner)))
}

#[test]
fn a_pod_may_have_a_user_namespace_that_owns_the_others() {
    let sysctls = [("net.ipv4.ip_unprivileged_port_start", "7"), ("kernel.shm_rmid_forced", "1")];
    for (mode, kinds) in [(CONTAINER, &["ipc", "network", "uts"][..]), (0, &["ipc", "network", "pid", "uts"])] {
        let config = [field(2, b"pod-host"), linux(&users(&modes(0, mode, 0)), "", &sysctls)].concat();
        let (pod, started) = Pod::ready(&config);
        let namespaces = pod.namespaces();
        let path = |kind: &str| namespaces[kind].as_str().unwrap();
        let user = identity(path("user"));
        assert_ne!(user, identity("/proc/self/ns/user"));
        for kind in kinds {
            assert_eq!(owner(path(kind)), user, "{kind}");
        }
        assert_eq!((held(pod.server), namespaces.as_object().unwrap().len()), (kinds.len() + 1, kinds.len() + 1));
        let in_pod = |arguments: &[&str]| {
            let container = pod.container(arguments).users();
            if mode == 0 { container.shared_pid() } else { container }
        };
        let seen = in_pod(&[]).run();
        assert_eq!((&seen["hostname"], &seen["namespaces"]["user"]), (&json!("pod-host"), &json!(user)));
        assert_eq!(seen["namespaces"]["net"], identity(path("network")));
        let files = ["/proc/self/uid_map", "/etc/hostname", "/proc/sys/net/ipv4/ip_unprivileged_port_start"];
        let read = in_pod(&["read", files[0], files[1], files[2]]).run();
        let map: Vec<_> = read[files[0]].as_str().unwrap().split_whitespace().collect();
        assert_eq!(map, ["0", &MAPPED.to_string(), "65536"]);
        assert_eq!((&read[files[1]], &read[files[2]]), (&json!("pod-host\n"), &json!("7\n")));
        assert_eq!(in_pod(&["write", "/dev/shm/shared"]).run()["/dev/shm/shared"], "ok");
        if mode == 0 {
            let init = i32::try_from(started.pid).unwrap();
            assert_eq!(identity(format!("/proc/{init}/ns/user")), user);
            assert_eq!(status(init, "Uid").split_whitespace().next(), Some(&*(MAPPED + 65535).to_string()));
            assert_eq!(fs::read_dir(format!("/proc/{init}/root")).unwrap().count(), 0, "it sees files");
            assert!(fs::write(format!("/proc/{init}/root/x"), "").is_err(), "its root can be written to");
        }
        pod.stop(0).unwrap();
        assert_eq!(held(pod.server), 0);
        pod.shutdown();
    }
}

#[test]
fn a_pod_with_a_user_namespace_may_be_on_the_hosts_network() {
    let (pod, _) = Pod::ready(&linux(&users(&modes(NODE, CONTAINER, 0)), "", &[]));
    assert_eq!(owner(pod.namespaces()["ipc"].as_str().unwrap()), identity(pod.namespaces()["user"].as_str().unwrap()));
    let seen = pod.container(&[]).users().run();
    assert_eq!(seen["namespaces"]["net"], identity("/proc/self/ns/net"));
    assert_eq!(seen["namespaces"]["user"], identity(pod.namespaces()["user"].as_str().unwrap()));
    pod.shutdown();
}

/// CRI makes the pod's user namespace itself where it makes its network, for the one must own the other.
#[test]
fn the_owner_of_a_network_that_was_made_for_it_is_its_user_namespace() {
    let holder = |host: u32| {
        let mut holder = std::process::Command::new("unshare");
        let options = ["--user", "--net", "sleep", "60"];
        let holder = holder.args(options).stdout(std::process::Stdio::null()).spawn().unwrap();
        let ready = || {
            let comm = fs::read_to_string(format!("/proc/{}/comm", holder.id()));
            comm.is_ok_and(|comm| comm == "sleep\n")
        };
        assert!(wait_until(Duration::from_secs(5), ready));
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", holder.id()), format!("0 {host} 65536")).unwrap();
        }
        holder
    };
    let (mut right, mut wrong) = (holder(MAPPED), holder(MAPPED + 1));
    let pod = Pod::new();
    let request = |holder: &std::process::Child| {
        let netns_path = format!("/proc/{}/ns/net", holder.id());
        CreateSandboxRequest { netns_path, ..pod.request(&linux(&users(&modes(0, 0, 0)), "", &[])) }
    };
    refused(
        &pod,
        &request(&wrong),
        Code::INVALID_ARGUMENT,
        "uidMappings: the user namespace has another map: 0 200001",
    );
    pod.sandbox.create_sandbox(limit(), &request(&right)).unwrap();
    pod.start().unwrap();
    let seen = pod.container(&[]).users().shared_pid().run();
    for name in ["net", "user"] {
        assert_eq!(seen["namespaces"][name], identity(format!("/proc/{}/ns/{name}", right.id())), "{name}");
    }
    pod.stop(0).unwrap();
    assert_eq!(held(pod.server), 0);
    pod.shutdown();
    for holder in [&mut right, &mut wrong] {
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

#[test]
fn wait_survives_its_client_and_stop_can_be_repeated() {
    let (pod, _) = Pod::ready(&plain());
    assert!(pod.wait(Duration::from_millis(50)).is_err(), "it does not block");
    pod.stop(0).unwrap();
    pod.stop(5).unwrap();
    let ended = pod.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(ended.exit_status, 0);
    assert!(ended.exited_at.is_some());
    assert_eq!(pod.status().0, "SANDBOX_NOTREADY");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&pod.id), "a mount is left");
    pod.shutdown();
}

#[test]
fn stop_gives_containers_their_time_and_no_more() {
    let (pod, _) = Pod::ready(&plain());
    // As pid 1 without a handler it takes no SIGTERM.
    let stubborn = pod.container(&["sleep"]);
    stubborn.start();
    let created = pod.container(&["sleep"]);
    created.create().unwrap();
    let begun = Instant::now();
    pod.stop(1).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((stubborn.wait(), created.wait()), (137, 137));
    stubborn.delete();
    created.delete();
    pod.shutdown();
}

#[test]
fn stop_lets_who_ends_by_itself_end() {
    let (pod, _) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let polite = pod.container(&["sleep"]).shared_pid();
    polite.start();
    pod.stop(20).unwrap();
    assert_eq!(polite.wait(), 128 + 15);
    polite.delete();
    pod.shutdown();
}

#[test]
fn shutdown_ends_all_there_is() {
    let (pod, started) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let (running, created) = (pod.container(&["sleep"]).shared_pid(), pod.container(&["sleep"]));
    running.start();
    created.create().unwrap();
    let init = bundle::pidfd(i32::try_from(started.pid).unwrap()).unwrap();
    let request = ShutdownSandboxRequest { sandbox_id: pod.id.clone(), ..Default::default() };
    pod.sandbox.shutdown_sandbox(limit(), &request).unwrap();
    bundle::wait(&init);
    running.bundle.assert_nothing_left();
    created.bundle.assert_nothing_left();
    drop((running, created));
    pod.expect_gone();
}

#[test]
fn a_server_with_a_sandbox_outlives_its_containers() {
    let (pod, _) = Pod::ready(&plain());
    pod.container(&[]).run();
    pod.tasks.shutdown(limit(), &ShutdownRequest::new()).unwrap();
    pod.container(&[]).run();
    // A server that leaves gives up its socket first.
    assert!(pod.listens());
    pod.shutdown();
}

#[test]
fn what_a_killed_server_leaves_is_found_by_delete() {
    let (pod, started) = Pod::ready(&linux(&modes(0, 0, 0), "", &[]));
    let (one, other) = (pod.container(&["sleep"]).shared_pid(), pod.container(&["sleep"]));
    let pids = [one.start(), other.start(), i32::try_from(started.pid).unwrap()];
    let processes = pids.map(|pid| bundle::pidfd(pid).unwrap());
    pod.kill_server();
    let deleted = pod.delete();
    assert_eq!((deleted.pid, deleted.exit_status), (started.pid, 137));
    processes.iter().for_each(bundle::wait);
    one.bundle.assert_nothing_left();
    other.bundle.assert_nothing_left();
    // A second time there is nothing to do.
    assert_eq!(pod.delete().pid, 0);
    drop((one, other));
    pod.expect_gone();
}

#[test]
fn metrics_are_those_of_the_pods_cgroup() {
    let parent = format!("myshim-test/metrics-{}", std::process::id());
    let (pod, _) = Pod::ready(&linux(&modes(0, 0, 0), &format!("/{parent}"), &[]));
    assert!(!cgroups(&format!("{parent}/{}", pod.id)).is_empty(), "its process is not below the pod's cgroup");
    let request = SandboxMetricsRequest { sandbox_id: pod.id.clone(), ..Default::default() };
    let metrics = pod.sandbox.sandbox_metrics(limit(), &request).unwrap().metrics.unwrap();
    assert_eq!(metrics.id, pod.id);
    assert!(metrics.timestamp.is_some());
    let data = metrics.data.unwrap();
    assert!(data.type_url.starts_with("io.containerd.cgroups.v") && !data.value.is_empty(), "{data:?}");
    pod.stop(0).unwrap();
    assert!(cgroups(&format!("{parent}/{}", pod.id)).is_empty(), "the cgroup of its process is left");
    assert_eq!(refusal(pod.sandbox.sandbox_metrics(limit(), &request)).0, Code::FAILED_PRECONDITION);
    pod.shutdown();
    // The pod's own cgroup is whose it was: the kubelet's.
    for path in cgroups(&parent) {
        fs::remove_dir(path).unwrap();
    }

    let (pod, _) = Pod::ready(&plain());
    let request = SandboxMetricsRequest { sandbox_id: pod.id.clone(), ..Default::default() };
    assert_eq!(refusal(pod.sandbox.sandbox_metrics(limit(), &request)).0, Code::FAILED_PRECONDITION);
    pod.shutdown();
}

#[test]
fn each_thing_has_its_time() {
    let pod = Pod::new();
    assert_eq!(refusal(pod.start()).0, Code::NOT_FOUND);
    assert_eq!(refusal(pod.stop(0)).0, Code::NOT_FOUND);
    pod.sandbox.create_sandbox(limit(), &pod.request(&plain())).unwrap();
    assert_eq!(refusal(pod.sandbox.create_sandbox(limit(), &pod.request(&plain()))).0, Code::ALREADY_EXISTS);
    assert_eq!(pod.status().0, "SANDBOX_NOTREADY");
    assert_eq!(refusal(pod.container(&[]).create()).0, Code::FAILED_PRECONDITION);
    pod.start().unwrap();
    assert_eq!(refusal(pod.start()).0, Code::FAILED_PRECONDITION);
    let platform = PlatformRequest { sandbox_id: pod.id.clone(), ..Default::default() };
    let platform = pod.sandbox.platform(limit(), &platform).unwrap().platform.unwrap();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", architecture));
    let ping =
        |id: &str| pod.sandbox.ping_sandbox(limit(), &PingRequest { sandbox_id: id.into(), ..Default::default() });
    ping(&pod.id).unwrap();
    assert_eq!(refusal(ping("another")).0, Code::NOT_FOUND);
    let another = ShutdownSandboxRequest { sandbox_id: "another".into(), ..Default::default() };
    assert_eq!(refusal(pod.sandbox.shutdown_sandbox(limit(), &another)).0, Code::NOT_FOUND);
    assert_eq!(refusal(pod.sandbox.create_sandbox(limit(), &pod.request(&plain()))).0, Code::ALREADY_EXISTS);
    pod.stop(0).unwrap();
    assert_eq!(refusal(pod.start()).0, Code::FAILED_PRECONDITION);
    pod.shutdown();
}

#[test]
fn a_sandbox_that_was_only_created_can_be_stopped_and_shut_down() {
    for stop in [true, false] {
        let pod = Pod::new();
        pod.sandbox.create_sandbox(limit(), &pod.request(&linux(&modes(0, 0, 0), "", &[]))).unwrap();
        if stop {
            pod.stop(0).unwrap();
        }
        pod.shutdown();
    }
}

#[test]
fn a_container_with_a_known_id_is_refused_and_harms_nobody() {
    let (pod, _) = Pod::ready(&plain());
    let container = pod.container(&["sleep"]);
    container.start();
    assert_eq!(refusal(container.create()).0, Code::ALREADY_EXISTS);
    assert_eq!(fs::read_dir(pod.bundle().join("containers")).unwrap().count(), 1);
    pod.stop(0).unwrap();
    container.delete();
    assert_eq!(fs::read_dir(pod.bundle().join("containers")).unwrap().count(), 0);
    drop(container);
    pod.shutdown();
}

#[test]
fn a_namespace_that_the_pod_does_not_share_is_no_door_to_the_hosts() {
    let (pod, _) = Pod::ready(&plain());
    let (code, text) = refusal(pod.container(&[]).shared_pid().create());
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(text.contains("/linux/namespaces/1/path: the pod has no pid namespace to share: its own mode"), "{text}");
    pod.shutdown();
}

/// A bad request, and what it is refused with.
type Bad = (fn(&Pod) -> CreateSandboxRequest, &'static str);

fn with(pod: &Pod, change: impl FnOnce(&mut CreateSandboxRequest)) -> CreateSandboxRequest {
    let mut request = pod.request(&plain());
    change(&mut request);
    request
}

const BAD: [Bad; 16] = [
    (|pod| with(pod, |r| r.options.mut_or_insert_default().type_url = "io.x".into()), "options of type io.x"),
    (|pod| pod.request(&[0xff]), "decode PodSandboxConfig"),
    (|pod| with(pod, |r| r.bundle_path = "bundle".into()), "bundle path \"bundle\" is not absolute"),
    (|pod| with(pod, |r| r.sandbox_id = "../x".into()), "id \"../x\""),
    (|pod| with(pod, |r| r.rootfs.push(Default::default())), "rootfs"),
    (
        |pod| with(pod, |r| r.netns_path = "/etc/hosts".into()),
        "/linux/security_context/namespace_options/network: not a namespace file",
    ),
    (
        |pod| {
            let on_host = pod.request(&linux(&modes(NODE, 1, 0), "", &[]));
            CreateSandboxRequest { netns_path: "/proc/self/ns/net".into(), ..on_host }
        },
        "/linux/security_context/namespace_options/network: the host's, and yet",
    ),
    (
        |pod| pod.request(&linux(&modes(0, 1, CONTAINER), "", &[])),
        "/linux/security_context/namespace_options/ipc: CONTAINER",
    ),
    (|pod| pod.request(&linux(&modes(0, 3, 0), "", &[])), "/linux/security_context/namespace_options/pid: TARGET"),
    (
        |pod| pod.request(&linux(&modes(9, 1, 0), "", &[])),
        "/linux/security_context/namespace_options/network: 9: there is no such mode",
    ),
    (
        |pod| pod.request(&linux(&field(5, &[1 << 3, 0]), "", &[])),
        "/linux/security_context/namespace_options/userns_options/uids: missing",
    ),
    (
        |pod| {
            let users = pod.request(&linux(&users(&modes(0, 1, 0)), "", &[]));
            CreateSandboxRequest { netns_path: "/proc/self/ns/net".into(), ..users }
        },
        "/linux/security_context/namespace_options/network: /proc/self/ns/net belongs to the runtime's",
    ),
    (
        |pod| pod.request(&[field(2, b"x"), linux(&modes(NODE, 1, 0), "", &[])].concat()),
        "/hostname: needs a uts namespace",
    ),
    (
        |pod| pod.request(&linux(&modes(0, 1, 0), "", &[("kernel.panic", "1")])),
        "/linux/sysctls/kernel.panic: not in any namespace",
    ),
    (|pod| pod.request(&linux(&modes(0, 1, 0), "/../x", &[])), "/linux/cgroup_parent: path /../x"),
    (|pod| pod.request(&field(4, &field(1, b"1\noptions x"))), "/dns_config/servers/0: has the end of a line"),
];

#[test]
fn bad_requests_are_refused_by_field_and_leave_nothing() {
    let pod = Pod::new();
    for (request, text) in BAD {
        refused(&pod, &request(&pod), Code::INVALID_ARGUMENT, text);
    }
    // In the middle: all is made but this.
    let request = pod.request(&linux(&modes(0, 0, 0), "", &[("net.ipv4.ip_forward", "none")]));
    refused(&pod, &request, Code::UNKNOWN, "write \"none\" to /proc/sys/net/ipv4/ip_forward: EINVAL");
    // And it may be asked again.
    pod.sandbox.create_sandbox(limit(), &pod.request(&plain())).unwrap();
    pod.shutdown();
}

fn refused(pod: &Pod, request: &CreateSandboxRequest, code: Code, text: &str) {
    let (told, said) = refusal(pod.sandbox.create_sandbox(limit(), request));
    assert!(told == code && said.contains(text), "{told:?} {said}\n  and not {code:?} {text}");
    assert_eq!((children(pod.server).as_str(), held(pod.server)), ("", 0), "{text}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&pod.id), "{text}: a mount is left");
    assert!(cgroups(&format!("test/{}", pod.id)).is_empty(), "{text}: a cgroup is left");
}

#[test]
fn a_server_whose_sandbox_could_not_be_made_ends_when_told() {
    let pod = Pod::new();
    let request = CreateSandboxRequest { options: MessageField::none(), bundle_path: "x".into(), ..pod.request(&[]) };
    refusal(pod.sandbox.create_sandbox(limit(), &request));
    pod.shutdown();
}

#[test]
fn a_client_that_knows_no_cri_gets_a_pod_of_defaults() {
    let pod = Pod::new();
    let request = CreateSandboxRequest { options: MessageField::none(), ..pod.request(&[]) };
    pod.sandbox.create_sandbox(limit(), &request).unwrap();
    assert_ne!(pod.start().unwrap().pid, 0);
    assert_eq!(
        pod.container(&[]).shared_pid().run()["hostname"],
        json!(rustix::system::uname().nodename().to_string_lossy())
    );
    pod.shutdown();
}
