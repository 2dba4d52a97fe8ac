//! Between containerd's messages and our own values.

use std::path::PathBuf;

use config::resources::Resources;
use config::{Bundle, ContainerId, Process};
use containerd_shim_protos::api::{
    CreateTaskRequest, ExecProcessRequest, PidsResponse, ProcessInfo, ResizePtyRequest, StateRequest, StateResponse,
    Status as ApiStatus, UpdateTaskRequest,
};
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci;
use runtime_core::rootfs::RootfsMount;
use runtime_core::{Error, Kind, Result};

use crate::io::Streams;
use crate::options;
use crate::task::{Create, Pid, ProcessView, Status};

/// The type of [`oci::ProcessDetails`].
const PROCESS_DETAILS: &str = "containerd.runc.v1.ProcessDetails";

/// A Create request. What it asks for that we cannot do is refused here.
pub(super) fn create(request: CreateTaskRequest) -> Result<Create> {
    if !request.checkpoint.is_empty() {
        return Err(Error::new(Kind::Unimplemented, "restore from a checkpoint is not implemented by this shim"));
    }
    let rootfs = request.rootfs.iter().cloned();
    let rootfs = rootfs.map(|mount| RootfsMount {
        fs_type: mount.type_,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    });
    Ok(Create {
        id: ContainerId::new(&request.id)?,
        bundle: PathBuf::from(&request.bundle),
        rootfs: rootfs.collect(),
        streams: Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        },
        options: options::resolve(request.options.as_ref())?,
        pod: None,
        member: None,
        event: TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: MessageField::some(TaskIO {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
                ..Default::default()
            }),
            ..Default::default()
        },
    })
}

/// An Exec request: the exec's id, its process and its stdio.
pub(super) fn exec(request: ExecProcessRequest) -> Result<(String, Process, Streams)> {
    if request.exec_id.is_empty() {
        return Err(Error::new(Kind::Invalid, "an exec needs an id"));
    }
    let process = Bundle::process(&request.spec.value).map_err(|e| Error::from(e).context("process of the exec"))?;
    let streams =
        Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, terminal: request.terminal };
    Ok((request.exec_id, process, streams))
}

/// An Update request: `LinuxResources` as JSON. Annotations mean nothing to containerd's own shims either.
pub(super) fn resources(request: &UpdateTaskRequest) -> Result<Resources> {
    let Some(resources) = request.resources.as_ref() else {
        return Err(Error::new(Kind::Invalid, "an update needs resources"));
    };
    Bundle::resources(&resources.value).map_err(|e| Error::from(e).context("resources of the update"))
}

/// A signal's number; 0 probes.
pub(super) fn signal(number: u32) -> Result<i32> {
    match i32::try_from(number) {
        Ok(signal @ 0..=64) => Ok(signal),
        _ => Err(Error::new(Kind::Invalid, format!("signal {number}: none has this number"))),
    }
}

/// Rows and columns.
pub(super) fn size(request: &ResizePtyRequest) -> Result<(u16, u16)> {
    let fits = |number: u32| {
        let error = |_| Error::new(Kind::Invalid, format!("terminal size {}x{}", request.width, request.height));
        u16::try_from(number).map_err(error)
    };
    Ok((fits(request.height)?, fits(request.width)?))
}

/// The answer to State.
pub(super) fn state(request: StateRequest, bundle: &str, process: &ProcessView) -> StateResponse {
    let exit = *process.exit.borrow();
    let status = match process.status {
        Status::Created => ApiStatus::CREATED,
        Status::Running => ApiStatus::RUNNING,
        Status::Pausing => ApiStatus::PAUSING,
        Status::Paused => ApiStatus::PAUSED,
        Status::Stopped => ApiStatus::STOPPED,
    };
    StateResponse {
        // The process's own id, as containerd's own shims answer.
        id: if request.exec_id.is_empty() { request.id } else { request.exec_id.clone() },
        exec_id: request.exec_id,
        bundle: bundle.to_owned(),
        pid: process.pid.unsigned_abs(),
        status: status.into(),
        stdin: process.streams.stdin.clone(),
        stdout: process.streams.stdout.clone(),
        stderr: process.streams.stderr.clone(),
        terminal: process.streams.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| exit.at.into()).into(),
        ..Default::default()
    }
}

/// The answer to Pids; an exec's first process says which it is.
pub(super) fn pids(pids: Vec<Pid>) -> Result<PidsResponse> {
    let mut response = PidsResponse::new();
    for Pid { pid, exec_id } in pids {
        let mut process = ProcessInfo { pid: pid.unsigned_abs(), ..Default::default() };
        if let Some(exec_id) = exec_id {
            let details = oci::ProcessDetails { exec_id, ..Default::default() };
            let value = details.write_to_bytes();
            let value = value.map_err(|e| Error::new(Kind::System, format!("encode details of process {pid}: {e}")))?;
            let any = Any { type_url: PROCESS_DETAILS.to_owned(), value, ..Default::default() };
            process.info = MessageField::some(any);
        }
        response.processes.push(process);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(signal(0).unwrap(), 0);
        assert_eq!(signal(64).unwrap(), 64);
        assert_eq!(signal(65).unwrap_err().kind(), Kind::Invalid);
        let request = ResizePtyRequest { width: 80, height: 70_000, ..Default::default() };
        assert_eq!(size(&request).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn a_checkpoint_is_not_ignored() {
        let request = CreateTaskRequest { id: "c".into(), checkpoint: "/c".into(), ..Default::default() };
        assert_eq!(create(request).unwrap_err().kind(), Kind::Unimplemented);
        let request = CreateTaskRequest { id: "../c".into(), ..Default::default() };
        assert_eq!(create(request).unwrap_err().kind(), Kind::Invalid);
    }
}
