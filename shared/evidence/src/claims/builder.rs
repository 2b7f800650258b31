//! Making claims: what one boot says each time, and what each purpose adds.

use std::collections::BTreeMap;

use super::{Claims, ClaimsError, ClaimsVersion, GpuClaim, HpkeClaim, Purpose};
use crate::{
    fixed_hex::{FixedHex, Hex16, Hex32},
    launch::{LaunchDigest, Role, VmMode},
};

/// Everything that all evidence of one boot has in common; purposes are added by the methods.
#[derive(Debug, Clone)]
pub struct ClaimsBuilder {
    claims: Claims,
}

/// What binds evidence to one attempt of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobBinding {
    pub job: Hex16,
    pub attempt: u32,
    pub spec: Hex32,
}

impl ClaimsBuilder {
    pub fn new(
        instance: Hex32,
        role: Role,
        vm_mode: VmMode,
        receipt_key: Hex32,
        hpke: HpkeClaim,
        launch: LaunchDigest,
    ) -> Self {
        Self {
            claims: Claims {
                version: ClaimsVersion::V1,
                purpose: Purpose::Identity,
                nonce: Hex32::ZERO,
                instance,
                role,
                vm_mode,
                receipt_key,
                hpke,
                settlement_signer: None,
                launch,
                job: None,
                attempt: None,
                spec: None,
                gpu: vec![],
                collateral: None,
                previous: None,
                payload: None,
                host_time: None,
                knobs: BTreeMap::new(),
            },
        }
    }

    /// Instance and HPKE key: with purpose and nonce, what a [`super::gpu_nonce`] is made of.
    pub fn identity_of_boot(&self) -> (&Hex32, &[u8]) {
        (&self.claims.instance, &self.claims.hpke.key.0)
    }

    pub fn gpu(mut self, gpu: Vec<GpuClaim>) -> Self {
        self.claims.gpu = gpu;
        self
    }

    pub fn settlement_signer(mut self, address: FixedHex<20>) -> Self {
        self.claims.settlement_signer = Some(address);
        self
    }

    pub fn collateral(mut self, digest: Hex32) -> Self {
        self.claims.collateral = Some(digest);
        self
    }

    pub fn host_time(mut self, time: impl Into<String>) -> Self {
        self.claims.host_time = Some(time.into());
        self
    }

    pub fn knobs(mut self, knobs: BTreeMap<String, String>) -> Self {
        self.claims.knobs = knobs;
        self
    }

    pub fn identity(&self, nonce: Hex32) -> Result<Claims, ClaimsError> {
        self.finish(Purpose::Identity, nonce, |_| {})
    }

    /// `waiting` is the job at the head of the queue, if the offer is made for one.
    pub fn offer(
        &self,
        nonce: Hex32,
        waiting: Option<(Hex16, u32)>,
    ) -> Result<Claims, ClaimsError> {
        self.finish(Purpose::Offer, nonce, |claims| {
            if let Some((job, attempt)) = waiting {
                claims.job = Some(job);
                claims.attempt = Some(attempt.to_string());
            }
        })
    }

    /// `previous` is the digest of the offer; for a job without one, of the identity evidence made before it.
    pub fn start(
        &self,
        nonce: Hex32,
        binding: JobBinding,
        previous: Hex32,
    ) -> Result<Claims, ClaimsError> {
        self.finish(Purpose::Start, nonce, |claims| {
            claims.bind(binding);
            claims.previous = Some(previous);
        })
    }

    /// `previous` is the digest of the start evidence, `payload` the SHA-256 of the receipt's DSSE payload.
    pub fn receipt(
        &self,
        nonce: Hex32,
        binding: JobBinding,
        previous: Hex32,
        payload: Hex32,
    ) -> Result<Claims, ClaimsError> {
        self.finish(Purpose::Receipt, nonce, |claims| {
            claims.bind(binding);
            claims.previous = Some(previous);
            claims.payload = Some(payload);
        })
    }

    fn finish(
        &self,
        purpose: Purpose,
        nonce: Hex32,
        add: impl FnOnce(&mut Claims),
    ) -> Result<Claims, ClaimsError> {
        let mut claims = self.claims.clone();
        claims.purpose = purpose;
        claims.nonce = nonce;
        add(&mut claims);
        claims.validate()?;
        Ok(claims)
    }
}

impl Claims {
    fn bind(&mut self, binding: JobBinding) {
        self.job = Some(binding.job);
        self.attempt = Some(binding.attempt.to_string());
        self.spec = Some(binding.spec);
    }
}
