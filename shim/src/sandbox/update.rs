//! UpdateSandbox, which containerd calls since 2.4 when the record that it keeps of a sandbox has changed. The messages at hand
//! are older: the method is registered beside the generated ones, and of the request's new fields those are read that matter.
//!
//! ```text
//! message UpdateSandboxRequest {
//!   string sandbox_id = 1;
//!   containerd.types.Sandbox sandbox = 4;   the record as it is now
//!   repeated string fields = 5;             what has changed of it, by field paths; none is all of it
//! }
//! ```
//!
//! Labels and extensions are their owners', and nothing of a pod here follows from them. CRI has an extension for a pod's
//! resources, written when they change (UpdatePodSandboxResources). The kubelet has set the pod's cgroup before it asks for that,
//! and what is written is no limit: it is the sum of what those containers may use that have a limit, so that as one it would
//! end a container that has none. The rest of the record is what the sandbox was made of, which no running one can change.
//! Such an update is answered as containerd's documentation has it: "not implemented", with the field.

use async_trait::async_trait;
use containerd_shim_protos::protobuf::UnknownValueRef;
use containerd_shim_protos::sandbox_api::{UpdateSandboxRequest, UpdateSandboxResponse};
use runtime_core::{Error, Kind, Result};
use ttrpc::r#async::{MethodHandler, TtrpcContext};
use ttrpc::proto::{Request, Response};

use super::Sandbox;
use crate::error::status;

/// The method's name.
pub(super) const NAME: &str = "UpdateSandbox";

/// The number of `fields` in the request.
const FIELDS: u32 = 5;

/// What may change of a sandbox's record.
const CHANGEABLE: [&str; 2] = ["labels", "extensions"];

/// The method, as a ttrpc server has it.
#[derive(Clone)]
pub(super) struct Update {
    /// Whose record has changed.
    pub(super) service: Sandbox,
}

#[async_trait]
impl MethodHandler for Update {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        ttrpc::async_request_handler!(self, context, request, UpdateSandboxRequest, update_sandbox);
    }
}

impl Sandbox {
    #[allow(clippy::unused_async, reason = "the shape that the macro takes")]
    async fn update_sandbox(
        &self,
        _: &TtrpcContext,
        request: UpdateSandboxRequest,
    ) -> ttrpc::Result<UpdateSandboxResponse> {
        self.find(&request.sandbox_id)?;
        let fields = changed(&request).map_err(|error| status(&error))?;
        log::info!("the record of sandbox {} has changed: {}", request.sandbox_id, fields.join(", "));
        Ok(UpdateSandboxResponse::new())
    }
}

/// The field paths that have changed, which are all such as may.
fn changed(request: &UpdateSandboxRequest) -> Result<Vec<&str>> {
    let unknown = request.special_fields.unknown_fields().iter();
    let fields = unknown.filter(|(number, _)| *number == FIELDS).map(|(_, field)| match field {
        UnknownValueRef::LengthDelimited(field) => std::str::from_utf8(field).ok(),
        _ => None,
    });
    let fields: Option<Vec<_>> = fields.collect();
    let fields = fields.ok_or_else(|| Error::new(Kind::Invalid, "fields: not a list of strings"))?;
    let may_change = |field: &&str| CHANGEABLE.contains(&field.split('.').next().unwrap_or_default());
    match fields.iter().find(|field| !may_change(field)) {
        None if !fields.is_empty() => Ok(fields),
        stays => {
            let field = stays.unwrap_or(&"all");
            let text = format!("update {field} of a sandbox: only its labels and extensions can change while it runs");
            Err(Error::new(Kind::Unimplemented, text))
        }
    }
}
