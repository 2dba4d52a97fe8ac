//! UpdateSandbox as containerd 2.4 sends it: what has changed of the record that it keeps, and what of that a sandbox takes.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::sandbox_api::UpdateSandboxRequest;
use containerd_shim_protos::ttrpc::proto::Request;
use containerd_shim_protos::ttrpc::{self, Client, Code};

use crate::pod::{Pod, refusal};

impl Pod {
    /// Tells of changes in `fields`, by a request whose newer fields no generated message has.
    fn update(&self, id: &str, fields: &[&str]) -> ttrpc::Result<()> {
        let mut update = UpdateSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
        let newer = update.special_fields.mut_unknown_fields();
        newer.add_length_delimited(4, b"\x0a\x01x".to_vec());
        for field in fields {
            newer.add_length_delimited(5, field.as_bytes().to_vec());
        }
        self.send(&update)
    }

    fn send(&self, update: &UpdateSandboxRequest) -> ttrpc::Result<()> {
        let request = Request {
            service: "containerd.runtime.sandbox.v1.Sandbox".into(),
            method: "UpdateSandbox".into(),
            timeout_nano: 20_000_000_000,
            payload: update.write_to_bytes().unwrap(),
            ..Default::default()
        };
        Client::connect(self.address()).unwrap().request(request).map(drop)
    }
}

#[test]
fn a_record_may_change_in_what_nothing_follows_from() {
    let (pod, _) = Pod::ready(&super::plain());
    for fields in [&["extensions"][..], &["labels"], &["extensions.updated-resources", "labels.a.b"]] {
        pod.update(&pod.id, fields).unwrap();
    }
    pod.shutdown();
}

#[test]
fn what_a_sandbox_was_made_of_stays_and_the_field_is_named() {
    let (pod, _) = Pod::ready(&super::plain());
    for (fields, named) in [
        (&["spec"][..], "update spec of a sandbox"),
        (&["labels", "runtime.options"], "update runtime.options of a sandbox"),
        (&["labelsx"], "update labelsx of a sandbox"),
        (&[], "update all of a sandbox"),
    ] {
        let (code, text) = refusal(pod.update(&pod.id, fields));
        assert_eq!(code, Code::UNIMPLEMENTED);
        assert!(text.contains(named), "{text}");
    }
    let mut number = UpdateSandboxRequest { sandbox_id: pod.id.clone(), ..Default::default() };
    number.special_fields.mut_unknown_fields().add_varint(5, 1);
    assert_eq!(refusal(pod.send(&number)).0, Code::INVALID_ARGUMENT);
    pod.shutdown();
}

#[test]
fn another_sandbox_is_not_there() {
    let pod = Pod::new();
    assert_eq!(refusal(pod.update(&pod.id, &["labels"])).0, Code::NOT_FOUND);
    pod.sandbox.create_sandbox(super::limit(), &pod.request(&super::plain())).unwrap();
    pod.update(&pod.id, &["labels"]).unwrap();
    assert_eq!(refusal(pod.update("other", &["labels"])).0, Code::NOT_FOUND);
    pod.shutdown();
}
