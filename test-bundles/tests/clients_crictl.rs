//! crictl, which speaks CRI as the kubelet does, with runc's handler and with two of this shim's.

#![allow(clippy::needless_raw_string_hashes, reason = "a quote more in a script is no reason to change its frame")]

use std::process::ExitCode;

use test_bundles::oracle::{self, Case, Client};

const CRICTL: Client = Client {
    name: "crictl",
    prelude: r#"
I=lab.test/busybox:1
c() { crictl --config /dev/null --runtime-endpoint unix://$STATE/run/containerd.sock --image-endpoint unix://$STATE/run/containerd.sock "$@" 2> >(grep -v 'does not exist, trying next' >&2); }
load() { ctr -a $STATE/run/containerd.sock -n k8s.io images import "$1"; }
pod() { # [JSON]: a pod's id into `pod`; JSON is merged into its configuration
    mkdir -p log
    jq -n --arg n $N --arg d $PWD/log '{metadata: {name: $n, namespace: "clients", uid: $n, attempt: 0}, labels: {case: $n}, log_directory: $d,
        linux: {cgroup_parent: "/clients-crictl", security_context: {namespace_options: {network: 0, pid: 1, ipc: 0}}}} * '"${1:-{\}}" >pod.json
    pod=$(c runp --runtime $RUNTIME pod.json)
}
container() { # JSON COMMAND...: a started container's id into `id`
    local more=$1; shift
    jq -n --arg i $I '{metadata: {name: "one"}, image: {image: $i}, log_path: "one.log", command: $ARGS.positional, linux: {security_context: {namespace_options: {pid: 1}}}} * '"$more" --args -- "$@" >container.json
    id=$(c create $pod container.json pod.json); c start $id >&2
}
ready() { # COMMAND...
    pod; container {} "$@"
}
clear() {
    local pods; pods=$(c pods -q --label case=$N)
    [ -z "$pods" ] || c rmp -f $pods >&2
}
"#,
    runtime: str::to_owned,
    tested: &["myshim", "myshim-sandbox"],
    cgroup: "/clients-crictl",
    loses: false,
};

const CASES: &[Case] = &[
    Case::new(
        "logs",
        r#"
        ready sh -c 'echo out; echo err >&2; exit 3'; until_is CONTAINER_EXITED c inspect -o go-template --template '{{.status.state}}' $id
        until_is 2 eval 'wc -l <log/one.log'; c logs $id 2>&1 | sort; cut -d' ' -f2- log/one.log | sort; c inspect -o go-template --template '{{.status.exitCode}} {{.status.reason}}' $id"#,
    ),
    Case::new(
        "much_output_and_rotation",
        r#"
        ready sh -c 'yes 0123456789abcde | head -n 200000; exec sleep 1000'
        until_is 200000 eval 'c logs $id | wc -l'; c logs $id | md5sum; mv log/one.log log/two.log; c inspect $id >/dev/null
        c logs --tail 1 -r $id 2>/dev/null || true; c exec $id echo lives"#,
    ),
    Case::new(
        "exec",
        r#"
        ready sleep 1000; says c exec $id sh -c 'echo out; echo err >&2; exit 4'; echo text | c exec -i $id cat
        says c exec -s $id sh -c 'echo in sync; exit 5'; says c exec -s $id nosuch | grep -o 'exit 1'; type_after ready 'exit 6\n' | says tty c exec -it $id sh -c 'stty -echo; echo ready; tty; read a; echo "it heard $a"' | tee said | grep -ao -e 'it heard exit 6' -e '^/dev/pts/0' -e 'exit 0'"#,
    ),
    Case::new(
        "exec_that_takes_too_long",
        "ready sleep 1000; says c exec -s --timeout 1 $id sleep 100; c exec $id sh -c 'ps -o args' | grep -c 'sleep 100$' || true",
    ),
    Case::new(
        "attach",
        r#"
        pod; container '{stdin: true}' sh -c 'read a; echo "it heard $a"; sleep 1000'
        { echo text; until grep -q heard said; do sleep 0.05; done; } | timeout 20 crictl --runtime-endpoint unix://$STATE/run/containerd.sock attach -i $id >said 2>/dev/null || true; cat said"#,
    ),
    // Of which everything is closed for a while, as systemd does at boot.
    Case::new(
        "a_terminal_that_everybody_closes",
        r#"
        pod; container '{tty: true}' sh -c 'echo one; exec </dev/null >/dev/null 2>&1; sleep 0.2; echo two >/dev/console; sleep 0.2; exec >/dev/console; echo three; exit 3'
        until_is CONTAINER_EXITED c inspect -o go-template --template '{{.status.state}}' $id; cut -d' ' -f2- log/one.log"#,
    ),
    Case::new(
        "systemd_and_a_login_on_its_console",
        r#"
        c inspecti lab.test/systemd:1 >/dev/null || { echo no systemd on this machine; exit; }
        pod '{linux: {security_context: {privileged: true}}}'
        container '{image: {image: "lab.test/systemd:1"}, tty: true, stdin: true, envs: [{key: "container", value: "docker"}], linux: {security_context: {privileged: true}}}'
        until_is yes eval 'grep -q "say something" log/one.log && echo yes'
        # What is typed before crictl has made its terminal raw is lost.
        is_running() { c inspect -o go-template --template '{{.status.state}}' $id | grep -q RUNNING; }
        { while is_running; do printf 'some text\n'; sleep 0.2; done || true; } | tty c attach -it $id >&2 || true
        until_is no eval 'is_running || echo no'
        grep -aoE 'Welcome to|say something|it heard .*' log/one.log; c inspect -o go-template --template '{{.status.exitCode}}' $id"#,
    ),
    Case::new(
        "resolv_conf_is_a_dangling_link",
        r#"
        pod '{dns_config: {servers: ["10.1.2.3"]}}'; container '{image: {image: "lab.test/dangling:1"}}' sleep 1000
        c exec $id sh -c 'readlink /etc/resolv.conf; grep nameserver /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf'"#,
    ),
    Case::new(
        "port_forward",
        r#"
        pod; jq -n '{metadata: {name: "one"}, image: {image: "lab.test/nginx:1"}, log_path: "one.log", linux: {security_context: {namespace_options: {pid: 1}}}}' >container.json
        id=$(c create $pod container.json pod.json); c start $id >&2
        c port-forward $pod 18081:80 >/dev/null & trap 'pkill -P $! || true' EXIT
        page() { busybox wget -qO- http://127.0.0.1:18081/; }; until_is '<h1>Welcome, nginx!</h1>' eval 'page | head -n 3'; page"#,
    ),
    Case::new(
        "stats",
        r#"
        ready sleep 1000; c stats -o json $id | jq '.stats[0] | .attributes.metadata.name, (.cpu.usageCoreNanoSeconds.value | tonumber > 0), (.memory.workingSetBytes.value | tonumber > 0)'
        c statsp -o json --id $pod | jq '.stats[0] | .attributes.metadata.name, (.linux.containers | length), (.linux.process.processCount.value | tonumber > 0)'"#,
    ),
    Case::new(
        "update",
        r#"
        pod; container '{linux: {resources: {memory_limit_in_bytes: 67108864, cpu_shares: 512}}}' sleep 1000
        look() { c exec $id cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares; }
        look; c update --memory 134217728 --cpu-share 700 $id >&2; look"#,
    ),
    Case::new(
        "more_memory_than_the_limit",
        r#"
        pod; container '{linux: {resources: {memory_limit_in_bytes: 16777216}}}' memhog 64
        until_is CONTAINER_EXITED c inspect -o go-template --template '{{.status.state}}' $id; c inspect -o go-template --template '{{.status.exitCode}} {{.status.reason}}' $id"#,
    )
    .says("137 OOMKilled\n"),
    Case::new(
        "stop_in_time",
        r#"
        ready sh -c 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'; until_is ready c logs $id; c stop -t 20 $id >&2
        c inspect -o go-template --template '{{.status.exitCode}}' $id"#,
    ),
    Case::new(
        "stop_by_force",
        "ready sleep 1000; c stop -t 1 $id >&2; c inspect -o go-template --template '{{.status.exitCode}}' $id",
    ),
    Case::new(
        "one_pid_namespace_for_the_pod",
        r#"
        pod '{linux: {security_context: {namespace_options: {pid: 0}}}}'; container '{linux: {security_context: {namespace_options: {pid: 0}}}}' sleep 1000
        c exec $id ps -o args | grep -x 'sleep 1000'; c exec $id sh -c 'test $$ = 1 || echo "of the pod"; kill -0 1 && echo "its init lives"'"#,
    ),
    Case::new(
        "the_hosts_pid_namespace",
        r#"
        pod '{linux: {security_context: {namespace_options: {pid: 2}}}}'; container '{linux: {security_context: {namespace_options: {pid: 2}}}}' sleep 1000
        test "$(c exec $id readlink /proc/self/ns/pid)" = "$(readlink /proc/self/ns/pid)" && echo "the host's""#,
    ),
    Case::new(
        "security",
        r#"
        pod; container '{linux: {security_context: {run_as_user: {value: 1000}, run_as_group: {value: 1001}, supplemental_groups: [44], no_new_privs: true,
            readonly_rootfs: true, capabilities: {drop_capabilities: ["ALL"], add_capabilities: ["NET_RAW"]}}}}' sleep 1000
        c exec $id sh -c 'id; grep -E "^(Cap|NoNew)" /proc/self/status; touch /x 2>&1; true'"#,
    ),
    Case::new(
        "mounts",
        r#"
        mkdir dir; echo host >dir/file; pod; container '{mounts: [{container_path: "/ro", host_path: "'$PWD/dir'", readonly: true}, {container_path: "/rw", host_path: "'$PWD/dir'"}]}' sleep 1000
        c exec $id sh -c 'cat /ro/file; touch /ro/x 2>&1; echo inside >/rw/new; grep -c /etc/resolv.conf /proc/self/mountinfo'; cat dir/new"#,
    ),
    Case::new(
        "two_containers_and_what_they_share",
        r#"
        ready sleep 1000; first=$id; jq '.metadata.name = "two" | .log_path = "two.log"' container.json >two.json; second=$(c create $pod two.json pod.json); c start $second >&2
        for n in net ipc uts; do test "$(c exec $first readlink /proc/self/ns/$n)" = "$(c exec $second readlink /proc/self/ns/$n)" && echo $n; done
        c stop -t 0 $first >&2; c rm $first >&2; c exec $second echo goes on; c pods -q --id $pod --state ready | wc -l"#,
    ),
    Case::new(
        "a_pod_removed_while_it_runs",
        "ready sleep 1000; c rmp -f $pod >&2; c ps -aq --pod $pod | wc -l; c pods -q --id $pod | wc -l",
    ),
];

fn main() -> ExitCode {
    oracle::run(CRICTL, CASES)
}
