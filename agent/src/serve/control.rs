//! One control connection: reads frames for the hub, writes its messages and the outbox's events, pings.
//!
//! It ends when the peer goes or says nothing for 30 seconds, when the hub drops it for a newer one, or when the hub
//! closes it: then everything that is left is written first.

use std::time::Duration;

use sealtune_wire::frame::{self, CONTROL_LIMIT, FrameDecoder, FrameError};
use sealtune_wire::v1::{Outcome, ToAgent, ToSupervisor};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::listener::Connection;
use super::outbox::Outbox;
use super::state::ToHub;

const PING_EVERY: Duration = Duration::from_secs(10);
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// How long a peer may take to close what we have closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Box<ToSupervisor>),
    /// Write what is left, then wait for the peer to close.
    Close,
}

/// `link` tells this connection from others, whatever generation they claim.
pub(crate) async fn run(
    link: u64,
    mut connection: Connection,
    acknowledged: u64,
    outbox: Outbox,
    outgoing: mpsc::Receiver<Outgoing>,
    hub: mpsc::Sender<ToHub>,
) {
    if connection.welcome(0).await.is_ok() {
        let (reader, writer) = tokio::io::split(&mut connection.io);
        let reading = read(link, reader, &hub);
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => {}
            end = write(writer, acknowledged, &outbox, outgoing) => {
                if end == WriteEnd::Closed {
                    // What was written has arrived once the peer has closed; the hub waits no longer than it wants.
                    let _ = timeout(CLOSED_WITHIN, reading).await;
                }
            }
        }
    }
    let _ = hub.send(ToHub::Gone { link }).await;
}

async fn read(link: u64, mut reader: impl AsyncRead + Unpin, hub: &mpsc::Sender<ToHub>) {
    let mut decoder = FrameDecoder::new(CONTROL_LIMIT);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let Ok(Ok(count @ 1..)) = timeout(DEAD_AFTER, reader.read(&mut buffer)).await else {
            return;
        };
        decoder.push(&buffer[..count]);
        loop {
            match decoder.next_body() {
                Ok(None) => break,
                Ok(Some(body)) => {
                    let Ok(message) = frame::decode::<ToAgent>(&body) else { return };
                    if hub.send(ToHub::Heard { link, message }).await.is_err() {
                        return;
                    }
                }
                // A peer that breaks the framing cannot be understood any more.
                Err(_) => return,
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum WriteEnd {
    Closed,
    Broken,
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut sent: u64,
    outbox: &Outbox,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> WriteEnd {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    let mut nonce = 0;
    loop {
        let frame = tokio::select! {
            biased;
            next = outgoing.recv() => match next {
                Some(Outgoing::Message(message)) => encode(&message),
                Some(Outgoing::Close) => break,
                None => return WriteEnd::Broken,
            },
            _ = pings.tick() => {
                nonce += 1;
                encode(&ToSupervisor::Ping { nonce })
            }
            event = outbox.next_after(sent) => {
                sent = event.sequence;
                event.frame.to_vec()
            }
        };
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            return WriteEnd::Broken;
        }
    }
    while let Some(event) = outbox.peek_after(sent) {
        sent = event.sequence;
        if writer.write_all(&event.frame).await.is_err() {
            return WriteEnd::Broken;
        }
    }
    match writer.flush().await {
        Ok(()) => WriteEnd::Closed,
        Err(_) => WriteEnd::Broken,
    }
}

/// Everything that the hub sends is bounded below a frame's limit. What is not would be a bug: whoever waits for it is told,
/// the rest is left out.
fn encode(message: &ToSupervisor) -> Vec<u8> {
    let too_long = |error: FrameError| match message {
        ToSupervisor::Reply { id, .. } => {
            let outcome = Outcome::Error { code: error.code().to_owned() };
            frame::encode(&ToSupervisor::Reply { id: *id, outcome }, CONTROL_LIMIT)
        }
        _ => Err(error),
    };
    frame::encode(message, CONTROL_LIMIT).or_else(too_long).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use sealtune_wire::v1::{AgentReply, Evidence};

    use super::*;

    #[test]
    fn whoever_waits_for_too_long_an_answer_is_told() {
        let evidence = Evidence {
            tee: "dstack".into(),
            quote: String::new(),
            event_log: "[]".into(),
            claims: "x".repeat(CONTROL_LIMIT),
            gpu: vec![],
            dstack_log: None,
        };
        let outcome = Outcome::Ok(AgentReply::Evidence(evidence));
        let bytes = encode(&ToSupervisor::Reply { id: 7, outcome });
        let told: ToSupervisor = frame::decode(&bytes[4..]).unwrap();
        let outcome = Outcome::Error { code: "ST-WIRE-01".into() };
        assert_eq!(told, ToSupervisor::Reply { id: 7, outcome });
    }
}
