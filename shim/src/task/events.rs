//! What the lifecycle tells, as containerd's own messages (api/events/task.proto).

use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;

use crate::lifecycle::{Event, INIT};
use crate::publisher::Publisher;

/// Whom events are about, and where they go.
pub(super) struct Teller {
    /// The FIFO to containerd.
    pub(super) publisher: Publisher,
    /// The container's id.
    pub(super) container_id: String,
    /// The create event, all but the pid.
    pub(super) create: TaskCreate,
}

impl Teller {
    /// Queues `event` of process `id`.
    pub(super) fn tell(&self, id: &str, pid: i32, event: &Event) {
        let container_id = self.container_id.clone();
        let pid = pid.unsigned_abs();
        match event {
            Event::Create => self.publisher.publish(&TaskCreate { pid, ..self.create.clone() }),
            Event::ExecAdded => {
                self.publisher.publish(&TaskExecAdded { container_id, exec_id: id.to_owned(), ..Default::default() });
            }
            Event::Start if id == INIT => {
                self.publisher.publish(&TaskStart { container_id, pid, ..Default::default() });
            }
            Event::Start => {
                let exec_id = id.to_owned();
                self.publisher.publish(&TaskExecStarted { container_id, exec_id, pid, ..Default::default() });
            }
            Event::Oom => self.publisher.publish(&TaskOOM { container_id, ..Default::default() }),
            Event::Paused => self.publisher.publish(&TaskPaused { container_id, ..Default::default() }),
            Event::Resumed => self.publisher.publish(&TaskResumed { container_id, ..Default::default() }),
            Event::Exit(exit) => self.publisher.publish(&TaskExit {
                // Here init goes by the container's id.
                id: if id == INIT { container_id.clone() } else { id.to_owned() },
                container_id,
                pid,
                exit_status: exit.status,
                exited_at: MessageField::some(exit.at.into()),
                ..Default::default()
            }),
            Event::Delete(exit) => self.publisher.publish(&TaskDelete {
                container_id,
                pid,
                exit_status: exit.status,
                exited_at: MessageField::some(exit.at.into()),
                ..Default::default()
            }),
        }
    }
}
