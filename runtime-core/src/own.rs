//! Where this program's own command line and environment lie, for its children to become other ones (see `init::sys`).

use std::fs;
use std::sync::OnceLock;

use init::step::OwnStrings;

/// Found once: they do not move.
pub(crate) fn strings() -> OwnStrings {
    static STRINGS: OnceLock<OwnStrings> = OnceLock::new();
    // Where they are not to be found they are shown as they are.
    *STRINGS.get_or_init(|| find().unwrap_or_default())
}

/// proc_pid_stat(5): `arg_start`, `arg_end`, `env_start` and `env_end` are fields 48 to 51.
fn find() -> Option<OwnStrings> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold anything; the 48th is the 46th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(45);
    let mut place = || fields.next()?.parse().ok();
    Some(OwnStrings { arguments: (place()?, place()?), environment: (place()?, place()?) })
}
