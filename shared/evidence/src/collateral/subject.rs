//! For which machine collateral is needed. Read from the certificate in a quote before anything is verified: it decides
//! what to ask for and nothing else.

use dcap_qvl::{intel, quote::Quote};
use serde::{Deserialize, Serialize};

use super::CollateralError;
use crate::{fixed_hex::FixedHex, quote::TdxQuote};

/// Intel's name for a family, model, stepping and platform.
pub type Fmspc = FixedHex<6>;

/// Which of Intel's two authorities certified the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PckCa {
    Processor,
    Platform,
}

impl PckCa {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuoteSubject {
    pub fmspc: Fmspc,
    pub ca: PckCa,
}

impl QuoteSubject {
    /// `quote` must be free of trailing bytes, as everywhere.
    pub fn of(quote: &[u8]) -> Result<Self, CollateralError> {
        let refuse = |error: String| CollateralError::Subject(error);
        TdxQuote::parse(quote).map_err(|error| refuse(error.to_string()))?;
        let quote = Quote::parse(quote).map_err(|error| refuse(format!("{error:#}")))?;
        let fmspc = intel::quote_fmspc(&quote).map_err(|error| refuse(format!("{error:#}")))?;
        let ca = intel::quote_ca(&quote).map_err(|error| refuse(format!("{error:#}")))?;
        let ca = match ca.as_id_str() {
            "platform" => PckCa::Platform,
            _ => PckCa::Processor,
        };
        Ok(Self { fmspc: FixedHex(fmspc), ca })
    }
}
