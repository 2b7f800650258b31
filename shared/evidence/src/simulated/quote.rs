//! The bytes of a TDX version 4 quote.

use ring::digest;

use super::{
    Oddities, QuoteRequest, SimulatedError,
    pki::{CPU_SVN, Pki},
};

pub(super) const MODULE_SVN: u8 = 5;
/// Module SVN, module version, SEAM loader SVN.
pub(super) const TEE_TCB_SVN: [u8; 16] = [MODULE_SVN, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub(super) const QE_MRSIGNER: [u8; 32] = *b"SIMULATED - NOT INTEL - QE SIGN.";
pub(super) const QE_ISV_PROD_ID: u16 = 2;
pub(super) const QE_ISV_SVN: u16 = 4;

/// The quote format's constant; verifiers insist on it, so it says nothing about who signed.
const QE_VENDOR: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
const SEPT_VE_DISABLE: u64 = 1 << 28;
const DEBUG: u64 = 1;
const XFAM: u64 = 0x0006_02e7;
const BODY_BYTES: usize = 584;

pub(super) fn make(
    pki: &Pki,
    request: &QuoteRequest,
    oddities: &Oddities,
) -> Result<Vec<u8>, SimulatedError> {
    let mut quote = header();
    quote.extend(body(request, oddities));
    let signature = pki.attestation_key.sign_raw(&quote);
    let data = signature_data(pki, &signature);
    quote.extend(length(&data));
    quote.extend(data);
    Ok(quote)
}

fn header() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5000);
    bytes.extend(4_u16.to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(0x81_u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(QE_VENDOR);
    bytes.extend(*b"SIMULATED-QE-ID\0\0\0\0\0");
    bytes
}

fn body(request: &QuoteRequest, oddities: &Oddities) -> Vec<u8> {
    let mut svn = TEE_TCB_SVN;
    svn[0] = oddities.module_svn.unwrap_or(MODULE_SVN);
    let bit = |bit: Option<u8>| bit.and_then(|bit| 1_u64.checked_shl(u32::from(bit))).unwrap_or(0);
    let mut attributes = SEPT_VE_DISABLE | bit(oddities.attribute_bit);
    if oddities.debug {
        attributes |= DEBUG;
    }
    if oddities.without_sept_ve_disable {
        attributes &= !SEPT_VE_DISABLE;
    }
    let xfam = XFAM | bit(oddities.xfam_bit);
    let zero = [0; 48];

    let mut bytes = Vec::with_capacity(BODY_BYTES);
    bytes.extend(svn);
    bytes.extend(module_digest());
    bytes.extend(zero);
    bytes.extend([0; 8]);
    bytes.extend(attributes.to_le_bytes());
    bytes.extend(xfam.to_le_bytes());
    bytes.extend(request.mrtd.0);
    bytes.extend(request.mr_config_id.0);
    bytes.extend(oddities.mr_owner.map_or(zero, |value| value.0));
    bytes.extend(oddities.mr_owner_config.map_or(zero, |value| value.0));
    for register in request.rtmr {
        bytes.extend(register.0);
    }
    bytes.extend(request.report_data);
    bytes
}

/// MRSEAM of a module that does not exist.
fn module_digest() -> [u8; 48] {
    let mut bytes = [0; 48];
    let digest = digest::digest(&digest::SHA384, b"sealtune simulated TDX module");
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

fn signature_data(pki: &Pki, signature: &[u8; 64]) -> Vec<u8> {
    let attestation_key = pki.attestation_key.public_xy();
    let mut auth_data = [0; 32];
    for (byte, value) in auth_data.iter_mut().zip(0_u8..) {
        *byte = value;
    }
    let report = qe_report(attestation_key, &auth_data);
    let chain = format!("{}{}{}", pki.pck.pem(), pki.pck_ca.pem(), pki.root.pem());

    let mut inner = Vec::new();
    inner.extend_from_slice(&report);
    inner.extend(pki.pck_key.sign_raw(&report));
    inner.extend(32_u16.to_le_bytes());
    inner.extend(auth_data);
    inner.extend(5_u16.to_le_bytes());
    inner.extend(length(chain.as_bytes()));
    inner.extend_from_slice(chain.as_bytes());

    let mut data = Vec::new();
    data.extend_from_slice(signature);
    data.extend_from_slice(attestation_key);
    data.extend(6_u16.to_le_bytes());
    data.extend(length(&inner));
    data.extend(inner);
    data
}

fn qe_report(attestation_key: &[u8], auth_data: &[u8; 32]) -> Vec<u8> {
    let mut binding = digest::Context::new(&digest::SHA256);
    binding.update(attestation_key);
    binding.update(auth_data);

    let mut report = vec![0; 384];
    report[..16].copy_from_slice(&CPU_SVN);
    report[48] = 0x11;
    report[128..160].copy_from_slice(&QE_MRSIGNER);
    report[256..258].copy_from_slice(&QE_ISV_PROD_ID.to_le_bytes());
    report[258..260].copy_from_slice(&QE_ISV_SVN.to_le_bytes());
    report[320..352].copy_from_slice(binding.finish().as_ref());
    report
}

fn length(data: &[u8]) -> [u8; 4] {
    u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes()
}
