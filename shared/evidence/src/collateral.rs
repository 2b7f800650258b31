//! The signed material that a TDX quote is verified with: TCB info, QE identity, revocation lists and their chains.
//!
//! Who brings it does not matter for its truth (it is signed), but for its age it does: [`memory`] keeps what was seen
//! from falling, [`urls`] and [`answers`] say where to ask and what the answers are. Nothing here opens a connection.

mod amd;
pub mod answers;
mod asking;
mod codes;
mod facts;
mod inquiry;
pub mod memory;
pub mod nvidia;
mod subject;
pub mod urls;
mod worth;

use dcap_qvl::QuoteCollateralV3;
use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{
    fixed_hex::{FixedHex, Hex32, HexBytes},
    time::parse_rfc3339,
};

pub use amd::SnpInquiry;
pub use answers::{Answer, Answers};
pub use asking::{Asking, AtHand, Document, Documents, MakerInquiry};
pub use codes::Code;
pub use facts::{AmdFacts, Brought, Facts, Lesson};
pub use inquiry::{Ask, Inquiry, IntelInquiry, Method, Next};
pub use memory::{AmdRolledBack, CollateralFacts, CollateralMemory, RolledBack};
pub use nvidia::{GpuInquiry, Missing};
pub use subject::{Fmspc, PckCa, QuoteSubject};
pub use urls::{IntelUrls, ServiceBase, Services, Update};
pub use worth::{Worth, keep_genuine_devices};

/// Why collateral cannot be asked for, read or remembered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollateralError {
    #[error("find out which collateral the quote needs: {0}")]
    Subject(String),
    #[error("use the collateral service {base}: {reason}")]
    Base { base: String, reason: &'static str },
    #[error("read the answer for {part}: {reason}")]
    Answer { part: &'static str, reason: String },
    #[error("remember the collateral: {0}")]
    Facts(&'static str),
    #[error("read the memory of collateral: {0}")]
    MemoryUnreadable(String),
    #[error("accept the memory of collateral: {0}")]
    MemoryField(&'static str),
    #[error("name the machine's certificate at AMD: {0}")]
    Amd(String),
    #[error("find out of which processor the report is")]
    Product,
    #[error("fetch a VLEK's certificate: AMD hands it to the cloud provider only")]
    Vlek,
    #[error("find out what the GPUs' evidence needs: {0}")]
    Gpu(&'static str),
    #[error("accept an OCSP response: its nonce is another request's")]
    OcspNonce,
}

impl CollateralError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Subject(_) => Code::Subject,
            Self::Base { .. } => Code::Base,
            Self::Answer { .. } => Code::Answer,
            Self::Facts(_) => Code::Facts,
            Self::MemoryUnreadable(_) => Code::MemoryUnreadable,
            Self::MemoryField(_) => Code::MemoryField,
            Self::Amd(_) => Code::Amd,
            Self::Product => Code::Product,
            Self::Vlek => Code::Vlek,
            Self::Gpu(_) => Code::Gpu,
            Self::OcspNonce => Code::OcspNonce,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

pub const COLLATERAL_TAG: &str = "sealtune/collateral/v1";
/// Real ones have 14 to 24 KB.
pub const MAX_COLLATERAL_BYTES: usize = 256 * 1024;

/// Field for field what collateral services and `dcap-qvl` call it, but closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collateral {
    pub pck_crl_issuer_chain: String,
    pub root_ca_crl: HexBytes,
    pub pck_crl: HexBytes,
    pub tcb_info_issuer_chain: String,
    pub tcb_info: String,
    pub tcb_info_signature: HexBytes,
    pub qe_identity_issuer_chain: String,
    pub qe_identity: String,
    pub qe_identity_signature: HexBytes,
    /// Read, never used: the chain in the quote counts, since this one is the sender's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pck_certificate_chain: Option<String>,
}

impl Collateral {
    /// Reads a collateral file; the text need not be canonical.
    pub fn parse(bytes: &[u8]) -> Result<Self, CanonicalError> {
        if bytes.len() > MAX_COLLATERAL_BYTES {
            return Err(CanonicalError::TooLong {
                length: bytes.len(),
                limit: MAX_COLLATERAL_BYTES,
            });
        }
        serde_json::from_slice(bytes).map_err(CanonicalError::Parse)
    }

    /// When Intel last said something about the TCB: the older date of TCB info and QE identity. Lists and certificates are
    /// issued at other times and say nothing about it. `None` if one does not say when; its signature is checked elsewhere.
    pub fn tcb_issued(&self) -> Option<u64> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Dated {
            issue_date: String,
        }
        let issued = |text: &str| {
            let dated: Dated = serde_json::from_str(text).ok()?;
            parse_rfc3339(&dated.issue_date)
        };
        Some(issued(&self.tcb_info)?.min(issued(&self.qe_identity)?))
    }

    /// What claims name collateral by.
    pub fn digest(&self) -> Result<Hex32, CanonicalError> {
        Ok(FixedHex(canonical::domain_hash(COLLATERAL_TAG, &canonical::to_vec(self)?)))
    }

    /// A bound on what nested parsers are given, wherever the collateral came from.
    pub(crate) fn is_within_bounds(&self) -> bool {
        let sizes = [
            self.pck_crl_issuer_chain.len(),
            self.root_ca_crl.0.len(),
            self.pck_crl.0.len(),
            self.tcb_info_issuer_chain.len(),
            self.tcb_info.len(),
            self.tcb_info_signature.0.len(),
            self.qe_identity_issuer_chain.len(),
            self.qe_identity.len(),
            self.qe_identity_signature.0.len(),
        ];
        sizes.iter().sum::<usize>() <= MAX_COLLATERAL_BYTES
    }
}

impl From<&Collateral> for QuoteCollateralV3 {
    fn from(collateral: &Collateral) -> Self {
        Self {
            pck_crl_issuer_chain: collateral.pck_crl_issuer_chain.clone(),
            root_ca_crl: collateral.root_ca_crl.0.clone(),
            pck_crl: collateral.pck_crl.0.clone(),
            tcb_info_issuer_chain: collateral.tcb_info_issuer_chain.clone(),
            tcb_info: collateral.tcb_info.clone(),
            tcb_info_signature: collateral.tcb_info_signature.0.clone(),
            qe_identity_issuer_chain: collateral.qe_identity_issuer_chain.clone(),
            qe_identity: collateral.qe_identity.clone(),
            qe_identity_signature: collateral.qe_identity_signature.0.clone(),
            pck_certificate_chain: None,
        }
    }
}

/// Fuzz entry: whatever is accepted has a digest and reads back from its canonical form.
pub fn fuzz_collateral(data: &[u8]) {
    if let Ok(collateral) = Collateral::parse(data)
        && let Ok(bytes) = canonical::to_vec(&collateral)
        && bytes.len() <= MAX_COLLATERAL_BYTES
    {
        assert_eq!(Collateral::parse(&bytes).ok().as_ref(), Some(&collateral));
        assert!(collateral.digest().is_ok());
    }
}

#[cfg(test)]
mod tests;
