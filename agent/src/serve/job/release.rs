//! Opening a job: every check between a sealed release and the first effect, in one place. No effects here.
//!
//! ```text
//! encoding -> HPKE under an offer that is still good -> specification -> owner's signature
//!          -> job, attempt, offer -> image -> limits -> recipient
//! ```

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::{LaunchConfiguration, VmMode};
use sealtune_job::{JobId, JobSpecification, JobTerms, TermsError};
use sealtune_seal::canonical;
use sealtune_seal::hpke::HpkeError;
use sealtune_seal::release::{
    self, OpenedRelease, ReleaseError, SealedRelease, open_release, verify_specification,
};
use sealtune_seal::{RecipientKey, RecipientKeyPair, Secret, SigningPublicKey, Suite};
use sealtune_wire::v1;

use super::JobError;

/// A job that passed every check, ready to run.
#[derive(Debug)]
pub(crate) struct AcceptedJob {
    pub(crate) terms: JobTerms,
    /// Of the specification; of a plain job's terms.
    pub(crate) digest: [u8; 32],
    pub(crate) secrecy: Secrecy,
}

#[derive(Debug)]
pub(crate) enum Secrecy {
    Sealed(Box<SealedJob>),
    Plain,
}

#[derive(Debug)]
pub(crate) struct SealedJob {
    pub(crate) data_key: Secret<[u8; 32]>,
    pub(crate) commitment_key: Secret<[u8; 32]>,
    pub(crate) recipient: RecipientKey,
    /// Digest of the offer that the owner accepted.
    pub(crate) offer: [u8; 32],
}

/// Opens what the owner sealed. `offers` are those that are still good, newest first.
pub(crate) fn open(
    job: JobId,
    attempt: u32,
    sealed: &v1::SealedRelease,
    key: &RecipientKeyPair,
    offers: &[[u8; 32]],
    configuration: &LaunchConfiguration,
) -> Result<AcceptedJob, JobError> {
    if configuration.vm_mode != VmMode::PerJob {
        return Err(JobError::SharedVm);
    }
    let (offer, opened) = open_with_any(&decode(sealed)?, key, offers)?;
    let bytes = opened.spec_bytes.expose();
    let specification = JobSpecification::parse(bytes)?;
    let terms = &specification.terms;
    let owner = SigningPublicKey::new(terms.owner.0)?;
    verify_specification(&owner, bytes, &opened.signature)?;
    if terms.job != job {
        return Err(JobError::OtherJob);
    }
    if terms.attempt != attempt {
        return Err(JobError::OtherAttempt);
    }
    if terms.offer.map(|named| named.0) != Some(offer) {
        return Err(JobError::OtherOffer);
    }
    check_machine(terms, configuration)?;
    let recipient = recipient(terms)?;
    Ok(AcceptedJob {
        digest: release::specification_digest(bytes),
        terms: specification.terms.clone(),
        secrecy: Secrecy::Sealed(Box::new(SealedJob {
            data_key: specification.data_key.duplicate(),
            commitment_key: specification.commitment_key.duplicate(),
            recipient,
            offer,
        })),
    })
}

/// Accepts terms in the clear. They say nothing that would look sealed.
pub(crate) fn accept_plain(
    terms: JobTerms,
    configuration: &LaunchConfiguration,
) -> Result<AcceptedJob, JobError> {
    terms.validate()?;
    if terms.offer.is_some() || terms.dataset.sealed.is_some() {
        return Err(JobError::NotPlain);
    }
    check_machine(&terms, configuration)?;
    let bytes = canonical::to_vec(&terms).map_err(|error| JobError::Specification(error.into()))?;
    let digest = release::specification_digest(&bytes);
    Ok(AcceptedJob { terms, digest, secrecy: Secrecy::Plain })
}

fn check_machine(terms: &JobTerms, configuration: &LaunchConfiguration) -> Result<(), JobError> {
    let root = terms.image.verity_root.0;
    if !configuration.layers.iter().any(|layer| layer.root.0 == root) {
        return Err(JobError::UnknownImage);
    }
    let (asked, available) = (terms.limits.memory_mib, configuration.shape.memory_mib);
    if asked >= available {
        return Err(JobError::Memory { asked, available });
    }
    Ok(())
}

fn recipient(terms: &JobTerms) -> Result<RecipientKey, JobError> {
    let suite: Suite = terms.recipient.suite.parse()?;
    RecipientKey::from_hex(suite, &terms.recipient.key)
        .map_err(|_| JobError::Terms(TermsError::Recipient))
}

fn decode(sealed: &v1::SealedRelease) -> Result<SealedRelease, JobError> {
    let blob = |text: &str| STANDARD.decode(text).map_err(|_| JobError::ReleaseEncoding);
    Ok(SealedRelease {
        suite: sealed.suite.parse().map_err(|_| JobError::ReleaseEncoding)?,
        enc: blob(&sealed.enc)?,
        ciphertext: blob(&sealed.ciphertext)?,
    })
}

/// The offer stands in the HPKE info: only the one that the owner answered opens.
fn open_with_any(
    sealed: &SealedRelease,
    key: &RecipientKeyPair,
    offers: &[[u8; 32]],
) -> Result<([u8; 32], OpenedRelease), JobError> {
    for offer in offers {
        match open_release(sealed, offer, key) {
            Ok(opened) => return Ok((*offer, opened)),
            Err(ReleaseError::Hpke(HpkeError::Open { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(JobError::NoOffer)
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
