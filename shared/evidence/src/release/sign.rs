//! Signing by several people on several machines: each signs the same statement; the halves are merged by anybody.

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{
    error::ReleaseError,
    keys::key_id,
    manifest::Manifest,
    statement,
    verified::{check_form, read_envelope},
};
use crate::{
    dsse::Envelope,
    fixed_hex::{FixedHex, Hex32},
};

/// A manifest with its first signature. The same manifest gives the same statement everywhere.
pub fn sign(manifest: &Manifest, key: &Ed25519KeyPair) -> Result<Envelope, ReleaseError> {
    let mut envelope = Envelope::unsigned(statement::write(manifest)?);
    envelope.add_signature(id_of(key).to_string(), key);
    Ok(envelope)
}

/// Adds a signature to a manifest that somebody else has signed, after its rules were checked; what it says is returned so
/// that the second holder can look at it first.
pub fn cosign(bytes: &[u8], key: &Ed25519KeyPair) -> Result<(Manifest, Envelope), ReleaseError> {
    let mut envelope = read_envelope(bytes)?;
    let manifest = statement::read(&envelope.payload.0)?;
    let id = id_of(key);
    if envelope.signatures.iter().any(|signature| signature.keyid == id.to_string()) {
        return Err(ReleaseError::SignedAlready(id));
    }
    envelope.add_signature(id.to_string(), key);
    check_form(&envelope)?;
    Ok((manifest, envelope))
}

/// One envelope with the signatures of both, in order of their key ids.
pub fn merge(one: &[u8], other: &[u8]) -> Result<Envelope, ReleaseError> {
    let (mut merged, other) = (read_envelope(one)?, read_envelope(other)?);
    if merged.payload != other.payload {
        return Err(ReleaseError::MergeOther);
    }
    for signature in other.signatures {
        match merged.signatures.iter().find(|known| known.keyid == signature.keyid) {
            None => merged.signatures.push(signature),
            Some(known) if *known == signature => {}
            Some(known) => return Err(ReleaseError::MergeConflict(known.keyid.clone())),
        }
    }
    merged.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
    check_form(&merged)?;
    Ok(merged)
}

fn id_of(key: &Ed25519KeyPair) -> Hex32 {
    let mut public = [0; 32];
    public.copy_from_slice(key.public_key().as_ref());
    key_id(&FixedHex(public))
}
