//! The trusted execution environment, as the agent needs it: the launch digest that the CPU measured, a register to
//! extend, quotes. Which one is decided by what the machine has; only a build for dev images also knows the simulated one.

pub(crate) mod entropy;
#[cfg(feature = "simulated-tee")]
pub(crate) mod simulated;
pub(crate) mod tdreport;
pub(crate) mod tdx;

use sealtune_evidence::{Event, Hex48};
use sealtune_wire::v1::Rtmr3;

/// Codes 65 to 69 of the area AGENT.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TeeError {
    #[error("find a trusted execution environment")]
    #[cfg_attr(
        all(feature = "simulated-tee", not(test)),
        expect(dead_code, reason = "an agent that simulates has always one")
    )]
    None,
    #[error("read the CPU's report: {0}")]
    Report(String),
    #[error("get a quote: {0}")]
    Quote(String),
    #[error("extend the run-time register: {0}")]
    Extend(String),
    #[error("get a quote over what was asked: it carries other report data")]
    ForeignQuote,
}

impl TeeError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::None => "ST-AGENT-65",
            Self::Report(_) => "ST-AGENT-66",
            Self::Quote(_) => "ST-AGENT-67",
            Self::Extend(_) => "ST-AGENT-68",
            Self::ForeignQuote => "ST-AGENT-69",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::None => "start a TDX VM, or a dev image whose supervisor simulates the TEE",
            Self::Report(_) => "load tdx-guest in the guest",
            Self::Quote(_) => "check that the host's quote generation service runs",
            Self::Extend(_) => "see the kernel log; a register that exists must take an extend",
            Self::ForeignQuote => "ask again; nothing else in the guest may use the report folder",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let text = String::from("x");
        vec![
            Self::None,
            Self::Report(text.clone()),
            Self::Quote(text.clone()),
            Self::Extend(text),
            Self::ForeignQuote,
        ]
    }
}

#[derive(Debug)]
pub(crate) enum Tee {
    Tdx(tdx::Tdx),
    #[cfg(feature = "simulated-tee")]
    Simulated(simulated::Simulated),
}

impl Tee {
    /// As evidence names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Tdx(_) => "tdx",
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(_) => "simulated",
        }
    }

    /// MRCONFIGID, which holds the digest of the launch configuration.
    pub(crate) async fn mr_config_id(&self) -> Result<Hex48, TeeError> {
        match self {
            Self::Tdx(tdx) => tdx.mr_config_id().await,
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(simulated) => simulated.mr_config_id().await,
        }
    }

    /// Extends RTMR3, where the kernel lets the guest do so.
    pub(crate) async fn extend(&mut self, event: &Event) -> Result<Rtmr3, TeeError> {
        match self {
            Self::Tdx(tdx) => tdx.extend(event).await,
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(simulated) => simulated.extend(event).await,
        }
    }

    /// A quote over exactly this report data, without padding.
    pub(crate) async fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let quote = match self {
            Self::Tdx(tdx) => tdx.quote(report_data).await?,
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(simulated) => simulated.quote(report_data).await?,
        };
        if tdreport::quoted_report_data(&quote) == Some(report_data) {
            Ok(quote)
        } else {
            Err(TeeError::ForeignQuote)
        }
    }
}
