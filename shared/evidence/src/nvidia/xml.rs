//! XML, as little of it as NVIDIA's RIM files need: a reader of a strict subset ([`tree`]), its canonical form ([`c14n`])
//! and the enveloped signature over it ([`signature`]).
//!
//! Values are taken from the same tree that is put into canonical form and hashed, so what is read is what was signed.

pub(crate) mod c14n;
pub(crate) mod reader;
pub(crate) mod signature;
pub(crate) mod tree;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    #[error("it has {length} bytes, the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("at byte {at}: {reason}")]
    Syntax { at: usize, reason: &'static str },
    #[error("at byte {at}: {what} are not read here")]
    Refused { at: usize, what: &'static str },
    #[error("it has too many {0}")]
    TooMany(&'static str),
}
