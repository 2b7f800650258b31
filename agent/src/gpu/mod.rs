//! The VM's NVIDIA GPUs and switches, as the agent sees them: which are on the PCI bus, what they are called, and the helper
//! program that gets their evidence from the driver. The agent is static and cannot load the driver's library itself.
//!
//! ```text
//! PCI bus = launch configuration -> layer with the driver and the helper -> device nodes
//!   -> evidence for each challenge (hostile input: checked here, judged by whoever asked)
//!   -> start evidence, whose GPUs are confidential and take no work yet, and whose switches are locked -> ready -> container
//! ```
//! The host says which GPUs there are; nothing here shows that one is genuine. What is shown is that evidence was taken of
//! as many GPUs as this VM has, each under its own name, from this VM's own driver.

mod check;
mod confine;
mod helper;
mod nodes;
mod pci;
mod protocol;
mod switch;

use std::fs::File;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use sealtune_evidence::nvidia::evidence::CcState;
use sealtune_evidence::{FixedHex, Hex32, claims::GpuClaim};

pub(crate) use self::check::CheckError;
pub(crate) use self::helper::{HelperError, HelperProgram};
pub(crate) use self::nodes::{NodeError, NodePlaces, make_node};
pub(crate) use self::pci::{PciAddress, PciError, Sysfs};
pub(crate) use self::switch::SwitchError;
use self::switch::SwitchMode;
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
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("find the layer \"{LAYER}\" among those of the launch configuration")]
    NoLayer,
    #[error(transparent)]
    Switch(#[from] SwitchError),
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
    word: DriverWord,
}

/// What the driver says of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DriverWord {
    Gpu(CcState),
    Switch(SwitchMode),
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

/// The GPUs of one VM, and the switches between them. Whoever has it asks one question at a time.
#[derive(Debug)]
pub(crate) struct Gpus {
    named: Vec<NamedGpu>,
    /// In the order of their addresses, which is not that of the names.
    switches: Vec<PciAddress>,
    switch_names: Vec<String>,
    helper: HelperProgram,
    /// Device nodes, once they are made.
    nodes: Vec<PathBuf>,
    /// Open until the VM ends: the driver may forget a GPU's state when nobody has it open.
    held: Vec<File>,
}

/// Start evidence was taken, and nothing in it speaks against work. There is no other way to it.
#[derive(Debug)]
pub(crate) struct MayTakeWork(());

impl MayTakeWork {
    /// Also of a VM without GPUs.
    pub(crate) fn judge(taken: &[TakenEvidence]) -> Result<Self, GpuError> {
        let gpus = taken.iter().filter_map(|one| match one.word {
            DriverWord::Gpu(cc) => Some((one.device.as_str(), cc)),
            DriverWord::Switch(_) => None,
        });
        let switches: Vec<_> = taken
            .iter()
            .filter_map(|one| match one.word {
                DriverWord::Switch(mode) => Some((one.device.as_str(), mode)),
                DriverWord::Gpu(_) => None,
            })
            .collect();
        check::may_take_work(gpus, switches.len())?;
        switch::may_carry(switches.into_iter())?;
        Ok(Self(()))
    }
}

impl Gpus {
    /// `None` for a VM that has no GPU and shall have none. `layer` is where the layer [`LAYER`] is mounted. Switches carry
    /// what GPUs say to each other: with evidence of the GPUs alone they would be trusted unseen, so all have some or none.
    pub(crate) fn find(
        sysfs: Sysfs<'_>,
        names: &[String],
        layer: Option<&Path>,
    ) -> Result<Option<Self>, GpuError> {
        let present = sysfs.nvidia_devices()?;
        let named = check::name(present.gpus, names)?;
        let switches = present.switches;
        let switch_names = switch::names(switches.len(), &named)?;
        if named.is_empty() {
            return Ok(None);
        }
        let layer = layer.ok_or(GpuError::NoLayer)?;
        switch::look_for_library(layer, switches.len())?;
        let filters = Filters::for_gpu_helper().map_err(HelperError::Filters)?;
        let helper = HelperProgram::in_layer(layer, filters);
        Ok(Some(Self {
            named,
            switches,
            switch_names,
            helper,
            nodes: Vec::new(),
            held: Vec::new(),
        }))
    }

    /// Makes the device nodes that the driver's library opens.
    pub(crate) fn make_nodes(&mut self, places: &NodePlaces<'_>) -> Result<(), GpuError> {
        self.nodes = nodes::make(places, self.named.iter().map(|gpu| gpu.address))?;
        nodes::make_for_switches(places, &self.switches)?;
        // One that does not open fails the first question too, with a code of its own.
        let open = |node: &PathBuf| File::options().read(true).write(true).open(node).ok();
        self.held = self.nodes.iter().filter_map(open).collect();
        Ok(())
    }

    /// Evidence of every GPU, in the order of their PCI addresses, and behind it that of every switch, under the same
    /// challenge. A dropped future ends the helper.
    pub(crate) async fn evidence(
        &mut self,
        challenge: &[u8; 32],
    ) -> Result<Vec<TakenEvidence>, GpuError> {
        let answers = self.helper.report(challenge, &self.named).await?;
        let mut taken = check::evidence(&self.named, challenge, answers)?;
        if !self.switch_names.is_empty() {
            let answers = self.helper.switches(challenge, &self.switch_names).await?;
            taken.extend(switch::evidence(&self.switch_names, challenge, answers)?);
        }
        Ok(taken)
    }

    /// Lets the GPUs take work, and gives the device nodes that work needs. Evidence that is taken later says so.
    pub(crate) async fn set_ready(&mut self, _: MayTakeWork) -> Result<Vec<PathBuf>, GpuError> {
        self.helper.ready(self.named.len()).await?;
        Ok(self.nodes.clone())
    }

    #[cfg(test)]
    fn of(named: Vec<NamedGpu>, helper: HelperProgram) -> Self {
        let (switches, switch_names) = (Vec::new(), Vec::new());
        Self { named, switches, switch_names, helper, nodes: Vec::new(), held: Vec::new() }
    }
}

impl GpuError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Pci(error) => error.code(),
            Self::Check(error) => error.code(),
            Self::Helper(error) => error.code(),
            Self::Node(error) => error.code(),
            Self::Switch(error) => error.code(),
            Self::NoLayer => "ST-AGPU-03",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Pci(error) => error.fix(),
            Self::Check(error) => error.fix(),
            Self::Helper(error) => error.fix(),
            Self::Node(error) => error.fix(),
            Self::Switch(error) => error.fix(),
            Self::NoLayer => "list the layer \"nvidia\" in the VM's launch configuration",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let mut samples = vec![Self::NoLayer];
        samples.extend(SwitchError::samples().into_iter().map(Self::Switch));
        samples.extend(PciError::samples().into_iter().map(Self::Pci));
        samples.extend(NodeError::samples().into_iter().map(Self::Node));
        samples.extend(CheckError::samples().into_iter().map(Self::Check));
        samples.extend(HelperError::samples().into_iter().map(Self::Helper));
        samples
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
