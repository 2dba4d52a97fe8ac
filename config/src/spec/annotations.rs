//! `annotations`, config.md "Annotations": kept as they are, in the order of their keys.

use std::collections::HashMap;

use crate::refuse::Refusal;

pub(super) fn resolve(annotations: Option<&HashMap<String, String>>) -> Result<Vec<(String, String)>, Refusal> {
    let mut list: Vec<_> = annotations.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    list.sort_unstable();
    match list.first() {
        Some((key, _)) if key.is_empty() => Err(Refusal::new("/", "an annotation's key must not be empty")),
        _ => Ok(list),
    }
}
