//! A SIMULATED maker of GPUs, for tests and development only: two roots of its own, GPUs with keys and certificates of
//! NVIDIA's form, RIM files and OCSP responses. Nothing that it makes leads to NVIDIA's roots; a verifier must be given its
//! roots on purpose ([`NvidiaRoots::simulated`]) and then says so in every verdict.
//!
//! Keys are random. Every name has `O=SIMULATED - NOT NVIDIA`.

pub(crate) mod pki;
mod report;
mod rim;
mod status;
mod switch;

use std::collections::BTreeMap;

use ring::digest;

use super::{
    NvidiaCollateral, NvidiaRoots,
    collateral::{OcspAnswer, RimFile},
    evidence::Architecture,
};
use crate::{
    base64_bytes::Base64Bytes,
    fixed_hex::{FixedHex, Hex32},
};
use pki::{Authority, Draft};

pub use report::{Report, SimulatedGpu};
pub(crate) use report::{dice, pem};
pub use rim::RimDraft;
pub use status::{OcspDraft, SaidStatus, Signer};
pub use switch::{SimulatedMachine, SimulatedSwitch};

/// Stands in every name.
pub const MARKER: &str = "SIMULATED - NOT NVIDIA";
pub const DRIVER_VERSION: &str = "550.90.07";
pub const VBIOS_VERSION: &str = "96.00.9f.00.01";
pub const DRIVER_RIM: &str = "NV_GPU_DRIVER_GH100_550.90.07";
pub const VBIOS_RIM: &str = "NV_GPU_VBIOS_1010_0200_882_96009F0001";
pub const SWITCH_BIOS_VERSION: &str = "96.10.73.00.01";
pub const SWITCH_RIM: &str = "NV_SWITCH_BIOS_5612_0002_890_9610730001";
/// Which measurements the driver's RIM has values for; the rest up to 16 are the VBIOS's.
const DRIVER_INDICES: [u8; 4] = [7, 9, 11, 35];
const VBIOS_INDICES: [u8; 4] = [1, 2, 3, 12];
const SWITCH_INDICES: [u8; 4] = [0, 1, 8, 30];
const YEAR: u64 = 365 * 24 * 3600;

#[derive(Debug, thiserror::Error)]
pub enum SimulatedGpuError {
    #[error("make a simulated GPU's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("make a simulated GPU's key or signature")]
    Key,
    #[error("make a simulated GPU's certificate: {0} is no date")]
    Date(u64),
    #[error("make a simulated RIM: {0}")]
    Rim(String),
}

/// The two hierarchies, and what is needed to make GPUs and collateral under them.
#[derive(Debug)]
pub struct SimulatedNvidia {
    pub(crate) now: u64,
    pub(crate) device_root: Authority,
    pub(crate) identity: Authority,
    pub(crate) provisioner: Authority,
    pub(crate) switch_provisioner: Authority,
    pub(crate) rim_root: Authority,
    pub(crate) rim_ca: Authority,
    pub(crate) rim_signer: Authority,
}

impl SimulatedNvidia {
    pub fn create(now: u64) -> Result<Self, SimulatedGpuError> {
        Self::with_rim_validity(now, now.saturating_add(YEAR))
    }

    /// With RIM certificates that end at a given time.
    pub fn with_rim_validity(now: u64, rims_end: u64) -> Result<Self, SimulatedGpuError> {
        let (from, to) = (now.saturating_sub(YEAR), now.saturating_add(20 * YEAR));
        let authority =
            |name: &str, serial: &[u8], to: u64| Draft::authority(name, serial, from, to);
        let device_root = Authority::root(authority("SIMULATED Device Identity CA", &[1], to))?;
        let identity = device_root.issue(authority("SIMULATED GH100 Identity", &[2], to))?;
        let provisioner =
            identity.issue(authority("SIMULATED GH100 Provisioner ICA 1", &[3], to))?;
        let switch_provisioner =
            identity.issue(authority("SIMULATED LS_10 Provisioner ICA 1", &[4], to))?;
        let rim_root = Authority::root(authority("SIMULATED RIM signing Root CA", &[11], to))?;
        let rim_ca = rim_root.issue(authority("SIMULATED Reference Value CA", &[12], rims_end))?;
        let signer = Draft::signer("SIMULATED RIM Signer", &[13], from, rims_end);
        let rim_signer = rim_ca.issue(signer)?;
        Ok(Self {
            now,
            device_root,
            identity,
            provisioner,
            switch_provisioner,
            rim_root,
            rim_ca,
            rim_signer,
        })
    }

    pub fn roots(&self) -> NvidiaRoots {
        NvidiaRoots::simulated(self.device_root.point(), self.rim_root.point())
    }

    /// A GPU whose own number is `number`.
    pub fn gpu(&self, number: u64) -> Result<SimulatedGpu, SimulatedGpuError> {
        SimulatedGpu::make(self, number, Some(firmware_digest()))
    }

    /// Eight GPUs and four switches in protected PCIe mode.
    pub fn machine(&self, number: u64) -> Result<SimulatedMachine, SimulatedGpuError> {
        SimulatedMachine::make(self, number)
    }

    /// RIMs and OCSP responses under which a whole machine's reports hold.
    pub fn machine_collateral(
        &self,
        machine: &SimulatedMachine,
    ) -> Result<NvidiaCollateral, SimulatedGpuError> {
        let mut collateral = self.collateral(&machine.gpus.iter().collect::<Vec<_>>())?;
        let file = Base64Bytes(self.sign_rim(&RimDraft::switch().to_xml())?);
        collateral.rims.push(RimFile { id: SWITCH_RIM.to_owned(), file });
        let mut about = vec![(&self.switch_provisioner, &self.identity)];
        let identities = machine.switches.iter().map(|switch| &switch.identity);
        about.extend(identities.map(|identity| (identity, &self.switch_provisioner)));
        self.answer(&about, &mut collateral)?;
        Ok(collateral)
    }

    /// RIMs and OCSP responses under which these GPUs' reports hold.
    pub fn collateral(
        &self,
        gpus: &[&SimulatedGpu],
    ) -> Result<NvidiaCollateral, SimulatedGpuError> {
        let rims = [(DRIVER_RIM, RimDraft::driver()), (VBIOS_RIM, RimDraft::vbios())];
        let mut collateral = NvidiaCollateral::default();
        for (id, draft) in rims {
            let file = Base64Bytes(self.sign_rim(&draft.to_xml())?);
            collateral.rims.push(RimFile { id: id.to_owned(), file });
        }
        let mut about: Vec<(&Authority, &Authority)> = vec![
            (&self.provisioner, &self.identity),
            (&self.identity, &self.device_root),
            (&self.rim_signer, &self.rim_ca),
            (&self.rim_ca, &self.rim_root),
        ];
        about.extend(gpus.iter().map(|gpu| (&gpu.identity, &self.provisioner)));
        self.answer(&about, &mut collateral)?;
        Ok(collateral)
    }

    /// Adds that each of these certificates is good.
    fn answer(
        &self,
        about: &[(&Authority, &Authority)],
        collateral: &mut NvidiaCollateral,
    ) -> Result<(), SimulatedGpuError> {
        for (subject, issuer) in about {
            let response = self.ocsp(subject, issuer, &OcspDraft::good(self.now))?;
            collateral.ocsp.push(OcspAnswer {
                certificate: certificate_digest(&subject.der),
                response: Base64Bytes(response),
            });
        }
        Ok(())
    }
}

/// What a RIM lists the golden measurements of, and a report has them all.
pub(crate) fn golden(index: u8) -> [u8; 48] {
    digest48(&[b"sealtune/simulated-measurement/v1\0".as_slice(), &[index]].concat())
}

pub(crate) fn firmware_digest() -> [u8; 48] {
    digest48(b"sealtune/simulated-firmware/v1\0")
}

fn digest48(bytes: &[u8]) -> [u8; 48] {
    let mut value = [0; 48];
    value.copy_from_slice(digest::digest(&digest::SHA384, bytes).as_ref());
    value
}

pub(crate) fn certificate_digest(der: &[u8]) -> Hex32 {
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    FixedHex(value)
}

/// Measurements by block, as the simulated firmware makes them.
fn measurements() -> BTreeMap<u8, [u8; 48]> {
    (0_u8..64).filter_map(|index| Some((index.checked_add(1)?, golden(index)))).collect()
}

const ARCHITECTURE: Architecture = Architecture::Hopper;
