//! Docker with runc and with this shim. Its daemon is the lab's, on the lab's containerd.

#![allow(clippy::needless_raw_string_hashes, reason = "a quote more in a script is no reason to change its frame")]

#[path = "clients/containers.rs"]
mod containers;

use std::process::ExitCode;

use test_bundles::oracle::{self, Case, Client};

const DOCKER: Client = containers::client!(
    "docker",
    "docker -H unix://$STATE/run/docker.sock",
    "DOCKER_HOST=unix://$STATE/run/docker.sock docker-compose",
    loses: false
);

/// What nerdctl says otherwise or not at all.
const CASES: &[Case] = &[
    // nerdctl hangs over more than a pipe holds, on runc too: its logger stops reading when the container ends.
    Case::new(
        "much_input_comes_back",
        r#"
        head -c 10000000 /dev/urandom >sent; run -i --rm $I cat <sent >back; cmp sent back && echo same"#,
    )
    .says("same\n"),
    Case::new("much_output", "run --rm $I sh -c 'yes 0123456789abcde | head -n 1000000' | md5sum")
        .says("39ae44bfc6d46172e94018f0914ad806  -\n"),
    // Through runc's shim the reason is lost now and then.
    Case::new(
        "more_memory_than_the_limit",
        "run -d --memory 16m --memory-swap 16m $I memhog 64 >&2; c wait $N; state OOMKilled",
    )
    .says("137\ntrue\n"),
    Case::new(
        "restart_policy",
        r#"
        up --restart on-failure:2 $I sh -c 'echo started; exit 3'
        until_is 'exited 2 3' c inspect -f '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}' $N; c logs $N"#,
    ),
    Case::new(
        "restart_policy_always",
        r#"
        up --restart always $I sh -c 'echo started; test -e /again && exec sleep 1000; touch /again; exit 3'
        until_is "$(printf 'started\nstarted')" c logs $N; until_is running state Status; served"#,
    ),
    Case::new(
        "healthcheck",
        r#"
        up --health-cmd 'test -e /well' --health-interval 200ms --health-retries 2 $I sleep 1000
        until_is unhealthy c inspect -f '{{.State.Health.Status}}' $N; c exec $N touch /well
        until_is healthy c inspect -f '{{.State.Health.Status}}' $N; echo healthy again"#,
    ),
    Case::new(
        "diff_and_export",
        r#"
        run $I sh -c 'echo new >/new; rm /etc/hostname 2>/dev/null; echo more >>/etc/group'; c diff $N | grep -v -e /dev -e /run | sort
        c export $N | tar -xO new"#,
    ),
    Case::new(
        "device_rules",
        r#"
        run --rm --device-cgroup-rule 'c 1:7 r' $I sh -c 'mknod /tmp/full c 1 7; head -c 3 /tmp/full | wc -c; mknod /tmp/mem c 1 1; cat /tmp/mem 2>&1 | head -c 100; true'"#,
    ),
    Case::new(
        "block_io",
        "run --rm --device-read-bps /dev/vda:1mb --blkio-weight 300 $I sh -c 'cat /sys/fs/cgroup/blkio/blkio.throttle.read_bps_device'",
    ),
    Case::new(
        "uts_and_domain",
        "run --rm --hostname here --domainname there.test $I sh -c 'hostname; cat /proc/sys/kernel/domainname'",
    ),
    Case::new(
        "stopped_and_started",
        r#"
        up $I sleep 1000; c stop -t 0 $N >&2; c start $N >&2; c exec $N echo again; state Status"#,
    ),
    Case::new(
        "sixty_four_execs_at_once",
        r#"
        up $I sleep 1000; for i in $(seq 64); do c exec $N sh -c "echo $i; exit $((i % 7))" >said.$i || echo $? >>said.$i & done; wait
        cat $(seq -f said.%g 64) | md5sum; served"#,
    ),
    // Without dockerd for a while, which is told to let containers live.
    Case::new(
        "without_dockerd_it_writes_on",
        r#"
        up $I sh -c 'seq 100; until [ -e /go ]; do sleep 0.05; done; seq 101 20000; exec sleep 1000'; until_is 100 eval 'c logs $N | wc -l'
        pid=$(state Pid); down dockerd; touch /proc/$pid/root/go; sleep 0.3; again; state Status; [ $(state Pid) = $pid ] && served
        until_is 20000 eval 'c logs $N | wc -l'; c logs $N | md5sum; says c exec $N sh -c 'echo here; exit 4'; c stop -t 1 $N >&2; state ExitCode"#,
    )
    .alone(),
    Case::new(
        "without_dockerd_it_stays_paused",
        r#"
        up $I sleep 1000; c pause $N >&2; down dockerd TERM; again; state Status; c unpause $N >&2; c exec $N echo goes on; c kill $N >&2; c wait $N"#,
    )
    .alone(),
    Case::new(
        "without_dockerd_it_ends",
        r#"
        up $I sh -c 'until [ -e /go ]; do sleep 0.05; done; echo last words; exit 5'; id=$(c inspect -f '{{.Id}}' $N) pid=$(state Pid); down dockerd
        touch /proc/$pid/root/go; while [ -e /proc/$pid/root/go ]; do sleep 0.05; done; again; until_is exited state Status; state ExitCode
        until_is 'last words' c logs $N; c logs $N; c rm $N >&2; gone $id"#,
    )
    .says("5\nlast words\ngone\n")
    .alone(),
    Case::new(
        "without_dockerd_a_terminal_stays",
        r#"
        up -it $I sh -c 'stty -echo; echo ready; read a; echo "it heard $a"; exit 3'; until_is $'ready\r' c logs $N; down dockerd; again; : >said
        { sleep 0.5; printf 'text\n'; } | says tty c attach $N | grep -aoE 'it heard text|exit .'; state ExitCode"#,
    )
    .alone(),
    Case::new(
        "without_dockerd_an_exec_runs_on",
        r#"
        up $I sleep 1000; c exec -d $N sh -c 'until [ -e /go ]; do sleep 0.05; done; echo went >/said; exec sleep 2000'; down dockerd; again
        c exec $N touch /go; until_is went c exec $N cat /said; until_is 1 eval "c exec $N ps -o args | grep -cx 'sleep 2000'"; c rm -f $N >&2; echo both end"#,
    )
    .alone(),
    Case::new(
        "without_dockerd_it_ends_and_is_restarted",
        r#"
        up --restart always $I sh -c 'echo started; exec sleep 1000'; pid=$(state Pid); down dockerd; kill -9 $pid; again
        until_is $'started\nstarted' c logs $N; until_is running state Status; served; c exec $N echo again"#,
    )
    .alone(),
    Case::new(
        "without_either_it_runs_on",
        r#"
        up $I sh -c 'until [ -e /go ]; do sleep 0.05; done; exit 3'; down containerd; again; down dockerd; again
        state Status; served; reached; c exec $N touch /go; c wait $N"#,
    )
    .alone(),
];

fn main() -> ExitCode {
    oracle::run(DOCKER, &[containers::CASES, CASES].concat())
}
