//! Keys and certificates of the simulated maker.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
    PublicKeyData, SerialNumber,
};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm,
    },
};
use time::OffsetDateTime;

use super::{MARKER, SimulatedGpuError};

/// A certificate to be.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) params: CertificateParams,
    validity: (u64, u64),
}

/// A key with its certificate.
pub(crate) struct Authority {
    key: KeyPair,
    params: CertificateParams,
    pub(crate) der: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl Draft {
    fn new(name: &str, serial: &[u8], from: u64, to: u64) -> Self {
        let mut names = DistinguishedName::new();
        names.push(DnType::OrganizationName, MARKER);
        names.push(DnType::CommonName, name);
        let mut params = CertificateParams::default();
        params.distinguished_name = names;
        params.serial_number = Some(SerialNumber::from_slice(serial));
        Self { params, validity: (from, to) }
    }

    pub(crate) fn authority(name: &str, serial: &[u8], from: u64, to: u64) -> Self {
        let mut draft = Self::new(name, serial, from, to);
        draft.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        draft.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        draft
    }

    pub(crate) fn signer(name: &str, serial: &[u8], from: u64, to: u64) -> Self {
        let mut draft = Self::new(name, serial, from, to);
        draft.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        draft
    }

    pub(crate) fn for_ocsp(mut self) -> Self {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        self
    }

    pub(crate) fn with_dice(mut self, content: Vec<u8>) -> Self {
        let oid = &[2, 23, 133, 5, 4, 1];
        self.params.custom_extensions = vec![CustomExtension::from_oid_content(oid, content)];
        self
    }

    fn finished(mut self) -> Result<CertificateParams, SimulatedGpuError> {
        self.params.not_before = date(self.validity.0)?;
        self.params.not_after = date(self.validity.1)?;
        Ok(self.params)
    }
}

impl Authority {
    pub(crate) fn root(draft: Draft) -> Result<Self, SimulatedGpuError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = draft.finished()?;
        let der = params.self_signed(&key)?.der().to_vec();
        Ok(Self { key, params, der })
    }

    pub(crate) fn issue(&self, draft: Draft) -> Result<Self, SimulatedGpuError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = draft.finished()?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer)?.der().to_vec();
        Ok(Self { key, params, der })
    }

    pub(crate) fn point(&self) -> [u8; 97] {
        let mut point = [0; 97];
        let bytes = self.key.der_bytes();
        if bytes.len() == point.len() {
            point.copy_from_slice(bytes);
        }
        point
    }

    /// r ‖ s.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, SimulatedGpuError> {
        self.sign(&ECDSA_P384_SHA384_FIXED_SIGNING, message)
    }

    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>, SimulatedGpuError> {
        self.sign(&ECDSA_P384_SHA384_ASN1_SIGNING, message)
    }

    fn sign(
        &self,
        algorithm: &'static EcdsaSigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, SimulatedGpuError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &self.key.serialize_der(), &random)
            .map_err(|_| SimulatedGpuError::Key)?;
        let signature = key.sign(&random, message).map_err(|_| SimulatedGpuError::Key)?;
        Ok(signature.as_ref().to_vec())
    }
}

fn date(seconds: u64) -> Result<OffsetDateTime, SimulatedGpuError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(SimulatedGpuError::Date(seconds))
}
