//! What nerdctl and Docker take in the same words.

#![allow(clippy::needless_raw_string_hashes, reason = "a quote more in a script is no reason to change its frame")]

use test_bundles::oracle::Case;

/// A client that takes these words, by its name, by how it is called, and how its compose is; and whether it loses words.
macro_rules! client {
    ($name:literal, $call:literal, $compose:literal, loses: $loses:literal) => {
        Client {
            name: $name,
            prelude: concat!(
                "I=lab.test/busybox:1\nc() { ",
                $call,
                " \"$@\"; }\ncompose() { ",
                $compose,
                r#" -f compose.yaml "$@"; }
load() { c load -q -i "$1"; }
run() { c run --name $N --label case=$N --network none --runtime $RUNTIME "$@"; }
state() { c inspect -f "{{.State.$1}}" $N; }
address() { c inspect -f '{{.NetworkSettings.IPAddress}}' $1; }
"#,
                include_str!("clients/daemons.sh")
            ),
            runtime: |kind| format!("io.containerd.{kind}.v2"),
            tested: &["myshim"],
            cgroup: concat!("/clients-", $name),
            loses: $loses,
        }
    };
}
pub(crate) use client;

/// Every case for both clients. `run` is `run` without a network, `up` the same detached, `c` the client itself; `$N` is the
/// container's name and `$I` the image (busybox).
///
/// nerdctl's logger ends with its container, whatever it has read by then: where `logs` is asked, the container lives on.
pub(crate) const CASES: &[Case] = &[
    // How it ends.
    Case::new("exit_codes", r#"for n in 0 1 3 125 126 127 128 137 255; do says run --rm $I sh -c "exit $n"; done"#),
    Case::new("no_such_program", "says run --rm $I nosuch; says run --rm $I /nosuch"),
    Case::new("not_a_program", "says run --rm $I /etc; says run --rm $I /etc/passwd"),
    Case::new("no_such_directory_is_made", "says run --rm -w /nosuch/at/all $I pwd"),
    Case::new("no_such_option", "says run --rm --nosuch $I true"),
    Case::new("a_signal_from_within", "says run --rm --pid host $I sh -c 'kill -SEGV $$'"),
    Case::new("a_signal_from_without", "up $I sleep 1000; c kill $N >&2; c wait $N; state ExitCode"),
    Case::new(
        "a_signal_that_it_handles",
        r#"
        up $I sh -c 'trap "echo hup; trap \"exit 7\" USR1" HUP; echo ready; while :; do sleep 0.05; done'
        until_is ready c logs $N; c kill -s HUP $N >&2; until_is $'ready\nhup' c logs $N; c kill -s USR1 $N >&2; c wait $N; c logs $N"#,
    ),
    Case::new(
        "rm_leaves_nothing",
        r#"
        id=$(run -d $I sleep 1000); served; c rm -f $N >&2; gone $id
        run --rm --cidfile id $I echo gone; gone $(cat id)"#,
    ),
    // What it says and hears.
    // A signal that nerdctl forwards may come too late: among the errors it says so itself.
    Case::new(
        "output_and_errors",
        "run --rm $I sh -c 'echo out; echo err >&2' 2>errors; sed -n '/^time=/!s/^/errors: /p' errors",
    ),
    Case::new("no_input", "says run --rm $I cat"),
    Case::new("input", "printf 'one\ntwo' | run -i --rm $I sh -c 'cat; echo; echo end'").says("one\ntwo\nend\n"),
    Case::new("much_input", "head -c 10000000 /dev/zero >sent; run -i --rm $I md5sum <sent"),
    Case::new(
        "much_through_an_exec",
        r#"
        up $I sleep 1000; head -c 10000000 /dev/urandom >sent; c exec -i $N cat <sent >back; cmp sent back && echo same
        c exec $N sh -c 'yes 0123456789abcde | head -n 1000000' | md5sum"#,
    ),
    Case::new(
        "a_client_that_is_killed",
        r#"
        run $I sh -c 'while :; do echo text; sleep 0.05; done' >said & type_after text ''; pkill -KILL -P $!; wait $! || true
        c exec $N echo lives; c kill $N >&2; until_is exited state Status; state ExitCode"#,
    ),
    Case::new(
        "a_terminal",
        "tty c run --rm -t --name $N --network none --runtime $RUNTIME $I sh -c 'tty; until stty size 2>/dev/null | grep 24; do sleep 0.01; done'",
    ),
    Case::new(
        "a_terminal_with_input",
        r#"
        type_after ready 'some text\n' | says tty c run --rm -it --name $N --network none --runtime $RUNTIME $I \
            sh -c 'stty -echo; echo ready; read a; echo "it heard $a"; exit 3' | tee said"#,
    ),
    Case::new(
        "a_terminal_detached_and_attached",
        r#"
        type_after ready '\x10\x11' | tty c run -it --label case=$N --name $N --network none --runtime $RUNTIME $I \
            sh -c 'stty -echo; echo ready; read a; echo "it heard $a"; exit 3' >said; state Status
        : >said; { until_is running state Status; sleep 0.3; printf 'text\n'; } | says tty c attach $N | grep -aoE 'it heard text|exit .'; state ExitCode"#,
    ),
    // Of which everything is closed for a while, as systemd does at boot.
    Case::new(
        "a_terminal_that_everybody_closes",
        r#"
        says tty c run --rm -t --name $N --network none --runtime $RUNTIME $I \
            sh -c 'echo one; exec </dev/null >/dev/null 2>&1; sleep 0.2; echo two >/dev/console; sleep 0.2; exec >/dev/console; echo three; exit 3'
        up $I sleep 1000; says tty c exec -t $N \
            sh -c 't=$(tty); echo one; exec </dev/null >/dev/null 2>&1; sleep 0.2; echo two >$t; sleep 0.2; exec >$t; echo three; exit 4'"#,
    ),
    Case::new(
        "systemd_and_a_login_on_its_console",
        r#"
        c image inspect lab.test/systemd:1 >/dev/null || { echo no systemd on this machine; exit; }
        type_after 'say something' 'some text\n' | says tty c run --rm -it --label case=$N --name $N --network none --runtime $RUNTIME --privileged \
            --tmpfs /run --tmpfs /tmp -e container=docker lab.test/systemd:1 | tee said | grep -aoE 'Welcome to|say something|it heard .*|exit .'"#,
    ),
    // Docker puts a file in the link's place.
    Case::new(
        "resolv_conf_is_a_dangling_link",
        r#"
        c run --rm --runtime $RUNTIME --dns 10.1.2.3 lab.test/dangling:1 sh -c '
        readlink /etc/resolv.conf; grep "^nameserver" /etc/resolv.conf; ls -R /run/systemd || true'"#,
    ),
    Case::new(
        "logs",
        r#"
        up $I sh -c 'for i in 1 2 3 4 5; do echo out $i; done; echo err >&2; exec sleep 1000'; until_is 6 eval 'c logs $N 2>&1 | wc -l'
        c logs $N 2>errors; sed 's/^/errors: /' errors; c logs --tail 2 $N 2>&1 | wc -l"#,
    ),
    Case::new(
        "logs_followed_to_the_end",
        r#"
        up $I sh -c 'echo ready; until [ -e /go ]; do sleep 0.05; done; for i in 1 2 3; do echo $i; done; exec sleep 1000'
        c logs -f $N >said & type_after ready ''; c exec $N touch /go; type_after 3 ''; c kill $N >&2; wait; cat said"#,
    ),
    Case::new(
        "logs_of_a_terminal",
        "up -t $I sh -c 'tty; echo on a terminal; exec sleep 1000'; until_is \"$(printf '/dev/pts/0\\r\\non a terminal\\r')\" c logs $N; c logs $N",
    ),
    // What is done to it while it runs.
    Case::new(
        "exec",
        r#"
        up $I sleep 1000; says c exec $N sh -c 'echo out; echo err >&2; exit 9'; says c exec $N nosuch | grep exit; says c exec $N /etc | grep exit
        c exec -u 1000:1001 -w /tmp -e COLOUR=blue $N sh -c 'id; pwd; echo $COLOUR'
        c exec -u www-data $N id; echo text | c exec -i $N cat; c exec $N cat /proc/1/comm; served"#,
    ),
    Case::new(
        "exec_with_a_terminal",
        r#"
        up $I sleep 1000; says tty c exec -t $N sh -c 'tty; until stty size 2>/dev/null | grep 24; do sleep 0.01; done; exit 4'
        type_after ready 'some text\n' | says tty c exec -it $N sh -c 'stty -echo; echo ready; read a; echo "it heard $a"; exit 6' | tee said"#,
    ),
    Case::new(
        "exec_detached",
        "up $I sleep 1000; c exec -d $N sh -c 'echo done >/said' >&2; until_is done c exec $N cat /said; c exec $N cat /said",
    ),
    Case::new(
        "exec_privileged",
        "up $I sleep 1000; c exec --privileged $N grep Cap /proc/self/status; c exec $N grep Cap /proc/self/status",
    ),
    Case::new(
        "exec_sees_what_the_container_has",
        r#"
        up -u 1000:1001 --group-add 44 --cap-add NET_RAW --ulimit nofile=77:88 -e A=b --hostname there $I sleep 1000
        c exec $N sh -c 'id; grep -E "^(Cap|NoNew|Seccomp)" /proc/self/status; ulimit -n; ulimit -Hn; env | sort; hostname'"#,
    ),
    Case::new(
        "execs_at_once",
        r#"
        up $I sleep 1000; for i in $(seq 16); do c exec $N echo $i >said.$i & done; wait; cat said.* | sort -n | tr '\n' ' '"#,
    ),
    Case::new(
        "stop",
        r#"
        up $I sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.05; done'
        until_is ready c logs $N; c stop $N >&2; state ExitCode"#,
    ),
    Case::new("stop_of_one_that_does_not_listen", "up $I sleep 1000; c stop -t 1 $N >&2; state ExitCode; state Status"),
    Case::new(
        "stop_signal",
        r#"
        up --stop-signal USR1 $I sh -c 'trap "exit 6" USR1; echo ready; while :; do sleep 0.05; done'
        until_is ready c logs $N; c stop $N >&2; state ExitCode"#,
    ),
    Case::new(
        "pause",
        r#"
        up $I sh -c 'while :; do echo >>/count; sleep 0.02; done'; until_is yes c exec $N sh -c 'test -s /count && echo yes'
        c pause $N >&2; state Status; says c exec $N true; c unpause $N >&2; state Status; c exec $N echo goes on"#,
    ),
    Case::new("stop_while_paused", "up $I sleep 1000; c pause $N >&2; c stop -t 1 $N >&2; state Status"),
    Case::new("rm_while_paused", "up $I sleep 1000; c pause $N >&2; says c rm -f $N >&2; says state Status"),
    Case::new(
        "restart",
        "up $I sh -c 'echo started; exec sleep 1000'; until_is started c logs $N; c restart -t 0 $N >&2; state Status; until_is $'started\\nstarted' c logs $N; c logs $N",
    ),
    Case::new(
        "create_and_start",
        "c create --name $N --label case=$N --network none --runtime $RUNTIME $I sh -c 'echo hi; exit 3' >&2; says c start -a $N; says c start -a $N",
    ),
    Case::new(
        "stats",
        "up $I sleep 1000; c stats --no-stream --format '{{.Name}} {{.PIDs}}' $N; c stats --no-stream --format '{{.MemUsage}}' $N | grep -o '/ .*'",
    ),
    Case::new(
        "top",
        "up $I sh -c 'sleep 1000 & exec sleep 2000'; until_is 2 c exec $N sh -c 'pgrep sleep | wc -l'; c top $N | awk '{print $NF}'",
    ),
    Case::new(
        "update",
        r#"
        up --memory 64m --cpu-shares 512 $I sleep 1000; files='memory/memory.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us'
        look() { for f in $files; do c exec $N cat /sys/fs/cgroup/$f; done; }
        look; c update --memory 96m --memory-swap 128m --cpu-shares 700 --cpu-quota 50000 $N >&2; look"#,
    ),
    Case::new(
        "update_to_too_little",
        "up $I sleep 1000; says c update --memory 1k $N; c exec $N cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
    ),
    Case::new(
        "cp",
        r#"
        up $I sleep 1000; echo in >file; mkdir -p dir/deep; echo deep >dir/deep/file; c cp file $N:/tmp/file; c cp dir $N:/tmp/
        c exec $N cat /tmp/file /tmp/dir/deep/file; c exec $N sh -c 'echo out >/tmp/out'; c cp $N:/tmp/out .; cat out"#,
    ),
    Case::new(
        "commit",
        r#"
        trap 'c rmi -f made/$N >/dev/null 2>&1 || true' EXIT
        up $I sh -c 'echo made >/made; exec sleep 1000'; until_is made c exec $N cat /made; c commit $N made/$N >&2
        c run --rm --network none --runtime $RUNTIME made/$N cat /made"#,
    ),
    Case::new("rename", "up $I sleep 1000; c rename $N $N-2; c exec $N-2 echo renamed; c rename $N-2 $N"),
    Case::new("wait_for_one_that_has_ended", "up $I sh -c 'exit 11'; c wait $N; c wait $N"),
    // What it is given.
    Case::new("what_it_sees", SEES_ITSELF),
    Case::new("what_a_privileged_one_sees", SEES_ALL),
    Case::new(
        "environment",
        "echo FROM=file >env; run --rm --hostname here -e A=1 -e B= -e 'C=two words' --env-file env $I env | sort",
    ),
    Case::new("environment_that_says_it_twice", "run --rm -e A=first -e A=second $I sh -c 'printenv A; env | grep -c ^A='"),
    Case::new(
        "entrypoint",
        "run --rm --entrypoint echo $I given; run --rm --entrypoint /bin/sh $I -c 'echo $0 $@' a b",
    ),
    Case::new("hostname", "run --rm --hostname there $I sh -c 'hostname; grep there /etc/hosts | wc -l'"),
    Case::new(
        "users",
        r#"
        for u in 1000 1000:1001 www-data www-data:5 nobody:users 0:7; do run --rm -u $u $I id; done
        run --rm -u 1000 --group-add 44 --group-add users $I id; says run --rm -u nosuch $I id"#,
    ),
    Case::new(
        "capabilities",
        r#"
        for o in '--cap-drop ALL' '--cap-add ALL' '--cap-drop ALL --cap-add NET_BIND_SERVICE' '--cap-drop CHOWN --cap-add SYS_PTRACE' '-u 1000 --cap-add NET_RAW'
        do run --rm $o $I grep Cap /proc/self/status; done; says run --rm --cap-add NOSUCH $I true"#,
    ),
    Case::new("no_new_privileges", "run --rm --security-opt no-new-privileges $I grep NoNewPrivs /proc/self/status"),
    Case::new(
        "seccomp",
        r#"
        echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}' >profile
        run --rm $I grep ^Seccomp /proc/self/status; run --rm --security-opt seccomp=unconfined $I grep ^Seccomp /proc/self/status
        run --rm --security-opt seccomp=profile $I sh -c 'mkdir /x 2>&1 || echo refused'; says run --rm $I unshare -m true"#,
    ),
    Case::new(
        "unmasked",
        "run --rm --security-opt systempaths=unconfined $I sh -c 'grep \" /proc\" /proc/self/mountinfo | wc -l; test -s /proc/timer_list; echo $?'",
    ),
    Case::new(
        "init",
        "run --rm --init $I sh -c 'cat /proc/1/comm; echo $PPID'; says run --rm --init $I sh -c 'exit 8'; says run --rm --init $I nosuch",
    ),
    Case::new(
        "ulimits",
        "run --rm --ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=500:600 $I sh -c 'cat /proc/self/limits'",
    ),
    Case::new(
        "ulimit_that_is_said_twice",
        "run --rm --ulimit nofile=2000:2000 --ulimit nofile=1000:1000 $I sh -c 'ulimit -n; ulimit -Hn'",
    ),
    Case::new("ulimit_above_the_hosts", "run --rm --ulimit nofile=100000:2000000 $I sh -c 'ulimit -n' || exit 1")
        .lacks(&[("", "no CAP_SYS_RESOURCE")]),
    Case::new(
        "sysctls",
        "run --rm --sysctl kernel.msgmax=7000 --sysctl net.ipv4.ip_forward=1 $I sysctl kernel.msgmax net.ipv4.ip_forward; says run --rm --sysctl kernel.panic=3 $I true",
    ),
    Case::new(
        "devices",
        r#"
        run --rm --device /dev/fuse $I sh -c 'ls -l /dev/fuse | cut -d" " -f1'; run --rm --device /dev/null:/dev/nil:r $I sh -c 'cat /dev/nil; echo x 2>&1 >/dev/nil || echo refused'
        says run --rm --device /dev/nosuch $I true"#,
    ),
    Case::new("shm_size", "run --rm --shm-size 7m $I df -k /dev/shm | tail -n 1 | awk '{print $2}'"),
    Case::new("oom_score_adj", "run --rm --oom-score-adj 500 $I cat /proc/self/oom_score_adj"),
    Case::new(
        "oom_score_adj_below_the_hosts",
        "run --rm --oom-score-adj=-900 $I cat /proc/self/oom_score_adj || exit 1",
    )
    .lacks(&[("", "no CAP_SYS_RESOURCE")]),
    Case::new(
        "limits",
        r#"
        run --rm --memory 64m --memory-reservation 32m --memory-swap 96m --cpus 0.5 --cpu-shares 300 --cpuset-cpus 0 --pids-limit 50 $I sh -c '
        cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.memsw.limit_in_bytes
        cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares cpuset/cpuset.cpus pids/pids.max'"#,
    ),
    Case::new(
        "more_processes_than_the_limit",
        "says run --rm --pids-limit 5 $I sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done'",
    ),
    Case::new(
        "cgroup_namespace_of_the_host",
        "run --rm --cgroupns host $I sh -c 'grep -c \"/\" /proc/self/cgroup; test $(readlink /proc/self/ns/cgroup) = '$(readlink /proc/self/ns/cgroup | sed 's/[][]/\\\\&/g')' && echo host'",
    ),
    // Files.
    Case::new(
        "read_only",
        "run --rm --read-only --tmpfs /t:size=64k,mode=1700 $I sh -c 'touch /x 2>&1; touch /t/x; stat -c %a /t; df -k /t | tail -n 1 | awk \"{print \\$2}\"'",
    ),
    Case::new(
        "binds",
        r#"
        mkdir dir; echo host >dir/file; run --rm -v $PWD/dir:/at -v $PWD/dir:/ro:ro -v $PWD/dir/file:/file $I sh -c '
        cat /at/file /file; echo inside >/at/new; touch /ro/x 2>&1; grep -E " /(at|ro|file) " /proc/self/mountinfo | cut -d" " -f5,6 | sort'; cat dir/new
        says run --rm -v $PWD/nosuch/$N:/at:ro $I ls -d /at"#,
    ),
    Case::new(
        "mount_options",
        r#"
        mkdir dir; run --rm --mount type=bind,source=$PWD/dir,target=/b,readonly,bind-propagation=rslave --mount type=tmpfs,target=/t,tmpfs-size=128k $I sh -c '
        grep -E " /(b|t) " /proc/self/mountinfo | cut -d" " -f5-7 | sed s/master:[0-9]*/master/; grep " /t " /proc/mounts | cut -d" " -f3-4'"#,
    ),
    Case::new(
        "volumes",
        r#"
        trap 'c rm -f $N >/dev/null 2>&1 || true; c volume rm $N >/dev/null 2>&1 || true' EXIT; c volume create $N >&2
        run --rm -v $N:/v $I sh -c 'echo kept >/v/file'; run --rm -v $N:/v:ro $I sh -c 'cat /v/file; touch /v/x 2>&1 || true'
        run --rm -v /etc $I sh -c 'test -s /etc/passwd && echo copied'"#,
    ),
    Case::new(
        "volumes_from",
        "up -v /shared $I sh -c 'echo theirs >/shared/file; exec sleep 1000'; until_is theirs c exec $N cat /shared/file; c run --rm --network none --runtime $RUNTIME --volumes-from $N $I cat /shared/file",
    ),
    // Namespaces.
    Case::new(
        "the_hosts_namespaces",
        r#"
        for n in pid ipc uts; do test "$(run --rm --$n host $I readlink /proc/self/ns/$n)" = "$(readlink /proc/self/ns/$n)" && echo $n; done
        test "$(c run --rm --network host --runtime $RUNTIME $I readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)" && echo net"#,
    ),
    Case::new(
        "another_ones_namespaces",
        r#"
        up --ipc shareable $I sleep 1000; own() { c exec $N readlink /proc/self/ns/$1; }; o="run --rm --runtime $RUNTIME"
        test "$(c $o --network none --pid container:$N $I readlink /proc/self/ns/pid)" = "$(own pid)" && echo pid
        test "$(c $o --network none --ipc container:$N $I readlink /proc/self/ns/ipc)" = "$(own ipc)" && echo ipc
        test "$(c $o --network container:$N $I readlink /proc/self/ns/net)" = "$(own net)" && echo net
        c $o --network none --pid container:$N $I ps -o pid,args | grep -c 'sleep 1000'"#,
    ),
    Case::new(
        "bridge",
        r#"
        c run -d --name $N --label case=$N --runtime $RUNTIME $I httpd -f -p 80 >&2; ip=$(address $N)
        c run --rm --runtime $RUNTIME $I sh -c "ping -c 1 -W 2 $ip >/dev/null && echo reached; wget -qO- http://$ip/nosuch 2>&1 | grep -o 404; ls /sys/class/net; grep -c nameserver /etc/resolv.conf""#,
    ),
    Case::new(
        "published_port",
        r#"
        c run -d --name $N --label case=$N --runtime $RUNTIME -p 127.0.0.1:18080:80 lab.test/nginx:1 >&2
        title() { busybox wget -qO- http://127.0.0.1:18080/ | head -n 3; }
        until_is '<h1>Welcome, nginx!</h1>' title; c port $N; title"#,
    ),
    Case::new(
        "own_network",
        r#"
        trap 'c rm -f $N >/dev/null 2>&1; c network rm $N >/dev/null 2>&1 || true' EXIT; c network create $N >&2
        c run -d --name $N --label case=$N --network $N --runtime $RUNTIME $I sleep 1000 >&2
        c run --rm --network $N --runtime $RUNTIME $I ping -c 1 -W 2 $N | grep -o '1 packets received'"#,
    ),
    Case::new(
        "dns_and_hosts",
        "c run --rm --runtime $RUNTIME --dns 10.1.2.3 --dns-search lab.test --add-host other:10.9.8.7 $I sh -c 'grep -v ^# /etc/resolv.conf; grep other /etc/hosts'",
    ),
    Case::new(
        "compose",
        r#"
        trap 'compose down -v >/dev/null 2>&1 || true' EXIT
        cat >compose.yaml <<END
        services:
          web: {image: lab.test/nginx:1, runtime: $RUNTIME, container_name: $N}
          worker: {image: $I, runtime: $RUNTIME, depends_on: [web], command: [sleep, "1000"], environment: [A=b], volumes: [kept:/kept]}
        volumes: {kept: {}}
END
        compose up -d >&2; served; compose ps --services | sort
        compose exec -T worker sh -c 'until wget -qO- http://web/ 2>/dev/null; do sleep 0.05; done; echo $A; ls -d /kept'
        id=$(c inspect -f '{{.Id}}' $N); compose down >&2; gone $id"#,
    )
    .lacks(&[("docker", "no docker-compose")]),
    // Without containerd for a while.
    Case::new(
        "without_containerd_it_runs_on",
        r#"
        up $I sh -c 'until [ -e /go ]; do sleep 0.05; done; exit 3'; pid=$(state Pid); down containerd; sleep 0.2; again
        state Status; [ $(state Pid) = $pid ] && served; reached; says c exec $N sh -c 'echo here; exit 4'; c exec $N touch /go; c wait $N; state ExitCode"#,
    )
    .alone(),
    Case::new(
        "without_containerd_it_stays_paused",
        r#"
        up $I sleep 1000; c pause $N >&2; down containerd; again; state Status; until c unpause $N >&2; do sleep 0.1; done; reached
        c exec $N echo goes on; c stop -t 1 $N >&2; state ExitCode"#,
    )
    .alone(),
];

/// What tells one container from another. `same` takes out what has to differ (ids, directories of layers) and what may:
/// how a masked directory is made read-only, and that runc leaves the directory of cgroup v1's hierarchies writable.
const SEES_ITSELF: &str = r#"
    run --rm --hostname here $I sh -c '
        grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[BC]|Umask)" /proc/self/status
        cut -d" " -f5- /proc/self/mountinfo | sort
        ls -l /dev | tr -s " " | cut -d" " -f1,3-6,10-
        cat /proc/self/limits /proc/self/oom_score_adj /proc/self/timerslack_ns /proc/self/cgroup /proc/self/attr/current
        pwd; id; env | sort; ls -l /proc/self/fd | wc -l' | same"#;

const SEES_ALL: &str = r#"
    run --rm --privileged --hostname here $I sh -c '
        grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[BC]|Umask)" /proc/self/status
        cut -d" " -f5- /proc/self/mountinfo | sort
        ls /dev
        mount -t tmpfs none /mnt && echo mounted
        mknod /tmp/d c 1 3 && echo made' | same"#;
