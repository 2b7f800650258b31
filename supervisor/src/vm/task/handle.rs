//! What others have of a VM's task: its commands, and the line of those who wait for its evidence.

use std::{sync::Arc, time::Duration};

use sealtune_job::JobId;
use sealtune_wire::v1::{AgentReply, AgentRequest};
use tokio::sync::{mpsc, oneshot};

use crate::api::quotes::VmLine;

/// For answers that take the agent no work.
const ANSWER_TIME: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) enum VmCommand {
    Request { request: AgentRequest, reply: oneshot::Sender<Result<AgentReply, RequestError>> },
    Stop,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("reach the agent: the VM is not ready")]
    NotReady,
    #[error("reach the agent: the connection was lost")]
    Lost,
    #[error("get an answer: the agent did not give one in its time")]
    Silent,
    #[error("get an answer: the agent refused with {0}")]
    Refused(String),
}

/// A handle to a running VM's task.
#[derive(Debug, Clone)]
pub(crate) struct VmHandle {
    pub(crate) job: Option<JobId>,
    /// Unix milliseconds.
    pub(crate) started: i64,
    pub(crate) commands: mpsc::Sender<VmCommand>,
    /// Who waits for its evidence.
    pub(crate) line: Arc<VmLine>,
}

impl VmHandle {
    pub(crate) async fn request(&self, request: AgentRequest) -> Result<AgentReply, RequestError> {
        // As long as the agent gives itself, and then some: one that is not waited for would go on all the same.
        let patience = match request {
            AgentRequest::Evidence { .. } => self.line.answer(),
            _ => ANSWER_TIME,
        };
        let (reply, answer) = oneshot::channel();
        let command = VmCommand::Request { request, reply };
        let asked = async {
            self.commands.send(command).await.map_err(|_| RequestError::Lost)?;
            answer.await.map_err(|_| RequestError::Lost)?
        };
        let answer = tokio::time::timeout(patience, asked).await;
        self.line.set_silent(answer.is_err());
        answer.map_err(|_| RequestError::Silent)?
    }
}
