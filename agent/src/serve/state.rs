//! The hub: the one task that owns what the agent is and does. Connections and jobs send it messages; it waits for none
//! of them.
//!
//! ```text
//! AwaitingLaunch --launch--> Checking --passed--> Ready(machine, key, job?)
//!        ^-- wrong token --------'  '--- anything else ---> event Fatal, end
//! ```
//! The end is always a power-off: after a shutdown request, a fatal error, or ten minutes without a control connection
//! while no job runs.

mod requests;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_job::Hex;
use sealtune_seal::RecipientKeyPair;
use sealtune_wire::v1::{
    AgentEvent, AgentReply, Launched, Outcome, OutsidePurpose, ToAgent, ToSupervisor,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::control::{self, Outgoing};
use super::error::ServeError;
use super::evidence::{Made, Offers};
use super::job::JobHandle;
use super::launch;
use super::listener::{Connection, StreamPeer, Wanted};
use super::machine::{Machine, Places, kernel_release, resident_kib, uptime_ms};
use super::outbox::Outbox;
use crate::tee::Tee;
#[cfg(feature = "simulated-tee")]
use crate::tee::simulated::HostCall;

const IDLE_LIMIT: Duration = Duration::from_secs(600);
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// How long the end waits for the peer to have read the last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
const OUTGOING_MESSAGES: usize = 256;

#[derive(Debug)]
pub(crate) enum ToHub {
    Control {
        connection: Connection,
        token_hash: [u8; 32],
        generation: u64,
        acknowledged: u64,
    },
    Stream {
        connection: Connection,
        token_hash: [u8; 32],
        stream: Hex<16>,
        offset: u64,
    },
    Heard {
        link: u64,
        message: ToAgent,
    },
    Gone {
        link: u64,
    },
    Checked(Box<Result<launch::Launched, (Tee, ServeError)>>),
    Made {
        link: u64,
        id: u64,
        purpose: OutsidePurpose,
        made: Box<Result<Made, ServeError>>,
    },
    Want(Wanted),
    #[cfg(feature = "simulated-tee")]
    Ask(HostCall),
}

#[derive(Debug)]
enum Stage {
    AwaitingLaunch(Tee),
    Checking {
        bytes: Vec<u8>,
        link: u64,
        waiting: Vec<(u64, u64)>,
    },
    Ready(Box<Ready>),
    /// A launch that failed; nothing is answered any more.
    Failed,
}

#[derive(Debug)]
struct Ready {
    machine: Arc<Machine>,
    /// Taken, and so erased, by the first job.
    hpke: Option<RecipientKeyPair>,
    offers: Offers,
    job: Option<JobHandle>,
}

#[derive(Debug)]
struct Link {
    number: u64,
    generation: u64,
    token_hash: [u8; 32],
    outgoing: mpsc::Sender<Outgoing>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    stage: Stage,
    places: Arc<Places>,
    outbox: Outbox,
    messages: mpsc::Receiver<ToHub>,
    /// For those who send to the hub.
    address: mpsc::Sender<ToHub>,
    link: Option<Link>,
    links: u64,
    /// Since when there is no control connection.
    alone_since: Instant,
    wanted: HashMap<Hex<16>, mpsc::Sender<StreamPeer>>,
    #[cfg(feature = "simulated-tee")]
    host_calls: super::host_calls::HostCalls,
    listening_ms: u64,
    ending: Option<(ExitCode, Instant)>,
}

impl Hub {
    pub(crate) fn new(
        tee: Tee,
        places: Places,
        messages: mpsc::Receiver<ToHub>,
        address: mpsc::Sender<ToHub>,
    ) -> Self {
        Self {
            stage: Stage::AwaitingLaunch(tee),
            places: Arc::new(places),
            outbox: Outbox::default(),
            messages,
            address,
            link: None,
            links: 0,
            alone_since: Instant::now(),
            wanted: HashMap::new(),
            #[cfg(feature = "simulated-tee")]
            host_calls: super::host_calls::HostCalls::default(),
            listening_ms: uptime_ms(),
            ending: None,
        }
    }

    pub(crate) async fn run(mut self) -> ExitCode {
        loop {
            if let Some((code, until)) = self.ending
                && (self.link.is_none() || Instant::now() >= until)
            {
                return code;
            }
            let deadline = self.deadline();
            let message = tokio::select! {
                message = self.messages.recv() => message,
                () = tokio::time::sleep_until(deadline) => None,
            };
            match message {
                Some(message) => self.handle(message).await,
                None if self.ending.is_none() && self.is_idle() => return ExitCode::SUCCESS,
                None => {}
            }
        }
    }

    fn deadline(&self) -> Instant {
        match self.ending {
            Some((_, until)) => until,
            // With a connection or a job nothing is due, and the look costs nothing.
            None => (self.alone_since + IDLE_LIMIT).max(Instant::now() + IDLE_LOOK),
        }
    }

    fn is_idle(&self) -> bool {
        self.link.is_none() && self.alone_since.elapsed() >= IDLE_LIMIT && !self.runs_a_job()
    }

    fn runs_a_job(&self) -> bool {
        matches!(&self.stage, Stage::Ready(ready) if ready.job.as_ref().is_some_and(JobHandle::is_running))
    }

    async fn handle(&mut self, message: ToHub) {
        match message {
            ToHub::Control { connection, token_hash, generation, acknowledged } => {
                self.meet(connection, token_hash, generation, acknowledged).await;
            }
            ToHub::Stream { connection, token_hash, stream, offset } => {
                self.connect_stream(connection, &token_hash, &stream, offset).await;
            }
            ToHub::Heard { link, message } => {
                if self.link.as_ref().is_some_and(|known| known.number == link) {
                    self.hear(link, message);
                }
            }
            ToHub::Gone { link } => {
                if self.link.as_ref().is_some_and(|known| known.number == link) {
                    self.link = None;
                    self.alone_since = Instant::now();
                }
            }
            ToHub::Checked(result) => self.launched(*result),
            ToHub::Made { link, id, purpose, made } => self.made(link, id, purpose, *made),
            ToHub::Want(wanted) => {
                self.wanted.retain(|_, peers| !peers.is_closed());
                self.wanted.insert(wanted.stream, wanted.peers);
            }
            #[cfg(feature = "simulated-tee")]
            ToHub::Ask(call) => {
                if let Some(request) = self.host_calls.ask(call) {
                    self.send(request);
                }
            }
        }
    }

    async fn meet(
        &mut self,
        connection: Connection,
        token_hash: [u8; 32],
        generation: u64,
        acknowledged: u64,
    ) {
        if !self.token_is_good(&token_hash) {
            return connection.refuse(&ServeError::Token).await;
        }
        if self.link.as_ref().is_some_and(|link| link.generation >= generation) {
            return connection.refuse(&ServeError::Generation).await;
        }
        self.links += 1;
        let number = self.links;
        let (sender, receiver) = mpsc::channel(OUTGOING_MESSAGES);
        // The older connection ends as its sender goes.
        self.link = Some(Link { number, generation, token_hash, outgoing: sender });
        self.outbox.acknowledge(acknowledged);
        let outbox = self.outbox.clone();
        let from = acknowledged.min(outbox.last());
        tokio::spawn(control::run(
            number,
            connection,
            from,
            outbox,
            receiver,
            self.address.clone(),
        ));
        #[cfg(feature = "simulated-tee")]
        for request in self.host_calls.open() {
            self.send(request);
        }
    }

    /// Before the launch the token is only remembered: the configuration will say which one is right.
    fn token_is_good(&self, token_hash: &[u8; 32]) -> bool {
        match &self.stage {
            Stage::Ready(ready) => {
                let expected = ready.machine.configuration.token_hash;
                launch::token_matches(expected.as_bytes(), token_hash)
            }
            _ => true,
        }
    }

    async fn connect_stream(
        &mut self,
        connection: Connection,
        token_hash: &[u8; 32],
        stream: &Hex<16>,
        offset: u64,
    ) {
        if !matches!(self.stage, Stage::Ready(_)) {
            return connection.refuse(&ServeError::BeforeLaunch).await;
        }
        if !self.token_is_good(token_hash) {
            return connection.refuse(&ServeError::Token).await;
        }
        let peer = StreamPeer { connection, offset };
        let (refused, error) = match self.wanted.get(stream) {
            Some(peers) => match peers.try_send(peer) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(peer)) => (peer, ServeError::BusyStream),
                Err(mpsc::error::TrySendError::Closed(peer)) => (peer, ServeError::UnknownStream),
            },
            None => (peer, ServeError::UnknownStream),
        };
        refused.connection.refuse(&error).await;
    }

    fn hear(&mut self, link: u64, message: ToAgent) {
        match message {
            ToAgent::Request { id, request } => self.request(link, id, request),
            #[cfg(feature = "simulated-tee")]
            ToAgent::Reply { id, outcome } => self.host_calls.answer(id, outcome),
            #[cfg(not(feature = "simulated-tee"))]
            ToAgent::Reply { .. } => {}
            ToAgent::Acknowledge { sequence } => self.outbox.acknowledge(sequence),
            ToAgent::Ping { nonce } => self.send(ToSupervisor::Pong { nonce }),
            ToAgent::Pong { .. } => {}
        }
    }

    fn launch(&mut self, link: u64, id: u64, text: &str) -> Result<(), ServeError> {
        let bytes = launch::decode(text)?;
        match &mut self.stage {
            Stage::Ready(ready) if ready.machine.configuration_bytes == bytes => {
                let reply = Outcome::Ok(AgentReply::Launched(self.about()?));
                self.reply(link, id, reply);
                Ok(())
            }
            Stage::Checking { bytes: checking, waiting, .. } if *checking == bytes => {
                waiting.push((link, id));
                Ok(())
            }
            Stage::Ready(_) | Stage::Checking { .. } | Stage::Failed => {
                Err(ServeError::SecondLaunch)
            }
            Stage::AwaitingLaunch(_) => {
                let checking =
                    Stage::Checking { bytes: bytes.clone(), link, waiting: vec![(link, id)] };
                let Stage::AwaitingLaunch(tee) = std::mem::replace(&mut self.stage, checking)
                else {
                    return Err(ServeError::SecondLaunch);
                };
                let token_hash = self.link.as_ref().map(|link| link.token_hash).unwrap_or_default();
                let (places, hub) = (Arc::clone(&self.places), self.address.clone());
                tokio::spawn(async move {
                    let result = launch::check(bytes, token_hash, tee, &places).await;
                    let _ = hub.send(ToHub::Checked(Box::new(result))).await;
                });
                Ok(())
            }
        }
    }

    fn launched(&mut self, result: Result<launch::Launched, (Tee, ServeError)>) {
        let Stage::Checking { waiting, link, .. } =
            std::mem::replace(&mut self.stage, Stage::Failed)
        else {
            return;
        };
        let outcome = match result {
            Ok(launched) => {
                self.stage = Stage::Ready(Box::new(Ready {
                    machine: Arc::new(launched.machine),
                    hpke: Some(launched.hpke),
                    offers: Offers::default(),
                    job: None,
                }));
                self.about().map(AgentReply::Launched)
            }
            Err((tee, ServeError::Token)) => {
                // Somebody who knows the configuration but not the token: turned away, and the real one may still come.
                self.stage = Stage::AwaitingLaunch(tee);
                Err(ServeError::Token)
            }
            Err((_, error)) => Err(error),
        };
        let outcome = match outcome {
            Ok(reply) => Outcome::Ok(reply),
            Err(error) => {
                eprintln!("{} failed to {error}", error.code());
                let code = error.code().to_owned();
                if matches!(self.stage, Stage::Failed) {
                    // Written before the end, so it cannot be too long.
                    let _ = self.outbox.push(AgentEvent::Fatal { code: code.clone() });
                }
                Outcome::Error { code }
            }
        };
        for (link, id) in waiting {
            self.reply(link, id, outcome.clone());
        }
        match self.stage {
            Stage::Failed => self.end(ExitCode::FAILURE),
            Stage::AwaitingLaunch(_) => {
                // Its last words are written, then it is gone.
                if let Some(known) = self.link.take_if(|known| known.number == link) {
                    let _ = known.outgoing.try_send(Outgoing::Close);
                    self.alone_since = Instant::now();
                }
            }
            _ => {}
        }
    }

    fn about(&self) -> Result<Launched, ServeError> {
        let ready = self.ready()?;
        Ok(Launched {
            instance: Hex(ready.machine.instance),
            listening_ms: self.listening_ms,
            rtmr3: ready.machine.rtmr3,
            resident_kib: resident_kib(),
            kernel: kernel_release(),
            ccel: ready.machine.boot_log.as_ref().map(|log| STANDARD.encode(log)),
        })
    }

    fn ready(&self) -> Result<&Ready, ServeError> {
        match &self.stage {
            Stage::Ready(ready) => Ok(ready),
            _ => Err(ServeError::BeforeLaunch),
        }
    }

    /// An answer to a connection that is gone is dropped: the supervisor asks again.
    fn reply(&mut self, link: u64, id: u64, outcome: Outcome<AgentReply>) {
        if self.link.as_ref().is_some_and(|known| known.number == link) {
            self.send(ToSupervisor::Reply { id, outcome });
        }
    }

    fn send(&mut self, message: ToSupervisor) {
        let Some(link) = &self.link else { return };
        // A peer that asks without reading the answers loses its connection, never the hub its time.
        if link.outgoing.try_send(Outgoing::Message(Box::new(message))).is_err() {
            self.link = None;
            self.alone_since = Instant::now();
        }
    }

    fn end(&mut self, code: ExitCode) {
        if let Some(link) = &self.link {
            let _ = link.outgoing.try_send(Outgoing::Close);
        }
        self.ending = Some((code, Instant::now() + LAST_WORDS));
    }
}
