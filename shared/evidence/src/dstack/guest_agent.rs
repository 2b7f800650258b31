//! Requests to dstack's guest agent and its answers, in both generations.
//!
//! Every request is a POST of a JSON object to a path that names the method; bytes are lower-case hex. Success is 200,
//! anything else has `{"error": text}`. An answer to a request for a quote is a [`DstackReport`]: quote and event log of
//! one moment.

use serde::{Deserialize, Serialize};

use super::{
    error::GuestAgentError,
    http::{self, Response, StreamEnd},
};
use crate::appraise::DstackReport;

/// How much of a refusal's text is shown.
const MAX_REASON_CHARS: usize = 200;

/// Which guest agent listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// dstack 0.5 and later.
    Current,
    /// `tappd`, of dstack 0.3 and 0.4; current images have it beside the other.
    Tappd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A quote over 64 bytes as they are.
    Quote,
    /// The same in a `tappd` without `RawQuote`.
    HashedQuote,
    Info,
    /// Extends register 3; dstack 0.5 has it, later images do not.
    EmitEvent,
}

/// What the guest says of itself: nothing here is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Information {
    #[serde(default)]
    pub app_id: String,
    #[serde(default)]
    pub instance_id: String,
    #[serde(default)]
    pub app_name: String,
    #[serde(default)]
    pub compose_hash: String,
    #[serde(default)]
    pub os_image_hash: String,
}

#[derive(Serialize)]
struct QuoteRequest {
    report_data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'static str>,
}

#[derive(Serialize)]
struct EventRequest<'a> {
    event: &'a str,
    payload: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Generation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Tappd => "tappd",
        }
    }

    /// Where a method is; `None` where the generation has none of the kind.
    fn path(self, method: Method) -> Option<&'static str> {
        match (self, method) {
            (Self::Current, Method::Quote) => Some("/GetQuote"),
            (Self::Current, Method::Info) => Some("/Info"),
            (Self::Current, Method::EmitEvent) => Some("/EmitEvent"),
            (Self::Tappd, Method::Quote) => Some("/prpc/Tappd.RawQuote"),
            (Self::Tappd, Method::HashedQuote) => Some("/prpc/Tappd.TdxQuote"),
            (Self::Tappd, Method::Info) => Some("/prpc/Tappd.Info"),
            (Self::Current, Method::HashedQuote) | (Self::Tappd, Method::EmitEvent) => None,
        }
    }

    /// Asks for a quote over exactly these bytes; `method` is one of the two that make quotes.
    pub fn quote_request(
        self,
        method: Method,
        report_data: &[u8; 64],
    ) -> Result<Vec<u8>, GuestAgentError> {
        let hashed = method == Method::HashedQuote;
        let request = QuoteRequest {
            report_data: hex::encode(report_data),
            hash_algorithm: hashed.then_some("raw"),
            prefix: hashed.then_some(""),
        };
        self.request(method, &request)
    }

    pub fn info_request(self) -> Result<Vec<u8>, GuestAgentError> {
        self.request(Method::Info, &serde_json::Map::new())
    }

    /// Asks to extend register 3. The guest agent makes the digest, by the version that its compose file names.
    pub fn event_request(self, name: &str, payload: &[u8]) -> Result<Vec<u8>, GuestAgentError> {
        let payload = hex::encode(payload);
        self.request(Method::EmitEvent, &EventRequest { event: name, payload })
    }

    /// A request that every version with this method refuses for its form, so that nothing is extended.
    pub fn event_probe(self) -> Result<Vec<u8>, GuestAgentError> {
        let path = self.path(Method::EmitEvent);
        Ok(http::post(path.ok_or(GuestAgentError::Missing(Method::EmitEvent))?, b"!"))
    }

    fn request(self, method: Method, body: &impl Serialize) -> Result<Vec<u8>, GuestAgentError> {
        let path = self.path(method).ok_or(GuestAgentError::Missing(method))?;
        let body =
            serde_json::to_vec(body).map_err(|error| GuestAgentError::Answer(error.to_string()))?;
        Ok(http::post(path, &body))
    }
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Quote => "method for quotes",
            Self::HashedQuote => "method for quotes over hashes",
            Self::Info => "method Info",
            Self::EmitEvent => "method EmitEvent",
        }
    }
}

/// The body of an answer that grants what `method` asked.
pub fn granted(method: Method, response: Response) -> Result<Vec<u8>, GuestAgentError> {
    match response.status {
        200..=299 => Ok(response.body),
        404 | 405 | 501 => Err(GuestAgentError::Missing(method)),
        status => Err(GuestAgentError::Refused { status, reason: reason(&response.body) }),
    }
}

pub fn read_quote(body: &[u8]) -> Result<DstackReport, GuestAgentError> {
    Ok(DstackReport::parse(body)?)
}

pub fn read_information(body: &[u8]) -> Result<Information, GuestAgentError> {
    serde_json::from_slice(body).map_err(|error| GuestAgentError::Answer(error.to_string()))
}

/// What a refusal says, fit for a line of a log.
fn reason(body: &[u8]) -> String {
    let text = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error);
    let text = text.unwrap_or_default();
    let shown = text.chars().filter(|letter| !letter.is_control()).take(MAX_REASON_CHARS);
    shown.collect()
}

/// Fuzz entry: what a connection gives is a response within its limits however it is cut, and only whole answers are read.
pub fn fuzz_guest_agent_answer(data: &[u8]) {
    let whole = Response::read(data, StreamEnd::Reached);
    assert_ne!(whole, Ok(None), "nothing is awaited of a connection that has ended");
    if let Ok(Some(early)) = Response::read(data, StreamEnd::Open) {
        assert_eq!(whole, Ok(Some(early)));
    }
    let Ok(Some(response)) = whole else { return };
    assert!(response.body.len() <= http::MAX_BODY_BYTES.min(data.len()));
    match granted(Method::Quote, response) {
        Ok(body) => {
            if let Ok(report) = read_quote(&body) {
                assert!(report.quote().len() <= body.len());
                assert!(report.event_log().len() <= body.len());
            }
            let _ = read_information(&body);
        }
        Err(GuestAgentError::Refused { reason, .. }) => {
            assert!(reason.chars().count() <= MAX_REASON_CHARS);
        }
        Err(error) => assert_eq!(error, GuestAgentError::Missing(Method::Quote)),
    }
}
