//! The VM's NVIDIA GPUs, as the agent sees them: which are on the PCI bus, what they are called, and the helper program
//! that gets their evidence from the driver. The agent is static and cannot load the driver's library itself.
//!
//! ```text
//! PCI bus = launch configuration -> layer with the driver and the helper -> modules
//!   -> evidence for each challenge (hostile input: checked here, judged by whoever asked) -> ready -> work
//! ```
//! The host says which GPUs there are; nothing here shows that one is genuine. What is shown is that evidence was taken of
//! as many GPUs as this VM has, each under its own name, from this VM's own driver.

mod check;
mod confine;
mod helper;
mod pci;
mod protocol;

use std::path::Path;

use ring::digest::{SHA256, digest};
use sealtune_evidence::{FixedHex, Hex32, claims::GpuClaim};

pub(crate) use self::check::CheckError;
pub(crate) use self::helper::{HelperError, HelperProgram};
pub(crate) use self::pci::{PciAddress, PciError, Sysfs};
use crate::seccomp::Filters;

/// The layer of this name holds the driver's library and the helper program.
pub(crate) const LAYER: &str = "nvidia";

#[derive(Debug, thiserror::Error)]
pub(crate) enum GpuError {
    #[error(transparent)]
    Pci(#[from] PciError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Helper(#[from] HelperError),
    #[error("find the layer \"{LAYER}\" among those of the launch configuration")]
    NoLayer,
}

/// A GPU of this VM and the name that the launch configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedGpu {
    pub(crate) address: PciAddress,
    pub(crate) name: String,
}

/// One GPU's evidence, byte for byte as it goes into the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenEvidence {
    pub(crate) device: String,
    pub(crate) bytes: Vec<u8>,
}

impl TakenEvidence {
    pub(crate) fn claim(&self) -> GpuClaim {
        GpuClaim { device: self.device.clone(), digest: self.digest() }
    }

    fn digest(&self) -> Hex32 {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, &self.bytes).as_ref());
        FixedHex(sha256)
    }
}

/// The GPUs of one VM. Whoever has it asks one question at a time.
#[derive(Debug)]
pub(crate) struct Gpus {
    named: Vec<NamedGpu>,
    helper: HelperProgram,
}

impl Gpus {
    /// `None` for a VM that has no GPU and shall have none. `layer` is where the layer [`LAYER`] is mounted.
    pub(crate) fn find(
        sysfs: Sysfs<'_>,
        names: &[String],
        layer: Option<&Path>,
    ) -> Result<Option<Self>, GpuError> {
        let named = check::name(sysfs.nvidia_gpus()?, names)?;
        if named.is_empty() {
            return Ok(None);
        }
        let layer = layer.ok_or(GpuError::NoLayer)?;
        let filters = Filters::for_gpu_helper().map_err(HelperError::Filters)?;
        Ok(Some(Self { named, helper: HelperProgram::in_layer(layer, filters) }))
    }

    /// Evidence of every GPU, in the order of their PCI addresses. A dropped future ends the helper.
    pub(crate) async fn evidence(
        &mut self,
        challenge: &[u8; 32],
    ) -> Result<Vec<TakenEvidence>, GpuError> {
        let answers = self.helper.report(challenge, &self.named).await?;
        Ok(check::evidence(&self.named, answers)?)
    }

    /// Lets the GPUs take work. Evidence that is taken later says so, and a verifier refuses it.
    pub(crate) async fn set_ready(&mut self) -> Result<(), GpuError> {
        Ok(self.helper.ready(self.named.len()).await?)
    }

    #[cfg(test)]
    fn of(named: Vec<NamedGpu>, helper: HelperProgram) -> Self {
        Self { named, helper }
    }
}

impl GpuError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Pci(error) => error.code(),
            Self::Check(error) => error.code(),
            Self::Helper(error) => error.code(),
            Self::NoLayer => "ST-AGPU-03",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Pci(error) => error.fix(),
            Self::Check(error) => error.fix(),
            Self::Helper(error) => error.fix(),
            Self::NoLayer => "list the layer \"nvidia\" in the VM's launch configuration",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let mut samples = vec![Self::NoLayer];
        samples.extend(PciError::samples().into_iter().map(Self::Pci));
        samples.extend(CheckError::samples().into_iter().map(Self::Check));
        samples.extend(HelperError::samples().into_iter().map(Self::Helper));
        samples
    }
}

#[cfg(test)]
mod tests;
