//! A simulated switch, and a whole simulated machine in protected PCIe mode: eight GPUs and four switches.

use super::{
    Report, SWITCH_BIOS_VERSION, SimulatedGpu, SimulatedGpuError, SimulatedNvidia, YEAR, dice,
    firmware_digest, golden, pem,
    pki::{Authority, Draft},
};
use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        NvidiaEvidence,
        device_evidence::{SwitchArchitecture, SwitchEvidence},
        evidence::{CcFeature, MultiGpuMode},
        opaque::Pdi,
    },
};

const GPUS: u64 = 8;
const SWITCHES: u64 = 4;
/// Of a real switch's report.
const BLOCKS: u8 = 31;
const OWN_PDI_OR_SWITCHES: u16 = 22;
const GPUS_OF_SWITCH: u16 = 26;

/// One switch: its boot ROM's identity and its firmware's alias key.
#[derive(Debug)]
pub struct SimulatedSwitch {
    pub(crate) identity: Authority,
    pub(crate) leaf: Authority,
    /// DER, leaf first, with the root.
    pub chain: Vec<Vec<u8>>,
    pub pdi: Pdi,
}

impl SimulatedSwitch {
    pub(crate) fn make(maker: &SimulatedNvidia, number: u64) -> Result<Self, SimulatedGpuError> {
        let (from, to) = (maker.now.saturating_sub(YEAR), maker.now.saturating_add(20 * YEAR));
        let pdi = number.to_be_bytes();
        let serial = [&[0x50], pdi.as_slice()].concat();
        let draft = Draft::authority("LS_10 SIMULATED FSP BROM", &serial, from, to);
        let identity = maker.switch_provisioner.issue(draft)?;
        let draft = Draft::signer("LS_10 SIMULATED FSP FMC LF", &[5], from, to);
        let leaf = identity.issue(draft.with_dice(dice(&identity.point(), &firmware_digest())))?;
        let above =
            [&leaf, &identity, &maker.switch_provisioner, &maker.identity, &maker.device_root];
        let chain = above.iter().map(|authority| authority.der.clone()).collect();
        Ok(Self { identity, leaf, chain, pdi })
    }

    /// What a locked switch says that is linked to these GPUs.
    pub fn report(&self, nonce: [u8; 32], gpus: &[Pdi]) -> Report {
        let mut list = gpus.concat();
        list.resize(96, 0xff);
        // Which port each of them is on.
        list.extend([0; 32]);
        let measurements =
            (1..=BLOCKS).map(|block| (block, golden(block.saturating_sub(1)))).collect();
        let opaque = vec![
            (6, SWITCH_BIOS_VERSION.as_bytes().to_vec()),
            (OWN_PDI_OR_SWITCHES, self.pdi.to_vec()),
            (GPUS_OF_SWITCH, list),
            (24, vec![0, 0]),
            (25, vec![1, 0]),
        ];
        Report { nonce, measurements, opaque }
    }

    pub fn sign(&self, report: &Report) -> Result<Vec<u8>, SimulatedGpuError> {
        let mut bytes = report.to_bytes();
        bytes.extend(self.leaf.sign_fixed(&bytes)?);
        Ok(bytes)
    }

    /// Evidence with nothing wrong in it, over a report that may have.
    pub fn evidence(
        &self,
        device: &str,
        report: &Report,
    ) -> Result<SwitchEvidence, SimulatedGpuError> {
        Ok(SwitchEvidence {
            version: SwitchEvidence::VERSION,
            device: device.to_owned(),
            architecture: SwitchArchitecture::Ls10,
            transcript: Base64Bytes(self.sign(report)?),
            certificates: Base64Bytes(pem(&self.chain).into_bytes()),
            bios_version: SWITCH_BIOS_VERSION.to_owned(),
        })
    }
}

/// GPUs and switches of one board.
#[derive(Debug)]
pub struct SimulatedMachine {
    pub gpus: Vec<SimulatedGpu>,
    pub switches: Vec<SimulatedSwitch>,
    /// The GPUs' own numbers.
    numbers: Vec<Pdi>,
}

impl SimulatedMachine {
    /// Machines with different `number`s have different parts.
    pub(crate) fn make(maker: &SimulatedNvidia, number: u64) -> Result<Self, SimulatedGpuError> {
        let first = number.saturating_mul(0x100).saturating_add(1);
        let numbers = (first..first.saturating_add(GPUS)).map(u64::to_be_bytes).collect();
        let gpus = (first..first.saturating_add(GPUS)).map(|it| maker.gpu(it));
        let first = first.saturating_add(0x80);
        let switches =
            (first..first.saturating_add(SWITCHES)).map(|it| SimulatedSwitch::make(maker, it));
        Ok(Self {
            gpus: gpus.collect::<Result<_, _>>()?,
            switches: switches.collect::<Result<_, _>>()?,
            numbers,
        })
    }

    /// What each of its GPUs says: the mode, and its links to every switch.
    pub fn gpu_report(&self, nonce: [u8; 32]) -> Report {
        let backwards = |switch: &SimulatedSwitch| {
            let mut pdi = switch.pdi;
            pdi.reverse();
            pdi
        };
        // Several links to each, as in real reports.
        let list: Vec<_> = self.switches.iter().chain(&self.switches).map(backwards).collect();
        Report::new(nonce)
            .with(21, &[0xaa])
            .with(36, &[2, 0])
            .with(OWN_PDI_OR_SWITCHES, &list.concat())
    }

    /// What one of its switches says.
    pub fn switch_report(&self, switch: &SimulatedSwitch, nonce: [u8; 32]) -> Report {
        switch.report(nonce, &self.numbers)
    }

    /// Evidence of one of its GPUs, whose driver says the same and, as it does then, not that confidential computing is on.
    pub fn gpu_evidence(
        gpu: &SimulatedGpu,
        device: &str,
        report: &Report,
    ) -> Result<NvidiaEvidence, SimulatedGpuError> {
        let mut evidence = gpu.evidence(device, report)?;
        evidence.cc.multi_gpu = MultiGpuMode::ProtectedPcie;
        evidence.cc.feature = CcFeature::Off;
        Ok(evidence)
    }
}
