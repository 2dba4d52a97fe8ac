//! nerdctl with runc and with this shim.

#![allow(clippy::needless_raw_string_hashes, reason = "a quote more in a script is no reason to change its frame")]

#[path = "clients/containers.rs"]
mod containers;

use std::process::ExitCode;

use test_bundles::oracle::{self, Case, Client};

const NERDCTL: Client = containers::client!("nerdctl", "nerdctl -n clients-nerdctl");

/// What Docker says otherwise or not at all.
const CASES: &[Case] = &[
    Case::new(
        "compose",
        r#"
        trap 'c compose -f compose.yaml down -v >/dev/null 2>&1 || true' EXIT
        cat >compose.yaml <<END
        services:
          web: {image: lab.test/nginx:1, runtime: $RUNTIME, container_name: $N}
          worker: {image: $I, runtime: $RUNTIME, depends_on: [web], command: [sleep, "1000"], environment: [A=b], volumes: [kept:/kept]}
        volumes: {kept: {}}
END
        c compose -f compose.yaml up -d >&2; served; c compose -f compose.yaml ps --services | sort
        c compose -f compose.yaml exec -T worker sh -c 'wget -qO- http://web/; echo $A; ls -d /kept'
        id=$(c inspect -f '{{.Id}}' $N); c compose -f compose.yaml down >&2; gone $id"#,
    ),
    // containerd's monitor looks every ten seconds.
    Case::new(
        "restart_policy",
        r#"
        up --restart always $I sh -c 'echo started; sleep 0.1; exit 3'
        until_is yes eval 'test $(c logs $N | grep -c started) -ge 2 && echo yes'; echo again; served"#,
    ),
    Case::new(
        "healthcheck",
        r#"
        up --health-cmd 'test -e /well' --health-interval 0 $I sleep 1000
        says c container healthcheck $N; c exec $N touch /well; says c container healthcheck $N"#,
    ),
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
];

fn main() -> ExitCode {
    oracle::run(NERDCTL, &[containers::CASES, CASES].concat())
}
