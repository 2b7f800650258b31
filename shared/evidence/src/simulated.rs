//! The simulated TEE's quoting side: a development PKI of its own, and TDX version 4 quotes under it.
//!
//! The same verification runs over these quotes as over Intel's, with another root. Everything that shows a certificate
//! shows `O=SIMULATED - NOT INTEL`, FMSPC and QE signer are values that Intel does not use, and a verifier calls the
//! anchor `simulated` because it computes it from the root key. This module is not in release builds.
//!
//! Pure: the seed and the time come from the caller. Equal seeds and times make equal certificates.

mod collateral;
mod dstack;
mod pki;
mod quote;
mod vm;

use ring::digest;
use sealtune_seal::{Secret, canonical::CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{
    claims::ClaimsError,
    codes::Code,
    collateral::Collateral,
    event_log::EventLogError,
    fixed_hex::{FixedHex, Hex48},
    launch::LaunchError,
};

pub use dstack::SimulatedDstack;
use pki::Pki;
pub use vm::SimulatedVm;

/// In every distinguished name of a development PKI, and searched for in release binaries.
pub const MARKER: &str = "SIMULATED - NOT INTEL";

/// A development platform: its keys and certificates.
#[derive(Debug)]
pub struct SimulatedPlatform {
    pki: Pki,
    files: PlatformFiles,
}

/// What the caller keeps on disk; `seed` makes all keys, the certificates are kept as they were first made.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformFiles {
    pub version: u32,
    pub seed: FixedHex<32>,
    pub created: u64,
    pub root_pem: String,
    pub pck_ca_pem: String,
    pub tcb_signing_pem: String,
    pub pck_pem: String,
}

impl std::fmt::Debug for PlatformFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlatformFiles").field("created", &self.created).finish_non_exhaustive()
    }
}

/// The measurements that a simulated quote shall carry.
#[derive(Debug, Clone)]
pub struct QuoteRequest {
    pub mrtd: Hex48,
    pub rtmr: [Hex48; 4],
    pub mr_config_id: Hex48,
    pub report_data: [u8; 64],
}

/// What the platform lies about, for tests of a verifier. The default lies about nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    pub debug: bool,
    pub mr_owner: Option<Hex48>,
    pub mr_owner_config: Option<Hex48>,
    /// Sets this bit of the TD attributes.
    pub attribute_bit: Option<u8>,
    /// Clears the attribute that keeps the host from injecting #VE.
    pub without_sept_ve_disable: bool,
    /// Sets this bit of XFAM.
    pub xfam_bit: Option<u8>,
    /// The version of the TDX module, 5 if it is up to date.
    pub module_svn: Option<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum SimulatedError {
    #[error("make a simulated certificate: {0}")]
    Certificate(#[source] rcgen::Error),
    #[error("make a simulated key from this seed")]
    Key,
    #[error("write a date from {0} seconds since 1970")]
    Date(u64),
    #[error("read the simulated platform's file: {0}")]
    Files(#[source] serde_json::Error),
    #[error("read the simulated platform's file: version {0}, this program knows version 1")]
    Version(u32),
    #[error("use the simulated platform's file: its certificates were not made from its seed")]
    Mismatch,
    #[error("measure the VM: {0}")]
    Launch(#[source] LaunchError),
    #[error("make evidence: {0}")]
    Claims(#[source] ClaimsError),
    #[error("extend register 3: {0}")]
    Event(#[source] EventLogError),
    #[error("extend register 3: its log is full")]
    LogFull,
    #[error("measure the VM: {0}")]
    Canonical(#[source] CanonicalError),
}

impl SimulatedError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Certificate(_) | Self::Key | Self::Date(_) => Code::SimulatedMake,
            Self::Files(_) | Self::Version(_) | Self::Mismatch => Code::SimulatedFiles,
            Self::Launch(error) => error.entry(),
            Self::Claims(error) => error.entry(),
            Self::Event(error) => error.entry(),
            Self::LogFull => Code::LogMalformed,
            Self::Canonical(_) => Code::SimulatedMake,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl PlatformFiles {
    pub fn to_json(&self) -> Result<Vec<u8>, SimulatedError> {
        serde_json::to_vec_pretty(self).map_err(SimulatedError::Files)
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self, SimulatedError> {
        serde_json::from_slice(bytes).map_err(SimulatedError::Files)
    }
}

impl SimulatedPlatform {
    /// Makes the keys and certificates of a new platform; keep the files and [`load`](Self::load) them from then on.
    pub fn create(seed: &Secret<[u8; 32]>, now: u64) -> Result<PlatformFiles, SimulatedError> {
        let pki = Pki::new(seed.expose(), now)?;
        Ok(PlatformFiles {
            version: 1,
            seed: FixedHex(*seed.expose()),
            created: now,
            root_pem: pki.root.pem(),
            pck_ca_pem: pki.pck_ca.pem(),
            tcb_signing_pem: pki.tcb_signing.pem(),
            pck_pem: pki.pck.pem(),
        })
    }

    pub fn load(files: &PlatformFiles) -> Result<Self, SimulatedError> {
        if files.version != 1 {
            return Err(SimulatedError::Version(files.version));
        }
        let pki = Pki::new(files.seed.as_bytes(), files.created)?;
        let made = [&pki.root, &pki.pck_ca, &pki.tcb_signing, &pki.pck];
        let kept = [&files.root_pem, &files.pck_ca_pem, &files.tcb_signing_pem, &files.pck_pem];
        if made.iter().zip(kept).any(|(made, kept)| made.pem() != *kept) {
            return Err(SimulatedError::Mismatch);
        }
        Ok(Self { pki, files: files.clone() })
    }

    /// The root certificate, for `--simulated-root`.
    pub fn root_der(&self) -> Vec<u8> {
        self.pki.root.der().to_vec()
    }

    pub fn root_pem(&self) -> &str {
        &self.files.root_pem
    }

    /// SHA-384 of the root's public key, as verifiers name this platform's anchor.
    pub fn root_key_id(&self) -> Hex48 {
        let mut id = [0; 48];
        id.copy_from_slice(
            digest::digest(&digest::SHA384, self.pki.root_key.public_point()).as_ref(),
        );
        FixedHex(id)
    }

    /// A TDX version 4 quote without padding.
    pub fn quote(&self, request: &QuoteRequest) -> Result<Vec<u8>, SimulatedError> {
        self.odd_quote(request, &Oddities::default())
    }

    /// A quote of a TD that a verifier should refuse.
    pub fn odd_quote(
        &self,
        request: &QuoteRequest,
        oddities: &Oddities,
    ) -> Result<Vec<u8>, SimulatedError> {
        quote::make(&self.pki, request, oddities)
    }

    /// Collateral issued at `now`, good for 30 days.
    pub fn collateral(&self, now: u64) -> Result<Collateral, SimulatedError> {
        self.odd_collateral(now, &|_| {}, &|_| {})
    }

    /// Collateral with another TCB info or identity of the quoting enclave, signed like any other.
    pub fn odd_collateral(
        &self,
        now: u64,
        edit_tcb_info: &dyn Fn(&mut serde_json::Value),
        edit_qe_identity: &dyn Fn(&mut serde_json::Value),
    ) -> Result<Collateral, SimulatedError> {
        collateral::make(&self.pki, now, [edit_tcb_info, edit_qe_identity])
    }
}
