//! Device rules: what every container may use, and the shortest list that says the same; runtime spec config-linux.md,
//! "Allowed Device list".

use config::resources::{DeviceRule, DeviceSet};

const ALL: u32 = DeviceSet::MKNOD | DeviceSet::READ | DeviceSet::WRITE;

/// Allowed in each container, after its own rules, as runc does: to make any node, to use the default devices (the console is
/// a pts), and, because clients cannot ask for it in any other way, /dev/net/tun.
const DEFAULT: [DeviceRule; 11] = [
    allow(false, None, None, DeviceSet::MKNOD),
    allow(true, None, None, DeviceSet::MKNOD),
    allow(false, Some(1), Some(3), ALL),    // null
    allow(false, Some(1), Some(8), ALL),    // random
    allow(false, Some(1), Some(7), ALL),    // full
    allow(false, Some(5), Some(0), ALL),    // tty
    allow(false, Some(1), Some(5), ALL),    // zero
    allow(false, Some(1), Some(9), ALL),    // urandom
    allow(false, Some(136), None, ALL),     // pts
    allow(false, Some(5), Some(2), ALL),    // ptmx
    allow(false, Some(10), Some(200), ALL), // net/tun
];

const fn allow(block: bool, major: Option<u32>, minor: Option<u32>, access: u32) -> DeviceRule {
    DeviceRule { allow: true, device: Some(DeviceSet { block, major, minor, access }) }
}

/// What `rules` mean for a container: it starts with nothing, its rules apply in order, the default ones follow. The first
/// rule of the answer is the one for all devices.
pub(super) fn effective(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let deny_all = DeviceRule { allow: false, device: None };
    let (first, rest) = match rules.iter().rposition(|rule| rule.device.is_none()) {
        // A rule for all devices leaves nothing of those before it.
        Some(last) => (rules[last], &rules[last + 1..]),
        None => (deny_all, rules),
    };
    let mut effective = vec![first];
    if first.allow && rest.is_empty() {
        return effective;
    }
    for rule in rest.iter().chain(&DEFAULT) {
        let said = effective.iter().rposition(|known| known == rule);
        let still_holds = said.is_some_and(|at| effective[at..].iter().all(|later| later.allow == rule.allow));
        if !still_holds {
            effective.push(*rule);
        }
    }
    effective
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_devices_need_one_rule() {
        let all = |allow| DeviceRule { allow, device: None };
        assert_eq!(effective(&[all(false), all(true)]), [all(true)]);
        let denied = effective(&[all(true), all(false)]);
        assert_eq!((denied[0], &denied[1..]), (all(false), DEFAULT.as_slice()));
        assert_eq!(effective(&[]), denied);
    }

    #[test]
    fn what_is_allowed_already_is_not_said_twice() {
        let disk = allow(true, Some(8), Some(0), DeviceSet::READ);
        let effective = effective(&[disk, DEFAULT[2], DEFAULT[3]]);
        assert_eq!(effective.len(), 1 + 1 + DEFAULT.len());
    }

    #[test]
    fn what_was_denied_comes_back_only_by_default() {
        let deny_null = DeviceRule { allow: false, ..DEFAULT[2] };
        let effective = effective(&[DEFAULT[2], deny_null]);
        assert_eq!(effective.iter().filter(|rule| **rule == DEFAULT[2]).count(), 2);
    }
}
