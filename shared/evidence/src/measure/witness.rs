//! A recipe from the evidence of a running VM: its quote, its firmware's log, its launch configuration.
//!
//! The machine's owner chose the ACPI tables that are recorded: a recording is for the machines of whoever made it, or for
//! those who trust him.

use super::{
    error::MeasureError,
    image::{MachineShape, TdxImage},
    recipe::Recipe,
    record::{RecordedBoot, record, record_shape},
};
use crate::{
    anchor::{AnchorError, Anchors, verify_quote},
    bundle::{EvidenceBundle, Tee},
    codes::{Code as EvidenceCode, CodeEntry},
    collateral::Collateral,
    launch::{LaunchConfiguration, LaunchDigest, LaunchError},
    layout1::BootRegisters,
    logs::{CcelLog, LogError},
    measure::Code,
    quote::{QuoteError, TdxQuote},
    time::rfc3339,
};

/// Evidence, and what it is judged with before anything in it is believed.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'a> {
    pub evidence: &'a EvidenceBundle,
    /// The user's; without it, the sender's.
    pub collateral: Option<&'a Collateral>,
    pub anchors: &'a Anchors,
    /// Seconds since 1970.
    pub now: u64,
}

/// What to do with a boot.
#[derive(Debug, Clone, Copy)]
pub enum Recording<'a> {
    /// Make a recipe of this name.
    New(&'a str),
    /// Add the VM's shape to this one, from which nothing else may differ.
    Into(&'a Recipe),
}

#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("record the evidence: it is not of a TDX VM, or has no boot log of its firmware")]
    NoBoot,
    #[error("record the evidence: there is no collateral to verify its quote with")]
    NoCollateral,
    #[error("{0}")]
    Quote(#[from] QuoteError),
    #[error("{0}")]
    Anchor(#[from] AnchorError),
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{0}")]
    Measure(#[from] MeasureError),
}

impl WitnessError {
    pub fn entry(&self) -> CodeEntry {
        match self {
            Self::NoBoot => Code::WitnessBoot.entry(),
            Self::NoCollateral => EvidenceCode::CollateralMissing.entry(),
            Self::Quote(error) => error.entry().entry(),
            Self::Anchor(error) => error.entry().entry(),
            Self::Launch(error) => error.entry().entry(),
            Self::Log(error) => error.entry().entry(),
            Self::Measure(error) => error.entry().entry(),
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().code
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix
    }
}

/// The recipe that this boot of `image` gives.
pub fn record_witness(
    witness: &Witness<'_>,
    image: TdxImage<'_>,
    recording: Recording<'_>,
) -> Result<Recipe, WitnessError> {
    let bundle = witness.evidence;
    let (Tee::Tdx, Some(log)) = (&bundle.tee, &bundle.ccel) else {
        return Err(WitnessError::NoBoot);
    };
    let quote = TdxQuote::parse(&bundle.quote.0)?;
    quote.check_attributes()?;
    let collateral = witness.collateral.or(bundle.collateral.as_ref());
    let collateral = collateral
        .filter(|collateral| collateral.is_within_bounds())
        .ok_or(WitnessError::NoCollateral)?;
    let anchor = verify_quote(&bundle.quote.0, collateral, witness.anchors, witness.now)?.anchor;
    LaunchDigest::of(&bundle.launch.0).check_mr_config_id(&quote.mr_config_id)?;
    let launch = LaunchConfiguration::parse(&bundle.launch.0)?;
    let log = CcelLog::parse(&log.0)?;
    log.check_payloads()?;
    log.check_separators()?;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let [rtmr0, rtmr1, rtmr2, _] = quote.rtmr;
    let boot = RecordedBoot {
        image,
        shape: MachineShape {
            vcpus: launch.shape.vcpus,
            memory_mib: launch.shape.memory_mib,
            disks: count(launch.layers.len()),
            gpus: count(launch.gpus.len()),
        },
        registers: BootRegisters { mrtd: quote.mrtd, rtmr0, rtmr1, rtmr2 },
        log: &log.events,
    };
    Ok(match recording {
        Recording::Into(recipe) => record_shape(recipe, &boot)?,
        Recording::New(name) => {
            let when = rfc3339(witness.now).unwrap_or_default();
            let source = format!("recorded {when} from evidence of a VM; anchor {anchor}");
            record(name, &source, &boot)?
        }
    })
}
