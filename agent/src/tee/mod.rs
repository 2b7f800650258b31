//! The trusted execution environment, as the agent needs it: the launch digest that the CPU measured, a register to
//! extend, quotes. Which one is decided by what the machine has; only a build for dev images also knows the simulated one.

mod ccel;
mod configfs;
pub(crate) mod dstack;
pub(crate) mod entropy;
mod qgs;
pub(crate) mod role;
#[cfg(feature = "simulated-tee")]
pub(crate) mod simulated;
pub(crate) mod snp;
pub(crate) mod tdreport;
pub(crate) mod tdx;

use std::path::Path;

use sealtune_evidence::dstack::GuestAgentError;
use sealtune_evidence::launch::LaunchError;
use sealtune_evidence::{Event, Hex32, Hex48, LaunchDigest};
use sealtune_wire::v1::Rtmr3;

/// Codes 65 to 69 of the area AGENT, and those of dstack's guest agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TeeError {
    #[error("find a trusted execution environment")]
    None,
    #[error("read the CPU's report: {0}")]
    Report(String),
    #[error("get a quote: {0}")]
    Quote(String),
    #[error("extend the run-time register: {0}")]
    Extend(String),
    #[error("get a quote over what was asked: it carries other report data")]
    ForeignQuote,
    #[error(transparent)]
    Dstack(#[from] GuestAgentError),
}

impl TeeError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::None => "ST-AGENT-65",
            Self::Report(_) => "ST-AGENT-66",
            Self::Quote(_) => "ST-AGENT-67",
            Self::Extend(_) => "ST-AGENT-68",
            Self::ForeignQuote => "ST-AGENT-69",
            Self::Dstack(error) => error.code(),
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::None => {
                "start a TDX or SEV-SNP VM, or a dev image whose supervisor simulates the TEE"
            }
            Self::Report(_) => "load tdx-guest or sev-guest in the guest",
            Self::Quote(_) => {
                "check that the guest has configfs-tsm and that the host's quote generation service runs"
            }
            Self::Extend(_) => "see the kernel log; a register that exists must take an extend",
            Self::Dstack(error) => error.fix(),
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

/// The place in which each architecture keeps what its VMs were started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MeasuredLaunch {
    MrConfigId(Hex48),
    HostData(Hex32),
    /// dstack measures none of ours: claims and events of the software that its compose file names bind it.
    BySoftware,
}

/// A quote, and the log where it is not the agent's own.
#[derive(Debug)]
pub(crate) struct Quoted {
    pub(crate) quote: Vec<u8>,
    /// Of dstack's guest agent, from the answer that the quote came in. The agent's events are in it.
    pub(crate) dstack_log: Option<Vec<u8>>,
}

impl MeasuredLaunch {
    /// That it is the digest of this configuration.
    pub(crate) fn check(&self, digest: &LaunchDigest) -> Result<(), LaunchError> {
        match self {
            Self::MrConfigId(measured) => digest.check_mr_config_id(measured),
            Self::HostData(measured) => digest.check_host_data(measured),
            Self::BySoftware => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Tee {
    Tdx(tdx::Tdx),
    Snp(snp::Snp),
    Dstack(dstack::Dstack),
    #[cfg(feature = "simulated-tee")]
    Simulated(simulated::Simulated),
}

impl Tee {
    /// As evidence names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Tdx(_) => "tdx",
            Self::Snp(_) => "snp",
            Self::Dstack(_) => "dstack",
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(_) => "simulated",
        }
    }

    /// Where the machine has one; the proof of it is the evidence. A dstack guest may have the CPU's device too, but its
    /// register 3 has dstack's log.
    pub(crate) fn detect() -> Option<Self> {
        let own =
            || tdx::Tdx::detect().map(Self::Tdx).or_else(|| snp::Snp::detect().map(Self::Snp));
        dstack::Dstack::detect().map(Self::Dstack).or_else(own)
    }

    /// Whether this is Sealtune's image: its init loads the modules, and no disk is there that the launch configuration does
    /// not list. dstack's has an init and disks of its own.
    pub(crate) fn has_own_image(&self) -> bool {
        !matches!(self, Self::Dstack(_))
    }

    /// What the CPU holds as the digest of the launch configuration.
    pub(crate) async fn measured_launch(&self) -> Result<MeasuredLaunch, TeeError> {
        match self {
            Self::Tdx(tdx) => tdx.mr_config_id().await.map(MeasuredLaunch::MrConfigId),
            Self::Snp(snp) => snp.host_data().await.map(MeasuredLaunch::HostData),
            Self::Dstack(_) => Ok(MeasuredLaunch::BySoftware),
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(simulated) => {
                simulated.mr_config_id().await.map(MeasuredLaunch::MrConfigId)
            }
        }
    }

    /// The log of what the firmware measured at boot, where it wrote one. For whoever judges the evidence: no decision in
    /// the guest rests on it.
    pub(crate) fn boot_log(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tdx(_) => ccel::read(Path::new(ccel::DATA)),
            // dstack's guest agent logs the boot with the rest.
            Self::Snp(_) | Self::Dstack(_) => None,
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(_) => None,
        }
    }

    /// Extends RTMR3, where the kernel lets the guest do so.
    pub(crate) async fn extend(&mut self, event: &Event) -> Result<Rtmr3, TeeError> {
        match self {
            Self::Tdx(tdx) => tdx.extend(event).await,
            // There is no such register.
            Self::Snp(_) => Ok(Rtmr3::Unavailable),
            Self::Dstack(dstack) => dstack.extend(event).await,
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(simulated) => simulated.extend(event).await,
        }
    }

    /// Whether an extend would be taken; `None` where only one would show it.
    pub(crate) async fn can_extend(&self) -> Result<Option<Rtmr3>, TeeError> {
        match self {
            Self::Tdx(tdx) => Ok(tdx.can_extend()),
            Self::Snp(_) => Ok(Some(Rtmr3::Unavailable)),
            Self::Dstack(dstack) => dstack.can_extend().await.map(Some),
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(_) => Ok(Some(Rtmr3::Available)),
        }
    }

    /// A quote over exactly this report data, without padding.
    pub(crate) async fn quote(&self, report_data: &[u8; 64]) -> Result<Quoted, TeeError> {
        let own = |quote| Quoted { quote, dstack_log: None };
        let found = match self {
            Self::Tdx(tdx) => own(tdx.quote(report_data).await?),
            Self::Snp(snp) => own(snp.quote(report_data).await?),
            Self::Dstack(dstack) => {
                let found = dstack.quote(report_data).await?;
                Quoted { quote: found.quote, dstack_log: Some(found.event_log) }
            }
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(simulated) => own(simulated.quote(report_data).await?),
        };
        let quoted = match self {
            Self::Snp(_) => snp::reported_data(&found.quote),
            _ => tdreport::quoted_report_data(&found.quote),
        };
        if quoted == Some(report_data) { Ok(found) } else { Err(TeeError::ForeignQuote) }
    }
}
