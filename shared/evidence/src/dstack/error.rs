//! Why there is no answer of dstack's guest agent, or none that can be used.

use super::{codes::Code, guest_agent::Method, http::HttpError};
use crate::{appraise::DstackReportError, logs::LogError, quote::QuoteError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestAgentError {
    #[error("talk to dstack's guest agent: {0}")]
    Unreachable(String),
    #[error("wait for dstack's guest agent: no answer within 30 seconds")]
    Slow,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("ask dstack's guest agent: it answers {status}: {reason}")]
    Refused { status: u16, reason: String },
    #[error("ask dstack's guest agent: it has no {}", .0.name())]
    Missing(Method),
    #[error("read the answer of dstack's guest agent: {0}")]
    Answer(String),
    #[error("read the quote of dstack's guest agent: {0}")]
    Quote(QuoteError),
    #[error("accept the event log of dstack's guest agent: {0}")]
    LogOther(LogError),
}

impl GuestAgentError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Unreachable(_) => Code::Unreachable,
            Self::Slow => Code::Slow,
            Self::Http(HttpError::TooLong) => Code::TooLong,
            Self::Http(_) => Code::Http,
            Self::Refused { .. } => Code::Refused,
            Self::Missing(_) => Code::Missing,
            Self::Answer(_) => Code::Answer,
            Self::Quote(_) => Code::Quote,
            Self::LogOther(_) => Code::LogOther,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl From<DstackReportError> for GuestAgentError {
    fn from(error: DstackReportError) -> Self {
        Self::Answer(error.to_string())
    }
}
