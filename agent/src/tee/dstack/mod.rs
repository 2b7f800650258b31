//! A guest of dstack: the CPU is asked through dstack's guest agent, on a unix socket.
//!
//! Both generations of that agent are spoken (`sealtune_evidence::dstack`). Its event log belongs to register 3, so the log
//! that goes out with a quote is the one of the same answer. The CPU measured no launch configuration of ours there:
//! what binds it are the claims and, where the guest agent can extend, the event `sealtune-launch`.
//!
//! Written from dstack's documentation; it has not run in a real dstack guest yet. No environment variable is read, so that
//! nobody leads it to a simulator.

mod exchange;
#[cfg(test)]
pub(crate) mod tests;

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use sealtune_evidence::Event;
use sealtune_evidence::dstack::{Generation, GuestAgentError, Information, Method, guest_agent};
use sealtune_evidence::event_log::Registers;
use sealtune_evidence::logs::DstackLog;
use sealtune_evidence::quote::without_padding;
use sealtune_wire::v1::{MAX_DSTACK_LOG_BYTES, Rtmr3};

use super::{TeeError, tdreport};

/// Where guest agents listen; the current generation first.
const SOCKETS: [(&str, Generation); 7] = [
    ("/var/run/dstack.sock", Generation::Current),
    ("/run/dstack.sock", Generation::Current),
    ("/var/run/dstack/dstack.sock", Generation::Current),
    ("/run/dstack/dstack.sock", Generation::Current),
    ("/var/run/tappd.sock", Generation::Tappd),
    ("/run/tappd.sock", Generation::Tappd),
    ("/var/run/dstack/tappd.sock", Generation::Tappd),
];

/// What is known of `EmitEvent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Untried,
    /// An event was taken: from now on a refusal is an error.
    Open,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Dstack {
    socket: PathBuf,
    generation: Generation,
    register: Register,
}

/// A quote and the log of the same moment.
#[derive(Debug)]
pub(crate) struct DstackQuote {
    pub(crate) quote: Vec<u8>,
    /// Verbatim.
    pub(crate) event_log: Vec<u8>,
}

impl Dstack {
    /// Whether a guest agent listens here. Sealtune's own image has none of these sockets.
    pub(crate) fn detect() -> Option<Self> {
        Self::detect_below(Path::new("/"))
    }

    fn detect_below(root: &Path) -> Option<Self> {
        SOCKETS.iter().find_map(|(path, generation)| {
            let socket = root.join(path.trim_start_matches('/'));
            let is_socket = std::fs::metadata(&socket).is_ok_and(|it| it.file_type().is_socket());
            is_socket.then(|| Self::at(socket, *generation))
        })
    }

    fn at(socket: PathBuf, generation: Generation) -> Self {
        Self { socket, generation, register: Register::Untried }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// A quote over exactly these bytes, with the log that leads to it. Whether it carries them is for the caller to see.
    pub(super) async fn quote(&self, report_data: &[u8; 64]) -> Result<DstackQuote, TeeError> {
        let body = match self.ask_quote(Method::Quote, report_data).await {
            Err(GuestAgentError::Missing(_)) if self.generation == Generation::Tappd => {
                self.ask_quote(Method::HashedQuote, report_data).await
            }
            other => other,
        }?;
        let report = guest_agent::read_quote(&body)?;
        let quote = without_padding(report.quote()).map_err(GuestAgentError::Quote)?;
        let registers = tdreport::quoted_registers(quote)
            .ok_or_else(|| GuestAgentError::Answer("the quote has no registers".into()))?;
        if report.event_log().len() > MAX_DSTACK_LOG_BYTES {
            return Err(GuestAgentError::Answer("its log is longer than 128 KiB".into()).into());
        }
        check_log(report.event_log(), &registers)?;
        Ok(DstackQuote { quote: quote.to_vec(), event_log: report.event_log().to_vec() })
    }

    /// Extends register 3 where the guest agent can. One that has no such method says so in a way of its generation: an
    /// unknown path, or a refusal of the first event.
    pub(super) async fn extend(&mut self, event: &Event) -> Result<Rtmr3, TeeError> {
        if self.register == Register::Closed {
            return Ok(Rtmr3::Unavailable);
        }
        let outcome = match self.generation.event_request(&event.name, &event.payload.0) {
            Ok(request) => self.ask(Method::EmitEvent, request).await,
            Err(error) => Err(error),
        };
        match (outcome, self.register) {
            (Ok(_), _) => {
                self.register = Register::Open;
                Ok(Rtmr3::Available)
            }
            (
                Err(GuestAgentError::Missing(_) | GuestAgentError::Refused { status: 400, .. }),
                Register::Untried,
            ) => {
                self.register = Register::Closed;
                Ok(Rtmr3::Unavailable)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Whether an event would be taken, without one.
    pub(crate) async fn can_extend(&self) -> Result<Rtmr3, TeeError> {
        let outcome = match self.generation.event_probe() {
            Ok(request) => self.ask(Method::EmitEvent, request).await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(GuestAgentError::Missing(_)) => Ok(Rtmr3::Unavailable),
            Ok(_) | Err(GuestAgentError::Refused { .. }) => Ok(Rtmr3::Available),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn information(&self) -> Result<Information, TeeError> {
        let body = self.ask(Method::Info, self.generation.info_request()?).await?;
        Ok(guest_agent::read_information(&body)?)
    }

    async fn ask_quote(
        &self,
        method: Method,
        report_data: &[u8; 64],
    ) -> Result<Vec<u8>, GuestAgentError> {
        self.ask(method, self.generation.quote_request(method, report_data)?).await
    }

    async fn ask(&self, method: Method, request: Vec<u8>) -> Result<Vec<u8>, GuestAgentError> {
        let response = exchange::exchange(&self.socket, &request).await?;
        guest_agent::granted(method, response)
    }
}

/// A log that does not lead to its quote would be refused by every verifier: better known here.
fn check_log(log: &[u8], registers: &Registers) -> Result<(), GuestAgentError> {
    DstackLog::parse(log)
        .and_then(|log| log.check_replay(registers))
        .map_err(GuestAgentError::LogOther)
}
