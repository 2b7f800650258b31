//! Job ids: 128 random bits, chosen by the customer, so that his dataset can be sealed to the job before it exists.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Hex;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Hex<16>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("read a job id: it is 32 lower-case hex digits")]
pub struct JobIdError;

impl JobId {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Hex(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0.0
    }
}

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        text.parse().map(Self).map_err(|_| JobIdError)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
