//! What Sealtune has to do with dstack's guest agent: how it is asked, and why its answers or evidence made with them are
//! refused.
//!
//! Two generations answer on unix sockets inside the guest, by HTTP with JSON: the current one ([`Generation::Current`],
//! dstack 0.5 and later) and `tappd` before it. Everything here is bytes in, values out; the agent does the talking. How
//! evidence of a dstack VM is judged is in [`crate::appraise`].

pub mod codes;
mod error;
pub mod guest_agent;
pub mod http;

pub use codes::Code;
pub use error::GuestAgentError;
pub use guest_agent::{Generation, Information, Method};
pub use http::{Response, StreamEnd};

#[cfg(test)]
mod tests;
