//! AMD's chain: root key (ARK), its signing key for chips (ASK) or for clouds (ASVK), and the key that signed the report.
//!
//! Source: AMD 57230. ARK and ASK are RSA-4096 and sign with RSA-PSS, SHA-384 and a salt of 48 bytes; VCEK and VLEK are
//! P-384. Nothing of this is taken from a trust store: the ARK's key is pinned ([`super::roots`]).

use x509_parser::{
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    oid_registry::{
        OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS,
    },
    prelude::FromDer,
    x509::{X509Name, X509Version},
};

use super::{
    codes::Code,
    collateral::SnpCollateral,
    extensions::{self, AmdExtensions},
    product::Product,
    report::{ReportError, SigningKey, verify_signature},
    roots::{Roots, SnpAnchor},
    signed_der::Signed,
};

pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
const POINT_BYTES: usize = 97;

/// The key that signs reports, and what AMD certifies about it. Made by [`verify_chain`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vek {
    pub(super) kind: SigningKey,
    pub(super) says: AmdExtensions,
    point: Vec<u8>,
}

/// A chain whose signatures, names, dates and form verified. Revocation is a question of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    pub(super) anchor: SnpAnchor,
    pub(super) vek: Vek,
    /// The first time at which one of the certificates is no longer valid.
    pub(super) expires: u64,
    pub(super) root: RootKey,
    /// Serial numbers of what AMD can revoke, with their names.
    pub(super) serials: Vec<(&'static str, Vec<u8>)>,
}

/// Name and RSA key of the root, for what else it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RootKey {
    pub(super) name: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Ark,
    Ask,
    Vek,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("read the certificate of the {part}: {reason}")]
    Form { part: Part, reason: &'static str },
    #[error("read the certificate of the signing key: {0} is missing or not as AMD writes it")]
    Extension(&'static str),
    #[error("find the root key among AMD's")]
    Root,
    #[error("verify the signature on the certificate of the {0}")]
    Signature(Part),
    #[error("use the certificate of the {part} at {now}: it is valid from {from} to {to}")]
    Time { part: Part, now: u64, from: i64, to: i64 },
}

impl CertificateError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Form { .. } | Self::Extension(_) => Code::CertificateForm,
            Self::Root => Code::RootUnknown,
            Self::Signature(_) => Code::CertificateSignature,
            Self::Time { .. } => Code::CertificateTime,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl VerifiedChain {
    pub fn anchor(&self) -> SnpAnchor {
        self.anchor
    }

    pub fn product(&self) -> Product {
        self.anchor.product()
    }

    pub fn vek(&self) -> &Vek {
        &self.vek
    }

    pub fn expires(&self) -> u64 {
        self.expires
    }
}

impl Vek {
    pub fn kind(&self) -> SigningKey {
        self.kind
    }

    pub fn says(&self) -> &AmdExtensions {
        &self.says
    }

    /// Checks the report's signature over the bytes as they were received.
    pub fn verify_report(&self, report: &[u8]) -> Result<(), ReportError> {
        verify_signature(report, &self.point)
    }
}

/// Verifies root, middle and leaf against the pinned roots at `now`.
pub fn verify_chain(
    collateral: &SnpCollateral,
    roots: &Roots,
    now: u64,
) -> Result<VerifiedChain, CertificateError> {
    let signed_ark = read(&collateral.ark.0, Part::Ark)?;
    let signed_ask = read(&collateral.ask.0, Part::Ask)?;
    let signed_vek = read(&collateral.vek.0, Part::Vek)?;
    let [ark, ask, vek] = [&signed_ark, &signed_ask, &signed_vek].map(|part| &part.certificate);
    let anchor = roots.find(ark.public_key().raw).ok_or(CertificateError::Root)?;
    let root = RootKey::of(ark)?;
    root.check(&signed_ark, Part::Ark)?;
    root.check(&signed_ask, Part::Ask)?;
    CaKey::of(ask, Part::Ask)?.check(&signed_vek, Part::Vek)?;
    check_authority(ark, Part::Ark)?;
    check_authority(ask, Part::Ask)?;
    let kind = kind_of(ask, vek, anchor.product())?;
    let says = check_leaf(vek, kind, anchor.product())?;
    let mut expires = u64::MAX;
    for (certificate, part) in [(ark, Part::Ark), (ask, Part::Ask), (vek, Part::Vek)] {
        expires = expires.min(check_dates(certificate, part, now)?);
    }
    // Every VCEK has the serial number 0: it is replaced by a new TCB and never revoked by number.
    let serials = match kind {
        SigningKey::Vcek => vec![("ASK", ask.raw_serial().to_vec())],
        SigningKey::Vlek => {
            vec![("ASVK", ask.raw_serial().to_vec()), ("VLEK", vek.raw_serial().to_vec())]
        }
    };
    let point = vek.public_key().subject_public_key.data.to_vec();
    Ok(VerifiedChain { anchor, vek: Vek { kind, says, point }, expires, root, serials })
}

/// Reads one DER certificate that ends where its bytes end, with each extension once and no unknown critical one.
fn read(der: &[u8], part: Part) -> Result<Certificate<'_>, CertificateError> {
    let refuse = |reason| CertificateError::Form { part, reason };
    if der.len() > MAX_CERTIFICATE_BYTES {
        return Err(refuse("longer than 8 KiB"));
    }
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| refuse("it is not DER of a certificate"))?;
    if !rest.is_empty() {
        return Err(refuse("bytes follow it"));
    }
    if certificate.version() != X509Version::V3 {
        return Err(refuse("its version"));
    }
    let signed = Signed::split(der).filter(|signed| {
        let body = &certificate.tbs_certificate;
        signed.body() == body.as_ref() && body.signature.algorithm == OID_PKCS1_RSASSAPSS
    });
    let signed = signed.ok_or(refuse("it is not signed with RSA-PSS as AMD signs"))?;
    check_extensions(certificate.extensions()).map_err(refuse)?;
    Ok(Certificate { certificate, signed })
}

/// What was read, with what its issuer signed.
struct Certificate<'a> {
    certificate: X509Certificate<'a>,
    signed: Signed<'a>,
}

/// No extension twice, and none that must be understood and is not.
pub(super) fn check_extensions(extensions: &[X509Extension<'_>]) -> Result<(), &'static str> {
    for (at, extension) in extensions.iter().enumerate() {
        let before = extensions.get(..at).unwrap_or_default();
        if before.iter().any(|other| other.oid == extension.oid) {
            return Err("an extension twice");
        }
        let understood = match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_) => true,
            ParsedExtension::ParseError { .. } => return Err("a damaged extension"),
            _ => extensions::is_amd(extension),
        };
        if extension.critical && !understood {
            return Err("a critical extension that this program does not know");
        }
    }
    Ok(())
}

/// An RSA key that signs certificates, with the name it signs under.
struct CaKey<'a> {
    name: &'a [u8],
    key: &'a [u8],
}

impl<'a> CaKey<'a> {
    fn of(certificate: &'a X509Certificate<'_>, part: Part) -> Result<Self, CertificateError> {
        let public = certificate.public_key();
        if public.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return Err(CertificateError::Form { part, reason: "its key is not RSA" });
        }
        Ok(Self { name: certificate.subject().as_raw(), key: &public.subject_public_key.data })
    }

    fn check(&self, child: &Certificate<'_>, part: Part) -> Result<(), CertificateError> {
        let named = child.certificate.issuer().as_raw() == self.name;
        if named && child.signed.verifies_with(self.key) {
            Ok(())
        } else {
            Err(CertificateError::Signature(part))
        }
    }
}

impl RootKey {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        let CaKey { name, key } = CaKey::of(certificate, Part::Ark)?;
        Ok(Self { name: name.to_vec(), key: key.to_vec() })
    }

    fn check(&self, child: &Certificate<'_>, part: Part) -> Result<(), CertificateError> {
        CaKey { name: &self.name, key: &self.key }.check(child, part)
    }

    pub(super) fn verifies(&self, signed: &Signed<'_>) -> bool {
        signed.verifies_with(&self.key)
    }
}

fn check_authority(certificate: &X509Certificate<'_>, part: Part) -> Result<(), CertificateError> {
    let is_authority = certificate
        .basic_constraints()
        .is_ok_and(|constraints| constraints.is_some_and(|found| found.value.ca));
    let may_sign = certificate
        .key_usage()
        .is_ok_and(|usage| usage.is_some_and(|found| found.value.key_cert_sign()));
    if is_authority && may_sign {
        Ok(())
    } else {
        Err(CertificateError::Form { part, reason: "it may not sign certificates" })
    }
}

/// VCEKs hang under `SEV-<product>`, VLEKs under `SEV-VLEK-<product>`.
fn kind_of(
    ask: &X509Certificate<'_>,
    vek: &X509Certificate<'_>,
    product: Product,
) -> Result<SigningKey, CertificateError> {
    match (common_name(ask.subject()), common_name(vek.subject())) {
        (Some(above), Some("SEV-VCEK")) if above == format!("SEV-{product}") => {
            Ok(SigningKey::Vcek)
        }
        (Some(above), Some("SEV-VLEK")) if above == format!("SEV-VLEK-{product}") => {
            Ok(SigningKey::Vlek)
        }
        _ => Err(CertificateError::Form { part: Part::Ask, reason: "its name or the leaf's" }),
    }
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    let first = names.next()?.as_str().ok()?;
    names.next().is_none().then_some(first)
}

fn check_leaf(
    vek: &X509Certificate<'_>,
    kind: SigningKey,
    product: Product,
) -> Result<AmdExtensions, CertificateError> {
    let refuse = |reason| Err(CertificateError::Form { part: Part::Vek, reason });
    let public = vek.public_key();
    let curve = public.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    if public.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || curve != Some(OID_NIST_EC_P384)
        || public.subject_public_key.data.len() != POINT_BYTES
    {
        return refuse("its key is not of P-384");
    }
    if vek.is_ca() {
        return refuse("it may sign certificates");
    }
    let says = extensions::read(vek.extensions(), product)?;
    let complete = match kind {
        SigningKey::Vcek => says.chip_id.is_some() && says.csp_id.is_none(),
        SigningKey::Vlek => says.chip_id.is_none() && says.csp_id.is_some(),
    };
    if complete { Ok(says) } else { refuse("it names no chip, or no cloud provider, or both") }
}

/// When the certificate ends, if it is valid now.
fn check_dates(
    certificate: &X509Certificate<'_>,
    part: Part,
    now: u64,
) -> Result<u64, CertificateError> {
    let from = certificate.validity().not_before.timestamp();
    let to = certificate.validity().not_after.timestamp();
    match (i64::try_from(now), u64::try_from(to)) {
        (Ok(at), Ok(end)) if from <= at && at <= to => Ok(end),
        _ => Err(CertificateError::Time { part, now, from, to }),
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ark => "root (ARK)",
            Self::Ask => "signing key (ASK or ASVK)",
            Self::Vek => "report's key (VCEK or VLEK)",
        })
    }
}

/// Fuzz entry: a chain that does not lead to AMD never verifies, and what verifies has an end.
pub fn fuzz_snp_certificates(data: &[u8]) {
    for part in [Part::Ark, Part::Vek] {
        if let Ok(Certificate { certificate, .. }) = read(data, part) {
            for product in Product::ALL {
                let _ = check_leaf(&certificate, SigningKey::Vcek, product);
            }
            let _ = (check_authority(&certificate, part), check_dates(&certificate, part, 1 << 40));
        }
    }
    let _ = super::revocation::Crl::read(data);
    if let Ok(collateral) = SnpCollateral::parse(data) {
        let canonical = collateral.to_bytes();
        assert!(canonical.is_ok_and(|bytes| {
            SnpCollateral::parse(&bytes).is_ok_and(|again| again == collateral)
        }));
        if let Ok(chain) = verify_chain(&collateral, &Roots::amd(), 1_800_000_000) {
            assert!(chain.expires >= 1_800_000_000 && !chain.anchor.is_simulated());
        }
    }
}
