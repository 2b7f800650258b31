//! Whether a device is one of NVIDIA's at all, before any RIM file or OCSP response is there.

use crate::nvidia::{
    chain::{DeviceChain, read_pem},
    device_evidence::DeviceEvidence,
    roots::NvidiaRoots,
    transcript::Transcript,
};

/// Its certificates lead to the root, and its key signed a report over this nonce. Neither revocation nor firmware is known
/// yet: only that the certificates and names in this evidence are the maker's, and nobody made them up.
pub fn is_genuine(evidence: &[u8], roots: &NvidiaRoots, nonce: &[u8; 32], time: u64) -> bool {
    let Ok(evidence) = DeviceEvidence::parse(evidence) else { return false };
    let Ok(ders) = str::from_utf8(evidence.certificates())
        .map_err(drop)
        .and_then(|pem| read_pem(pem).map_err(drop))
    else {
        return false;
    };
    let Ok(chain) = DeviceChain::verify(&ders, &roots.device, time) else { return false };
    let Ok(transcript) = Transcript::parse(evidence.transcript()) else { return false };
    transcript.nonce == *nonce
        && chain.leaf_point().is_some_and(|leaf| transcript.is_signed_by(leaf))
}
