//! What supervisor and agent say to each other. No socket in here: bytes in, messages out.
//!
//! Every connection opens with a [`hello::SupervisorHello`] and an [`hello::AgentHello`], each one frame.
//! A control connection then carries [`v1`] messages both ways, one frame each. A stream connection carries one
//! transfer: [`stream`] chunks, an explicit end, a trailer. End-of-file never means anything but a broken connection.
#![forbid(unsafe_code)]

pub mod frame;
pub mod hello;
pub mod patience;
pub mod stream;
pub mod v1;

/// The agent's vsock port for every connection.
pub const AGENT_PORT: u32 = 4711;
/// The only vsock peer that the agent accepts: the host.
pub const HOST_CID: u32 = 2;
