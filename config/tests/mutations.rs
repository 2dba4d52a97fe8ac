//! No config.json makes the reader panic, and every refusal of one that is JSON points at something that is, or at its parent.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::common::{resolve, sample};

/// A change: the place, by its number among all places of the document, and what is put there; nothing takes it out.
type Change = (Index, Option<Value>);

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop_oneof![
            Just(""),
            Just("/"),
            Just(".."),
            Just("a\0"),
            Just("/proc/self/ns/net"),
            Just("rbind"),
            Just("a:b:c")
        ]
        .prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[], {}, "", 0])),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    (any::<Index>(), proptest::option::of(value()))
}

/// Pointers of all places of `value`.
fn places(value: &Value, at: &str, list: &mut Vec<String>) {
    list.push(at.to_owned());
    match value {
        Value::Array(items) => (0..).zip(items).for_each(|(index, item)| places(item, &format!("{at}/{index}"), list)),
        Value::Object(members) => {
            for (key, member) in members {
                places(member, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), list);
            }
        }
        _ => {}
    }
}

fn apply(spec: &mut Value, (place, value): Change) {
    let mut all = Vec::new();
    places(spec, "", &mut all);
    let pointer = place.get(&all);
    match (value, pointer.rsplit_once('/')) {
        (Some(value), _) => *spec.pointer_mut(pointer).expect("a place") = value,
        (None, Some((parent, token))) => match spec.pointer_mut(parent).expect("a parent") {
            Value::Object(members) => drop(members.remove(&token.replace("~1", "/").replace("~0", "~"))),
            Value::Array(items) => drop(items.remove(token.parse().expect("an index"))),
            _ => unreachable!("only arrays and objects have places in them"),
        },
        (None, None) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_change_is_taken_or_refused_by_its_place(
        name in proptest::sample::select(&["ctr-run", "docker-run", "runc-spec"][..]),
        changes in proptest::collection::vec(change(), 1..4),
    ) {
        let mut spec = sample(name);
        for change in changes {
            apply(&mut spec, change);
        }
        if let Err(refusal) = resolve(&spec) {
            let parent = refusal.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
            prop_assert!(spec.pointer(parent).is_some(), "{refusal}");
            prop_assert!(!refusal.reason.is_empty());
        }
    }
}
