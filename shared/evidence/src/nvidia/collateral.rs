//! What a GPU's evidence is judged with besides itself: RIM files and OCSP responses, in one document that can be kept
//! with the evidence. Everything in it is signed, so who brings it does not matter for its truth.

use std::collections::BTreeSet;

use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use super::{codes::Code, ocsp::MAX_OCSP_BYTES, rim::MAX_RIM_BYTES};
use crate::{
    base64_bytes::Base64Bytes,
    fixed_hex::{FixedHex, Hex32},
};

pub const NVIDIA_COLLATERAL_TAG: &str = "sealtune/nvidia-collateral/v1";
pub const MAX_NVIDIA_COLLATERAL_BYTES: usize = 2 * 1024 * 1024;
pub(crate) const MAX_RIMS: usize = 64;
pub(crate) const MAX_RESPONSES: usize = 256;
const MAX_ID: usize = 160;

/// A RIM file under the name that NVIDIA's service gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RimFile {
    pub id: String,
    pub file: Base64Bytes,
}

/// An OCSP response under the SHA-256 of the certificate that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OcspAnswer {
    pub certificate: Hex32,
    pub response: Base64Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvidiaCollateral {
    pub version: u32,
    pub rims: Vec<RimFile>,
    pub ocsp: Vec<OcspAnswer>,
}

#[derive(Debug, thiserror::Error)]
pub enum NvidiaCollateralError {
    #[error("read the GPU collateral: {0} bytes, the limit is {MAX_NVIDIA_COLLATERAL_BYTES}")]
    TooLong(usize),
    #[error("read the GPU collateral: {0}")]
    Parse(#[source] serde_json::Error),
    #[error("write the GPU collateral: {0}")]
    Write(#[source] CanonicalError),
    #[error("accept the GPU collateral: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
}

impl NvidiaCollateralError {
    pub fn entry(&self) -> Code {
        Code::CollateralUnreadable
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Default for NvidiaCollateral {
    fn default() -> Self {
        Self { version: Self::VERSION, rims: vec![], ocsp: vec![] }
    }
}

impl NvidiaCollateral {
    pub const VERSION: u32 = 1;

    pub fn parse(bytes: &[u8]) -> Result<Self, NvidiaCollateralError> {
        if bytes.len() > MAX_NVIDIA_COLLATERAL_BYTES {
            return Err(NvidiaCollateralError::TooLong(bytes.len()));
        }
        let collateral: Self =
            serde_json::from_slice(bytes).map_err(NvidiaCollateralError::Parse)?;
        collateral.validate()?;
        Ok(collateral)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, NvidiaCollateralError> {
        self.validate()?;
        canonical::to_vec(self).map_err(NvidiaCollateralError::Write)
    }

    /// What a verdict or an archive names it by.
    pub fn digest(&self) -> Result<Hex32, NvidiaCollateralError> {
        Ok(FixedHex(canonical::domain_hash(NVIDIA_COLLATERAL_TAG, &self.to_bytes()?)))
    }

    pub fn validate(&self) -> Result<(), NvidiaCollateralError> {
        let refuse = |field, reason| Err(NvidiaCollateralError::Field { field, reason });
        if self.version != Self::VERSION {
            return refuse("version", "this program knows version 1");
        }
        let ids: BTreeSet<&str> = self.rims.iter().map(|rim| rim.id.as_str()).collect();
        let is_id = |id: &str| {
            (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if ids.len() != self.rims.len() || ids.len() > MAX_RIMS || !ids.iter().all(|id| is_id(id)) {
            return refuse("rims", "expected at most 64 files with different short names");
        }
        if self.rims.iter().any(|rim| rim.file.0.len() > MAX_RIM_BYTES) {
            return refuse("rims", "expected files of at most 262144 bytes");
        }
        let certificates: BTreeSet<&Hex32> =
            self.ocsp.iter().map(|answer| &answer.certificate).collect();
        if certificates.len() != self.ocsp.len() || certificates.len() > MAX_RESPONSES {
            return refuse("ocsp", "expected at most 256 responses about different certificates");
        }
        if self.ocsp.iter().any(|answer| answer.response.0.len() > MAX_OCSP_BYTES) {
            return refuse("ocsp", "expected responses of at most 8192 bytes");
        }
        Ok(())
    }

    pub fn rim(&self, id: &str) -> Option<&[u8]> {
        self.rims.iter().find(|rim| rim.id == id).map(|rim| rim.file.0.as_slice())
    }

    pub fn response(&self, certificate: &Hex32) -> Option<&[u8]> {
        let found = self.ocsp.iter().find(|answer| answer.certificate == *certificate);
        found.map(|answer| answer.response.0.as_slice())
    }
}

/// Fuzz entry: whatever is accepted is within its limits, has a digest and reads back from its canonical form.
pub fn fuzz_nvidia_collateral(data: &[u8]) {
    if let Ok(collateral) = NvidiaCollateral::parse(data) {
        assert!(collateral.digest().is_ok());
        let bytes = collateral.to_bytes();
        let again = bytes.as_deref().ok().and_then(|bytes| NvidiaCollateral::parse(bytes).ok());
        assert_eq!(again.as_ref(), Some(&collateral));
    }
}
