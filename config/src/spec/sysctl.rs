//! `linux.sysctl`, config-linux.md "Sysctl": names to paths below /proc/sys, and only those that are the container's own.
//!
//! Most of /proc/sys is the whole machine's. What may be set is what a namespace of the container has to itself; the rest
//! is refused. A namespace that is joined by path may turn out to be the one that the runtime is in: then it is not the
//! container's own.

use std::collections::HashMap;

use crate::container::{Namespace, NamespaceKind};
use crate::refuse::{Refusal, token};
use crate::spec::namespaces::has_own;

/// Resolves to (path below /proc/sys, value), in the order of the paths.
pub(crate) fn resolve(
    sysctl: Option<&HashMap<String, String>>,
    namespaces: &[Namespace],
) -> Result<Vec<(String, String)>, Refusal> {
    let mut list = Vec::new();
    // Sorted, so that of several faults always the same one is told.
    let mut given: Vec<_> = sysctl.into_iter().flatten().collect();
    given.sort_unstable();
    for (name, value) in given {
        let refuse = |reason: &str| Err(Refusal::new(token(name), reason));
        let path = path(name);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse("not the name of a sysctl");
        }
        if let Err(reason) = allowed(&path, namespaces) {
            return refuse(reason);
        }
        if list.iter().any(|(other, _)| *other == path) {
            return refuse("the same sysctl as another name given");
        }
        list.push((path, value.clone()));
    }
    list.sort_unstable();
    Ok(list)
}

/// The path below /proc/sys. By the rule of sysctl(8) the separator that comes first decides: a name that begins with
/// slashes is a path already; in one that begins with dots a slash stands for a dot within a part.
fn path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

/// Refuses what a namespace of the container does not have to itself.
fn allowed(path: &str, namespaces: &[Namespace]) -> Result<(), &'static str> {
    let needs = |kind, reason| if has_own(namespaces, kind) { Ok(()) } else { Err(reason) };
    match path {
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => needs(NamespaceKind::Ipc, "needs an ipc namespace other than the runtime's"),
        "kernel/domainname" => needs(NamespaceKind::Uts, "needs a uts namespace other than the runtime's"),
        "kernel/hostname" => Err("is what the field hostname is for"),
        _ if path.starts_with("fs/mqueue/") => {
            needs(NamespaceKind::Ipc, "needs an ipc namespace other than the runtime's")
        }
        _ if path.starts_with("net/") => {
            needs(NamespaceKind::Network, "needs a network namespace other than the runtime's")
        }
        _ if path.starts_with("user/") => needs(NamespaceKind::User, "needs a user namespace"),
        _ => Err("not in any namespace: it would change the whole machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn the_first_separator_decides() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("sem", "sem"),
            ("net.//.x", "net/../x"),
        ] {
            assert_eq!(path(name), expected, "{name}");
        }
    }
}
