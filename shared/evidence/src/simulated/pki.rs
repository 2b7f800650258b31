//! Keys and certificates of the development PKI. Deterministic: keys come from the seed, signatures are RFC 6979, serial
//! numbers and validity are fixed, so the same seed and time make the same bytes.

use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use ring::digest;
use time::OffsetDateTime;

use super::{MARKER, SimulatedError};

/// A family that Intel does not use.
pub(super) const FMSPC: [u8; 6] = [0x51, 0x1d, 0, 0, 0, 0];
pub(super) const PCE_SVN: u8 = 11;
pub(super) const CPU_SVN: [u8; 16] = [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];

const YEAR: u64 = 365 * 24 * 3600;
const SGX_EXTENSION: &[u64] = &[1, 2, 840, 113_741, 1, 13, 1];

/// A P-256 key that signs without randomness.
pub(super) struct DevelopmentKey {
    signing: SigningKey,
    /// 0x04 ‖ x ‖ y.
    point: Vec<u8>,
}

pub(super) struct Pki {
    pub(super) root: Certificate,
    pub(super) pck_ca: Certificate,
    pub(super) tcb_signing: Certificate,
    pub(super) pck: Certificate,
    pub(super) root_key: DevelopmentKey,
    pub(super) tcb_key: DevelopmentKey,
    pub(super) pck_key: DevelopmentKey,
    pub(super) attestation_key: DevelopmentKey,
    pck_ca_key: DevelopmentKey,
    root_params: CertificateParams,
    pck_ca_params: CertificateParams,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki(..)")
    }
}

impl DevelopmentKey {
    fn derive(seed: &[u8; 32], label: &str) -> Result<Self, SimulatedError> {
        for counter in 0_u32..16 {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(b"sealtune/simulated-key/v1\0");
            context.update(seed);
            context.update(label.as_bytes());
            context.update(&counter.to_be_bytes());
            if let Ok(signing) = SigningKey::from_slice(context.finish().as_ref()) {
                let point = signing.verifying_key().to_encoded_point(false).as_bytes().to_vec();
                return Ok(Self { signing, point });
            }
        }
        Err(SimulatedError::Key)
    }

    /// r ‖ s.
    pub(super) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.signing.sign(message);
        signature.to_bytes().into()
    }

    /// What root key ids are computed over.
    pub(super) fn public_point(&self) -> &[u8] {
        &self.point
    }

    /// x ‖ y.
    pub(super) fn public_xy(&self) -> &[u8] {
        &self.point[1..]
    }
}

impl PublicKeyData for DevelopmentKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for DevelopmentKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.signing.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

impl Pki {
    pub(super) fn new(seed: &[u8; 32], created: u64) -> Result<Self, SimulatedError> {
        let root_key = DevelopmentKey::derive(seed, "root")?;
        let pck_ca_key = DevelopmentKey::derive(seed, "pck-ca")?;
        let tcb_key = DevelopmentKey::derive(seed, "tcb-signing")?;
        let pck_key = DevelopmentKey::derive(seed, "pck")?;
        let attestation_key = DevelopmentKey::derive(seed, "attestation")?;

        let mut root_params = params("Sealtune development SGX Root CA", 1, created)?;
        make_ca(&mut root_params, 1);
        // The verifier recognises the issuing authority by the word `Platform`.
        let mut pck_ca_params = params("Sealtune development SGX PCK Platform CA", 2, created)?;
        make_ca(&mut pck_ca_params, 0);
        let mut tcb_params = params("Sealtune development SGX TCB Signing", 3, created)?;
        tcb_params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut pck_params = params("Sealtune development SGX PCK Certificate", 4, created)?;
        pck_params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        pck_params.custom_extensions =
            vec![CustomExtension::from_oid_content(SGX_EXTENSION, sgx_extension(seed))];

        let (root, pck_ca, tcb_signing, pck) = {
            let root_issuer = Issuer::from_params(&root_params, &root_key);
            let pck_issuer = Issuer::from_params(&pck_ca_params, &pck_ca_key);
            let made = SimulatedError::Certificate;
            (
                root_params.self_signed(&root_key).map_err(made)?,
                pck_ca_params.signed_by(&pck_ca_key, &root_issuer).map_err(made)?,
                tcb_params.signed_by(&tcb_key, &root_issuer).map_err(made)?,
                pck_params.signed_by(&pck_key, &pck_issuer).map_err(made)?,
            )
        };
        Ok(Self {
            root,
            pck_ca,
            tcb_signing,
            pck,
            root_key,
            tcb_key,
            pck_key,
            attestation_key,
            pck_ca_key,
            root_params,
            pck_ca_params,
        })
    }

    /// Empty revocation lists of the root and of the PCK authority, DER.
    pub(super) fn revocation_lists(&self, now: u64) -> Result<(Vec<u8>, Vec<u8>), SimulatedError> {
        let list = CertificateRevocationListParams {
            this_update: date(now)?,
            next_update: date(now.saturating_add(super::collateral::VALIDITY))?,
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let root_issuer = Issuer::from_params(&self.root_params, &self.root_key);
        let pck_issuer = Issuer::from_params(&self.pck_ca_params, &self.pck_ca_key);
        let root = list.signed_by(&root_issuer).map_err(SimulatedError::Certificate)?;
        let pck = list.signed_by(&pck_issuer).map_err(SimulatedError::Certificate)?;
        Ok((root.der().to_vec(), pck.der().to_vec()))
    }
}

fn params(name: &str, serial: u8, created: u64) -> Result<CertificateParams, SimulatedError> {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names.push(DnType::OrganizationName, MARKER);
    let mut params = CertificateParams::default();
    params.distinguished_name = names;
    params.serial_number = Some(SerialNumber::from_slice(&[serial]));
    // A day earlier, so that a verifier whose clock is a little behind accepts the platform's first quote.
    params.not_before = date(created.saturating_sub(24 * 3600))?;
    params.not_after = date(created.saturating_add(20 * YEAR))?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn make_ca(params: &mut CertificateParams, path_length: u8) {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

fn date(seconds: u64) -> Result<OffsetDateTime, SimulatedError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(SimulatedError::Date(seconds))
}

/// The platform's identity and TCB, as Intel's PCK certificates carry them.
fn sgx_extension(seed: &[u8; 32]) -> Vec<u8> {
    let mut ppid = digest::Context::new(&digest::SHA256);
    ppid.update(b"sealtune/simulated-ppid/v1\0");
    ppid.update(seed);
    let ppid = ppid.finish();

    let mut tcb = Vec::new();
    for (index, svn) in (1_u8..).zip(CPU_SVN) {
        tcb.extend(pair(&[2, index], integer(svn)));
    }
    tcb.extend(pair(&[2, 17], integer(PCE_SVN)));
    tcb.extend(pair(&[2, 18], tlv(0x04, &CPU_SVN)));

    let mut content = Vec::new();
    content.extend(pair(&[1], tlv(0x04, &ppid.as_ref()[..16])));
    content.extend(pair(&[2], tlv(0x30, &tcb)));
    content.extend(pair(&[3], tlv(0x04, &[0, 0])));
    content.extend(pair(&[4], tlv(0x04, &FMSPC)));
    content.extend(pair(&[5], tlv(0x0a, &[1])));
    tlv(0x30, &content)
}

/// `SEQUENCE { 1.2.840.113741.1.13.1.<suffix>, value }`.
fn pair(suffix: &[u8], value: Vec<u8>) -> Vec<u8> {
    let mut oid = vec![0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    oid.extend_from_slice(suffix);
    let mut content = tlv(0x06, &oid);
    content.extend(value);
    tlv(0x30, &content)
}

fn integer(value: u8) -> Vec<u8> {
    if value < 0x80 { tlv(0x02, &[value]) } else { tlv(0x02, &[0, value]) }
}

/// DER with lengths up to 65535, which is all that is needed here.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    match (high, low) {
        (0, short) if short < 0x80 => bytes.push(short),
        (0, long) => bytes.extend([0x81, long]),
        (high, low) => bytes.extend([0x82, high, low]),
    }
    bytes.extend_from_slice(content);
    bytes
}
