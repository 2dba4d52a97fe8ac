//! nerdctl with runc and with this shim.

#![allow(clippy::needless_raw_string_hashes, reason = "a quote more in a script is no reason to change its frame")]

#[path = "clients/containers.rs"]
mod containers;

use std::process::ExitCode;

use test_bundles::oracle::{self, Case, Client};

const NERDCTL: Client = containers::client!("nerdctl", "nerdctl -n clients-nerdctl", "c compose", loses: true);

/// What Docker says otherwise or not at all.
const CASES: &[Case] = &[
    // containerd's monitor looks every ten seconds, and would start what nerdctl is about to start itself.
    Case::new(
        "restart_policy",
        r#"
        up $I sh -c 'echo >>/starts; test -e /go && exec sleep 1000; until [ -e /go ]; do sleep 0.05; done; exit 3'
        c update --restart always $N >&2; touch /proc/$(state Pid)/root/go; until_is '2 /starts' c exec $N wc -l /starts; echo again; served"#,
    ),
    Case::new(
        "healthcheck",
        r#"
        up --health-cmd 'test -e /well' --health-interval 0 $I sleep 1000
        says c container healthcheck $N; c exec $N touch /well; says c container healthcheck $N"#,
    ),
    Case::new("more_memory_than_the_limit", "run -d --memory 16m --memory-swap 16m $I memhog 64 >&2; c wait $N"),
    Case::new("rootfs", "mkdir root; cp -r /bin/busybox root/; run --rm --rootfs $PWD/root /busybox ls /"),
    Case::new("umask_and_annotations", "run --rm --umask 077 --annotation a=b $I sh -c umask"),
    Case::new(
        "fifty_execs_and_their_output",
        r#"
        up $I sleep 1000; for i in $(seq 50); do c exec $N sh -c "head -c 100000 /dev/zero | tr '\\0' $((i % 10)) | md5sum" >said.$i & done; wait
        cat said.* | sort | uniq -c"#,
    ),
    Case::new(
        "a_logger_that_is_killed",
        r#"
        up $I sh -c 'while :; do echo text; sleep 0.05; done'; id=$(c inspect -f '{{.Id}}' $N)
        until_is yes eval 'test -n "$(c logs $N)" && echo yes'
        for p in $(pgrep -f _NERDCTL_INTERNAL_LOGGING); do
            ! grep -qz "CONTAINER_ID=$id" /proc/$p/environ || { kill -9 $p; echo killed; }
        done
        c exec $N echo lives; c stop -t 1 $N >&2; state ExitCode"#,
    ),
    // Docker never hears of an end that it has missed.
    Case::new(
        "without_containerd_it_ends",
        r#"
        up $I sh -c 'echo >>/starts; exec sleep 1000'; id=$(c inspect -f '{{.Id}}' $N) pid=$(state Pid); down containerd; kill -9 $pid
        while [ -e /proc/$pid/exe ]; do sleep 0.05; done; again; c start $N >&2; served; c exec $N wc -l /starts; c rm -f $N >&2; gone $id"#,
    )
    .alone(),
    Case::new(
        "without_containerd_it_ends_and_is_restarted",
        r#"
        up $I sleep 1000; c update --restart always $N >&2; pid=$(state Pid); down containerd; kill -9 $pid; again
        until [ $(state Pid) != $pid ] && [ $(state Status) = running ]; do sleep 0.1; done; c exec $N echo again; served"#,
    )
    .alone(),
];

fn main() -> ExitCode {
    oracle::run(NERDCTL, &[containers::CASES, CASES].concat())
}
