//! Where connections come in: the host alone, few at a time, each with its first message within five seconds.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use sealtune_job::Hex;
use sealtune_wire::frame::{self, HELLO_LIMIT};
use sealtune_wire::hello::{
    AgentHello, Answer, Magic, Profile, ProtocolRange, Purpose, SupervisorHello,
};
use sealtune_wire::{AGENT_PORT, HOST_CID};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use super::error::ServeError;
use super::state::ToHub;

const HELLO_DEADLINE: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 8;

/// A byte stream both ways: vsock, a unix socket, or a test's pipe.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection whose first message was understood and not answered yet.
pub(crate) struct Connection {
    pub(crate) io: Box<dyn Io>,
    protocol: u16,
    /// Counts the connection until it is dropped.
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Connection {
    #[cfg(test)]
    pub(crate) fn of(io: impl Io + 'static) -> Self {
        let places = Arc::new(Semaphore::new(1));
        let permit = places.try_acquire_owned().unwrap();
        Self { io: Box::new(io), protocol: 1, _permit: permit }
    }

    pub(crate) async fn welcome(&mut self, offset: u64) -> std::io::Result<()> {
        let answer = Answer::Welcome { protocol: self.protocol, offset };
        answer_hello(&mut self.io, answer).await
    }

    /// The peer learns the code; whether it does is its own affair.
    pub(crate) async fn refuse(mut self, error: &ServeError) {
        refuse(&mut self.io, error).await;
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Vsock,
    #[cfg(feature = "simulated-tee")]
    Unix(std::path::PathBuf),
}

/// Accepts for ever; ends only where the kernel refuses to listen or to accept.
pub(crate) async fn listen(transport: Transport, hub: mpsc::Sender<ToHub>) -> ServeError {
    let door = Door::new(hub);
    match transport {
        Transport::Vsock => {
            let address = VsockAddr::new(VMADDR_CID_ANY, AGENT_PORT);
            let listener = match VsockListener::bind(address) {
                Ok(listener) => listener,
                Err(error) => return ServeError::Listen(error),
            };
            loop {
                match listener.accept().await {
                    // Nothing in the guest and no other guest may talk to the agent.
                    Ok((_, peer)) if peer.cid() != HOST_CID => {}
                    Ok((stream, _)) => door.open(stream).await,
                    Err(error) => return ServeError::Listen(error),
                }
            }
        }
        #[cfg(feature = "simulated-tee")]
        Transport::Unix(path) => {
            let listener = match tokio::net::UnixListener::bind(&path) {
                Ok(listener) => listener,
                Err(error) => return ServeError::Listen(error),
            };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => door.open(stream).await,
                    Err(error) => return ServeError::Listen(error),
                }
            }
        }
    }
}

/// Lets at most eight connections in at once.
#[derive(Debug)]
pub(crate) struct Door {
    hub: mpsc::Sender<ToHub>,
    places: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(hub: mpsc::Sender<ToHub>) -> Self {
        Self { hub, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    pub(crate) async fn open(&self, mut io: impl Io + 'static) {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(greet(Box::new(io), permit, self.hub.clone()));
            }
            Err(_) => refuse(&mut io, &ServeError::TooManyConnections(MAX_CONNECTIONS)).await,
        }
    }
}

async fn greet(mut io: Box<dyn Io>, permit: OwnedSemaphorePermit, hub: mpsc::Sender<ToHub>) {
    let Ok(Some(hello)) = timeout(HELLO_DEADLINE, read_hello(&mut io)).await else {
        return refuse(&mut io, &ServeError::Hello).await;
    };
    let Some(protocol) = ProtocolRange::ours().common(hello.protocol) else {
        return refuse(&mut io, &ServeError::Version).await;
    };
    let connection = Connection { io, protocol, _permit: permit };
    let token_hash = sha256(&hello.token.0);
    let message = match hello.purpose {
        Purpose::Control { generation, acknowledged } => {
            ToHub::Control { connection, token_hash, generation, acknowledged }
        }
        Purpose::Stream { stream, offset } => {
            ToHub::Stream { connection, token_hash, stream, offset }
        }
    };
    // Fails only while the agent ends.
    let _ = hub.send(message).await;
}

/// Exactly one frame: what follows it belongs to the connection's purpose.
async fn read_hello(io: &mut Box<dyn Io>) -> Option<SupervisorHello> {
    let mut header = [0; 4];
    io.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; frame::body_length(header, HELLO_LIMIT).ok()?];
    io.read_exact(&mut body).await.ok()?;
    frame::decode(&body).ok()
}

async fn refuse(io: &mut (impl AsyncWrite + Unpin), error: &ServeError) {
    let answer = Answer::Refused { code: error.code().to_owned() };
    // A peer that does not read its refusal must not hold us up.
    let _ = timeout(Duration::from_secs(1), answer_hello(io, answer)).await;
}

async fn answer_hello(io: &mut (impl AsyncWrite + Unpin), answer: Answer) -> std::io::Result<()> {
    let hello = AgentHello {
        magic: Magic::Sealtune,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        profile: profile(),
        answer,
    };
    let frame = frame::encode(&hello, HELLO_LIMIT).map_err(std::io::Error::other)?;
    io.write_all(&frame).await?;
    io.flush().await
}

/// What kind of agent this is. What kind of image it runs in, its measurement says.
fn profile() -> Profile {
    if cfg!(feature = "simulated-tee") { Profile::Dev } else { Profile::Prod }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// A stream that the supervisor opened for a transfer that was asked for.
#[derive(Debug)]
pub(crate) struct StreamPeer {
    pub(crate) connection: Connection,
    /// Where an outgoing transfer goes on.
    pub(crate) offset: u64,
}

/// A transfer that was asked for, and who waits for it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) stream: Hex<16>,
    pub(crate) peers: mpsc::Sender<StreamPeer>,
}
