//! The session keyring: keyctl(2), for which no crate at hand has a face.

use nix::libc::{self, c_int};
use serde_json::{Value, json};

const KEY_SPEC_SESSION_KEYRING: c_int = -3;
const KEYCTL_GET_KEYRING_ID: c_int = 0;
const KEYCTL_DESCRIBE: c_int = 6;

/// Its serial number and `TYPE;UID;GID;PERMISSIONS;NAME`; null where there is none to be seen.
pub(crate) fn session() -> Value {
    let mut text = [0_u8; 512];
    // SAFETY: takes numbers.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) };
    // SAFETY: writes at most the buffer's length.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, id, text.as_mut_ptr(), text.len()) };
    let Ok(length) = usize::try_from(length) else { return Value::Null };
    let text = String::from_utf8_lossy(&text[..length.min(text.len())]);
    json!({ "id": id, "description": text.trim_end_matches('\0') })
}
