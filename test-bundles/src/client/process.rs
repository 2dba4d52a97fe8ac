//! One process of a task, init or an exec: the requests that are the same for both.

use anyhow::{Context, Result};
use containerd_client::services::v1 as api;
use containerd_client::types::v1 as types;

use super::Case;
use crate::stdio::Streams;

/// An exec and the test's ends of its stdio.
pub struct Exec<'c> {
    /// The process.
    pub process: Process<'c>,
    /// Its stdio.
    pub streams: Streams,
}

impl Exec<'_> {
    /// Starts it, reads its output to the end, waits, and deletes it. Returns exit status and output.
    pub async fn run(mut self) -> Result<(u32, String)> {
        self.process.start().await?;
        let output = self.streams.output.take();
        let status = self.process.wait().await?;
        let output = match output {
            Some(output) => output.text().await,
            None => String::new(),
        };
        self.process.delete().await?;
        Ok((status, output))
    }
}

/// A process of a task, by name: what is the same for init and execs.
pub struct Process<'c> {
    pub(super) case: &'c Case,
    pub(super) container_id: String,
    pub(super) exec_id: String,
}

impl Process<'_> {
    /// Starts it; returns its pid.
    pub async fn start(&self) -> Result<u32> {
        let request = api::StartRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        Ok(self.case.client().tasks().start(self.case.ask(request)).await?.into_inner().pid)
    }

    /// Waits for its exit.
    pub async fn wait(&self) -> Result<u32> {
        let request = api::WaitRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        Ok(self.case.client().tasks().wait(self.case.ask(request)).await?.into_inner().exit_status)
    }

    /// Sends it a signal.
    pub async fn kill(&self, signal: u32) -> Result<()> {
        let (container_id, exec_id) = (self.container_id.clone(), self.exec_id.clone());
        let request = api::KillRequest { container_id, exec_id, signal, all: false };
        self.case.client().tasks().kill(self.case.ask(request)).await?;
        Ok(())
    }

    /// Its state, as containerd tells it.
    pub async fn state(&self) -> Result<types::Process> {
        let request = api::GetRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        let answer = self.case.client().tasks().get(self.case.ask(request)).await?.into_inner();
        answer.process.context("an answer without a process")
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let (container_id, exec_id) = (self.container_id.clone(), self.exec_id.clone());
        let request = api::ResizePtyRequest { container_id, exec_id, width, height };
        self.case.client().tasks().resize_pty(self.case.ask(request)).await?;
        Ok(())
    }

    /// Tells the shim that no more input comes.
    pub async fn close_stdin(&self) -> Result<()> {
        let (container_id, exec_id) = (self.container_id.clone(), self.exec_id.clone());
        let request = api::CloseIoRequest { container_id, exec_id, stdin: true };
        self.case.client().tasks().close_io(self.case.ask(request)).await?;
        Ok(())
    }

    /// Deletes an exec that has ended; returns its exit status.
    pub async fn delete(&self) -> Result<u32> {
        let (container_id, exec_id) = (self.container_id.clone(), self.exec_id.clone());
        let request = api::DeleteProcessRequest { container_id, exec_id };
        Ok(self.case.client().tasks().delete_process(self.case.ask(request)).await?.into_inner().exit_status)
    }
}
