//! What an SNP report is verified with: AMD's certificates down to the signing key, and AMD's revocation list.
//!
//! Who brings it does not matter for its truth (it is signed), but for the list's age it does.

use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    certificates::MAX_CERTIFICATE_BYTES,
    codes::Code,
    product::Product,
    revocation::MAX_CRL_BYTES,
    roots::{Roots, SnpAnchor},
};
use crate::{
    base64_bytes::Base64Bytes,
    fixed_hex::{FixedHex, Hex32},
};

pub const SNP_COLLATERAL_TAG: &str = "sealtune/snp-collateral/v1";
/// Three certificates and a list, in base64.
pub const MAX_SNP_COLLATERAL_BYTES: usize = 96 * 1024;
const VERSION: u32 = 1;

/// DER, each part as AMD's key service hands it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpCollateral {
    pub version: u32,
    /// The root.
    pub ark: Base64Bytes,
    /// ASK for a VCEK, ASVK for a VLEK.
    pub ask: Base64Bytes,
    /// VCEK or VLEK.
    pub vek: Base64Bytes,
    /// The root's revocation list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<Base64Bytes>,
}

#[derive(Debug, thiserror::Error)]
pub enum SnpCollateralError {
    #[error("read the certificates of the report: {0}")]
    Parse(#[source] CanonicalError),
    #[error("read the certificates of the report: version {0}, expected 1")]
    Version(u32),
    #[error("read the certificates of the report: {0} is longer than its limit")]
    Length(&'static str),
    #[error("read the certificate chain: expected two certificates in PEM")]
    Pem,
}

impl SnpCollateralError {
    pub fn entry(&self) -> Code {
        Code::CollateralUnreadable
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl SnpCollateral {
    /// From what AMD's key service answers: `chain_pem` has the ASK or ASVK first and the ARK second.
    pub fn from_service(
        chain_pem: &[u8],
        vek: &[u8],
        crl: Option<&[u8]>,
    ) -> Result<Self, SnpCollateralError> {
        if chain_pem.len() > 4 * MAX_CERTIFICATE_BYTES {
            return Err(SnpCollateralError::Length("the chain"));
        }
        let blocks: Vec<_> = x509_parser::pem::Pem::iter_from_buffer(chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|_| SnpCollateralError::Pem)?;
        let [ask, ark] = blocks.as_slice() else { return Err(SnpCollateralError::Pem) };
        if ask.label != "CERTIFICATE" || ark.label != "CERTIFICATE" {
            return Err(SnpCollateralError::Pem);
        }
        let collateral = Self {
            version: VERSION,
            ark: ark.contents.clone().into(),
            ask: ask.contents.clone().into(),
            vek: vek.to_vec().into(),
            crl: crl.map(|crl| crl.to_vec().into()),
        };
        collateral.check_bounds()?;
        Ok(collateral)
    }

    /// Reads a file; the text need not be canonical.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnpCollateralError> {
        if bytes.len() > MAX_SNP_COLLATERAL_BYTES {
            return Err(SnpCollateralError::Length("the file"));
        }
        let collateral: Self = serde_json::from_slice(bytes)
            .map_err(|error| SnpCollateralError::Parse(CanonicalError::Parse(error)))?;
        collateral.check_bounds()?;
        Ok(collateral)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, SnpCollateralError> {
        canonical::to_vec(self).map_err(SnpCollateralError::Parse)
    }

    /// What claims name collateral by.
    pub fn digest(&self) -> Result<Hex32, SnpCollateralError> {
        Ok(FixedHex(canonical::domain_hash(SNP_COLLATERAL_TAG, &self.to_bytes()?)))
    }

    /// Whose root these certificates have: which key that is, not whether anything leads to it.
    pub fn product(&self, roots: &Roots) -> Option<Product> {
        let (_, root) = X509Certificate::from_der(&self.ark.0).ok()?;
        roots.find(root.public_key().raw).map(SnpAnchor::product)
    }

    /// A bound on what nested parsers are given, wherever the collateral came from.
    pub fn check_bounds(&self) -> Result<(), SnpCollateralError> {
        if self.version != VERSION {
            return Err(SnpCollateralError::Version(self.version));
        }
        let crl = self.crl.as_ref().map_or(0, |crl| crl.0.len());
        for (name, length, most) in [
            ("the ARK", self.ark.0.len(), MAX_CERTIFICATE_BYTES),
            ("the ASK", self.ask.0.len(), MAX_CERTIFICATE_BYTES),
            ("the VCEK or VLEK", self.vek.0.len(), MAX_CERTIFICATE_BYTES),
            ("the revocation list", crl, MAX_CRL_BYTES),
        ] {
            if length > most {
                return Err(SnpCollateralError::Length(name));
            }
        }
        Ok(())
    }
}
