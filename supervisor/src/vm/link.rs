//! One control connection to a VM's agent: hello, then frames both ways.

use std::time::Duration;

use sealtune_wire::{
    frame::{CONTROL_LIMIT, HELLO_LIMIT},
    hello::{AgentHello, Answer, Magic, ProtocolRange, Purpose, SupervisorHello},
    v1::{ToAgent, ToSupervisor},
};
use tokio::{io::WriteHalf, sync::mpsc};

use super::{
    definition::VmDefinition,
    transport::{Connection, TransportError, read_frame, write_frame},
};

/// The agent answers a hello within this time, or the connection is given up.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Both sides ping every 10 s; silence for longer than this is a lost connection.
const SILENCE: Duration = Duration::from_secs(45);
const WRITE_TIME: Duration = Duration::from_secs(20);
/// Between attempts: short while a guest boots, since that is measured in seconds.
const BACK_OFF: Duration = Duration::from_millis(50);
const LONG_BACK_OFF: Duration = Duration::from_millis(500);
const SHORT_ATTEMPTS: usize = 100;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("connect to the agent: it refused with {0}")]
    Refused(String),
}

/// Opens a connection for `purpose`; the agent's answer says from which offset a stream goes on.
pub(crate) async fn open(
    definition: &VmDefinition,
    purpose: Purpose,
) -> Result<(Connection, AgentHello, u64), LinkError> {
    let mut connection = definition.address.connect().await?;
    let hello = SupervisorHello {
        magic: Magic::Sealtune,
        protocol: ProtocolRange::ours(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        token: definition.token,
        purpose,
    };
    let exchange = async {
        write_frame(&mut connection, &hello, HELLO_LIMIT).await?;
        read_frame::<AgentHello>(&mut connection, HELLO_LIMIT).await
    };
    let answer =
        tokio::time::timeout(HELLO_TIME, exchange).await.map_err(|_| TransportError::Timeout)??;
    match &answer.answer {
        Answer::Welcome { offset, .. } => {
            let offset = *offset;
            Ok((connection, answer, offset))
        }
        Answer::Refused { code } => Err(LinkError::Refused(code.clone())),
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    writer: WriteHalf<Connection>,
    incoming: mpsc::Receiver<ToSupervisor>,
}

impl Link {
    pub(crate) async fn open(
        definition: &VmDefinition,
        generation: u64,
        acknowledged: u64,
    ) -> Result<Self, LinkError> {
        let purpose = Purpose::Control { generation, acknowledged };
        let (connection, agent, _) = open(definition, purpose).await?;
        let (mut reader, writer) = tokio::io::split(connection);
        // A small queue: a guest that talks faster than its events can be stored has to wait.
        let (sender, incoming) = mpsc::channel(16);
        let vm = definition.id.clone();
        tokio::spawn(async move {
            loop {
                let next = read_frame::<ToSupervisor>(&mut reader, CONTROL_LIMIT);
                match tokio::time::timeout(SILENCE, next).await {
                    Ok(Ok(message)) => {
                        if sender.send(message).await.is_err() {
                            break;
                        }
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%vm, "control connection: {error}");
                        break;
                    }
                    Err(_) => {
                        tracing::warn!(%vm, "the agent was silent for {} s", SILENCE.as_secs());
                        break;
                    }
                }
            }
        });
        tracing::info!(
            vm = %definition.id,
            "connected to the agent, release {}, profile {:?}",
            agent.release.chars().take(32).collect::<String>(),
            agent.profile
        );
        Ok(Self { writer, incoming })
    }

    /// The next message, or `None` when the connection is gone.
    pub(crate) async fn receive(&mut self) -> Option<ToSupervisor> {
        self.incoming.recv().await
    }

    pub(crate) async fn send(&mut self, message: &ToAgent) -> Result<(), TransportError> {
        tokio::time::timeout(WRITE_TIME, write_frame(&mut self.writer, message, CONTROL_LIMIT))
            .await
            .map_err(|_| TransportError::Timeout)?
    }
}

/// The wait after so many failed attempts.
pub(crate) fn back_off(attempt: usize) -> Duration {
    if attempt < SHORT_ATTEMPTS { BACK_OFF } else { LONG_BACK_OFF }
}
