# For cases in which one of the lab's daemons, containerd or dockerd, goes away and comes back. Its pid is in a file.
down() { # DAEMON [SIGNAL]
    local pid; daemon=$1 pid=$(cat "$STATE/pid/$1")
    mapfile -d '' -t called <"/proc/$pid/cmdline"; mapfile -d '' -t environment <"/proc/$pid/environ"
    trap again EXIT
    kill -s "${2:-KILL}" "$pid"
    while grep -qs '^State:[^ZX]*$' "/proc/$pid/status"; do sleep 0.05; done
    [ "$1" = containerd ] || rm -f "$STATE/run/docker.pid" # of a zombie, too, it says that it runs
}
again() { # that one, as it was called; it answers then
    setsid env -i "${environment[@]}" sh -c 'echo $$ >"$0"; exec "$@"' "$STATE/pid/$daemon" "${called[@]}" \
        </dev/null >>"$STATE/log/$daemon.log" 2>&1 &
    trap - EXIT
    until ctr -a "$STATE/run/containerd.sock" version && { [ "$daemon" != dockerd ] || c version; } do sleep 0.05; done >/dev/null 2>&1
}
reached() { # whatever it takes the client's daemon to hear of ends again
    until timeout 3 bash -c 'c exec $N true'; do sleep 0.1; done >/dev/null 2>&1
}
