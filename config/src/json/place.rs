//! From a line and a column, where `serde_json` has stopped, to the JSON pointer of the value that it could not take.
//!
//! It stops behind a scalar that is wrong, before an array or object that should be something else, and behind an object that
//! lacks a member. (The crate that tracks the path while it reads would have all that reads a document in the program twice.)

use crate::refuse::token;

/// What encloses a place.
enum Inside {
    /// An object: the member, once its name was read.
    Object(Option<String>),
    /// An array: which element.
    Array(usize),
}

/// The pointer (RFC 6901) of the value at `line` and `column`, both counted from 1, the column in bytes.
pub(super) fn pointer(text: &[u8], line: usize, column: usize) -> String {
    let before: usize = text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let text = text.get(..before + column).unwrap_or(text);
    let mut inside: Vec<Inside> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let mut length = 1;
        match (byte, inside.last_mut()) {
            (b'{', _) => inside.push(Inside::Object(None)),
            (b'[', _) => inside.push(Inside::Array(0)),
            (b'}' | b']', _) => _ = inside.pop(),
            (b',', Some(Inside::Object(member))) => *member = None,
            (b',', Some(Inside::Array(element))) => *element += 1,
            (b'"', enclosing) => {
                length = string(&text[at..]);
                if let Some(Inside::Object(member @ None)) = enclosing {
                    *member = serde_json::from_slice(&text[at..at + length]).ok();
                }
            }
            _ => {}
        }
        at += length;
    }
    let tokens = inside.iter().map(|inside| match inside {
        Inside::Object(member) => member.as_deref().map(token).unwrap_or_default(),
        Inside::Array(element) => format!("/{element}"),
    });
    tokens.collect()
}

/// How long the string is that `text` begins with, quotes included.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}
