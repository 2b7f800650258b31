//! OCSP (RFC 6960): the request for one certificate, and the judgement of a response that somebody supplies.
//!
//! A response counts if it is about this certificate (hashes of its issuer, its serial number), is signed by the issuer's
//! key or by a certificate that the issuer made for this purpose, and is valid at the given time. Who fetched it does not
//! matter, except where a nonce is asked for.

use ring::digest::{self, Algorithm};

use super::{
    certificate::{Certificate, ECDSA_WITH_SHA384, Point, verify_asn1},
    codes::Code,
    der::{self, DerError, Reader},
    der_writer::{algorithm, tlv, tlv_all, unsigned},
};

/// Real ones have one to two KB.
pub const MAX_OCSP_BYTES: usize = 8 * 1024;
/// How far the responder's clock may be ahead.
const CLOCK_SKEW: u64 = 300;
const MAX_RESPONSES: usize = 16;
const MAX_CERTIFICATES: usize = 4;

const SUCCESSFUL: u8 = 0;
const CERTIFICATE_HOLD: u8 = 6;
/// 1.3.6.1.5.5.7.48.1.1 and .2
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 2];
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];

/// Who issued a certificate, as far as OCSP needs it: a root is known by its key alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IssuerOf<'a> {
    pub(crate) subject: &'a Certificate<'a>,
    pub(crate) issuer_key: &'a Point,
}

/// What the responder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateStatus {
    Good,
    /// Revoked for the time being.
    Hold,
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    #[error("read the OCSP response: {0} bytes, the limit is {MAX_OCSP_BYTES}")]
    TooLong(usize),
    #[error("read the OCSP response: {0}")]
    Der(#[from] DerError),
    #[error("read the OCSP response: the responder answered with error {0}")]
    Refused(u8),
    #[error("accept the OCSP response: it is not signed by the issuer or its delegate")]
    Signer,
    #[error("accept the OCSP response: it is about another certificate")]
    Other,
    #[error("accept the OCSP response: it is valid from {from} to {to}")]
    Time { from: u64, to: u64 },
    #[error("accept the OCSP response: it does not say until when it is valid")]
    Endless,
    #[error("accept the OCSP response: its nonce is not the one asked with")]
    Nonce,
}

impl OcspError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong(_) | Self::Der(_) | Self::Refused(_) => Code::OcspMalformed,
            Self::Signer => Code::OcspSigner,
            Self::Other => Code::OcspOther,
            Self::Time { .. } | Self::Endless => Code::OcspTime,
            Self::Nonce => Code::OcspNonce,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

/// One response, taken apart.
#[derive(Debug)]
struct Response<'a> {
    signed: &'a [u8],
    signature: &'a [u8],
    responder: Responder<'a>,
    singles: Vec<Single<'a>>,
    nonce: Option<&'a [u8]>,
    certificates: Vec<&'a [u8]>,
}

#[derive(Debug)]
enum Responder<'a> {
    Name(&'a [u8]),
    /// SHA-1, as the format demands; it only says which key to try.
    KeyHash(&'a [u8]),
}

#[derive(Debug)]
struct Single<'a> {
    hash: &'static Algorithm,
    issuer_name: &'a [u8],
    issuer_key: &'a [u8],
    serial: &'a [u8],
    status: CertificateStatus,
    this_update: u64,
    next_update: Option<u64>,
}

/// Every check on a supplied response. `nonce` is the one that must be in it, if one is asked for.
pub(crate) fn verify(
    bytes: &[u8],
    about: IssuerOf<'_>,
    time: u64,
    nonce: Option<&[u8]>,
) -> Result<CertificateStatus, OcspError> {
    let response = Response::parse(bytes)?;
    if !response.is_signed_for(about, time) {
        return Err(OcspError::Signer);
    }
    if nonce.is_some() && response.nonce != nonce {
        return Err(OcspError::Nonce);
    }
    let single =
        response.singles.iter().find(|single| single.is_about(about)).ok_or(OcspError::Other)?;
    let (from, to) = (single.this_update, single.next_update.ok_or(OcspError::Endless)?);
    if time.saturating_add(CLOCK_SKEW) < from || time > to {
        return Err(OcspError::Time { from, to });
    }
    Ok(single.status)
}

/// The nonce that a response carries, unverified: whether it answers the request that was just made.
pub(crate) fn nonce_of(bytes: &[u8]) -> Result<Option<Vec<u8>>, OcspError> {
    Ok(Response::parse(bytes)?.nonce.map(<[u8]>::to_vec))
}

/// Until when a response says that it is valid, unverified: when another one is to be fetched.
pub fn valid_until(bytes: &[u8]) -> Option<u64> {
    let response = Response::parse(bytes).ok()?;
    response.singles.iter().map(|single| single.next_update).min().flatten()
}

impl<'a> Response<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, OcspError> {
        if bytes.len() > MAX_OCSP_BYTES {
            return Err(OcspError::TooLong(bytes.len()));
        }
        let mut outer = Reader::only(bytes, der::SEQUENCE)?;
        match outer.content(der::ENUMERATED)? {
            [SUCCESSFUL] => {}
            [other] => return Err(OcspError::Refused(*other)),
            _ => return Err(DerError::Form.into()),
        }
        let mut holder = Reader::only(outer.content(0xa0)?, der::SEQUENCE)?;
        outer.finish()?;
        if holder.content(der::OID)? != BASIC {
            return Err(DerError::Value("it is not a basic response").into());
        }
        let mut basic = Reader::only(holder.content(der::OCTET_STRING)?, der::SEQUENCE)?;
        holder.finish()?;
        let data = basic.value(der::SEQUENCE)?;
        if basic.algorithm()? != ECDSA_WITH_SHA384 {
            return Err(DerError::Value("it is not signed by ECDSA with SHA-384").into());
        }
        let signature = basic.bytes_of_bits()?;
        let mut certificates = Vec::new();
        if let Some(list) = basic.optional(0xa0)? {
            let mut list = Reader::only(list.content, der::SEQUENCE)?;
            while !list.is_empty() && certificates.len() < MAX_CERTIFICATES {
                certificates.push(list.value(der::SEQUENCE)?.whole);
            }
            list.finish()?;
        }
        basic.finish()?;
        let (responder, singles, nonce) = read_data(Reader::new(data.content))?;
        Ok(Self { signed: data.whole, signature, responder, singles, nonce, certificates })
    }

    /// Signed by the issuer itself, or by its delegate: a certificate that it signed for OCSP.
    fn is_signed_for(&self, about: IssuerOf<'_>, time: u64) -> bool {
        let issuer_name = about.subject.issuer;
        if self.responder.is(issuer_name, about.issuer_key)
            && verify_asn1(about.issuer_key, self.signed, self.signature)
        {
            return true;
        }
        self.certificates.iter().filter_map(|der| Certificate::parse(der).ok()).any(|delegate| {
            delegate.issuer == issuer_name
                && delegate.is_signed_by(about.issuer_key)
                && delegate.usage.ocsp_signing
                && !delegate.usage.unknown_critical
                && delegate.is_valid_at(time)
                && self.responder.is(delegate.subject, &delegate.point)
                && verify_asn1(&delegate.point, self.signed, self.signature)
        })
    }
}

impl Responder<'_> {
    fn is(&self, name: &[u8], key: &Point) -> bool {
        match self {
            Self::Name(named) => *named == name,
            Self::KeyHash(hash) => {
                digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key).as_ref() == *hash
            }
        }
    }
}

impl Single<'_> {
    fn is_about(&self, about: IssuerOf<'_>) -> bool {
        digest::digest(self.hash, about.subject.issuer).as_ref() == self.issuer_name
            && digest::digest(self.hash, about.issuer_key).as_ref() == self.issuer_key
            && about.subject.serial == self.serial
    }
}

type Data<'a> = (Responder<'a>, Vec<Single<'a>>, Option<&'a [u8]>);

fn read_data(mut data: Reader<'_>) -> Result<Data<'_>, OcspError> {
    if let Some(version) = data.optional(0xa0)? {
        let mut version = Reader::new(version.content);
        if version.small()? != 0 {
            return Err(DerError::Value("it has an unknown version").into());
        }
        version.finish()?;
    }
    let responder = data.next()?;
    let responder = match responder.tag {
        0xa1 => Responder::Name(responder.content),
        0xa2 => {
            let mut hash = Reader::new(responder.content);
            let content = hash.content(der::OCTET_STRING)?;
            hash.finish()?;
            Responder::KeyHash(content)
        }
        _ => return Err(DerError::Value("it does not say who responds").into()),
    };
    let _produced_at = data.time()?;
    let mut list = data.enter(der::SEQUENCE)?;
    let mut singles = Vec::new();
    while !list.is_empty() && singles.len() < MAX_RESPONSES {
        singles.push(read_single(list.enter(der::SEQUENCE)?)?);
    }
    list.finish()?;
    let nonce = match data.optional(0xa1)? {
        Some(extensions) => read_extensions(extensions.content)?,
        None => None,
    };
    data.finish()?;
    Ok((responder, singles, nonce))
}

fn read_single(mut single: Reader<'_>) -> Result<Single<'_>, OcspError> {
    let mut id = single.enter(der::SEQUENCE)?;
    let hash = match id.algorithm()? {
        SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        SHA256 => &digest::SHA256,
        SHA384 => &digest::SHA384,
        _ => return Err(DerError::Value("it names certificates by an unknown hash").into()),
    };
    let issuer_name = id.content(der::OCTET_STRING)?;
    let issuer_key = id.content(der::OCTET_STRING)?;
    let serial = id.unsigned()?;
    id.finish()?;
    let status = single.next()?;
    let status = match (status.tag, status.content) {
        (0x80, []) => CertificateStatus::Good,
        (0xa1, content) => read_revocation(Reader::new(content))?,
        (0x82, []) => CertificateStatus::Unknown,
        _ => return Err(DerError::Value("it has an unknown status").into()),
    };
    let this_update = single.time()?;
    let next_update = match single.optional(0xa0)? {
        Some(next) => {
            let mut inner = Reader::new(next.content);
            let time = inner.time()?;
            inner.finish()?;
            Some(time)
        }
        None => None,
    };
    if let Some(extensions) = single.optional(0xa1)? {
        read_extensions(extensions.content)?;
    }
    single.finish()?;
    Ok(Single { hash, issuer_name, issuer_key, serial, status, this_update, next_update })
}

fn read_revocation(mut info: Reader<'_>) -> Result<CertificateStatus, OcspError> {
    let _revoked_at = info.time()?;
    let status = match info.optional(0xa0)? {
        Some(reason) => {
            let mut inner = Reader::new(reason.content);
            let reason = inner.content(der::ENUMERATED)?;
            inner.finish()?;
            if reason == [CERTIFICATE_HOLD] {
                CertificateStatus::Hold
            } else {
                CertificateStatus::Revoked
            }
        }
        None => CertificateStatus::Revoked,
    };
    info.finish()?;
    Ok(status)
}

/// The nonce, if there is one; a critical extension that is not known here is an error.
fn read_extensions(content: &[u8]) -> Result<Option<&[u8]>, OcspError> {
    let mut list = Reader::only(content, der::SEQUENCE)?;
    let mut nonce = None;
    while !list.is_empty() {
        let mut extension = list.enter(der::SEQUENCE)?;
        let oid = extension.content(der::OID)?;
        let critical = match extension.peek() {
            Some(der::BOOLEAN) => extension.boolean()?,
            _ => false,
        };
        let value = extension.content(der::OCTET_STRING)?;
        extension.finish()?;
        match (oid, nonce) {
            (NONCE, Some(_)) => return Err(DerError::Value("it has two nonces").into()),
            (NONCE, None) => {
                let mut inner = Reader::new(value);
                nonce = Some(inner.content(der::OCTET_STRING)?);
                inner.finish()?;
            }
            _ if critical => {
                return Err(DerError::Value("it has an unknown critical extension").into());
            }
            _ => {}
        }
    }
    Ok(nonce)
}

/// The request that NVIDIA's responder answers: one certificate, named by SHA-384 hashes, and a nonce.
pub(crate) fn request(about: IssuerOf<'_>, nonce: Option<&[u8]>) -> Vec<u8> {
    let hash =
        |bytes: &[u8]| tlv(der::OCTET_STRING, digest::digest(&digest::SHA384, bytes).as_ref());
    let id = tlv_all(
        der::SEQUENCE,
        &[
            algorithm(SHA384),
            hash(about.subject.issuer),
            hash(about.issuer_key),
            unsigned(about.subject.serial),
        ],
    );
    let list = tlv_all(der::SEQUENCE, &[tlv_all(der::SEQUENCE, &[id])]);
    let mut parts = vec![list];
    if let Some(nonce) = nonce {
        let value = tlv(der::OCTET_STRING, &tlv(der::OCTET_STRING, nonce));
        let extension = tlv_all(der::SEQUENCE, &[tlv(der::OID, NONCE), value]);
        parts.push(tlv(0xa2, &tlv_all(der::SEQUENCE, &[extension])));
    }
    tlv_all(der::SEQUENCE, &[tlv_all(der::SEQUENCE, &parts)])
}

/// Fuzz entry: a response that reads is within its limits, and nothing is signed by a key that is no point.
pub fn fuzz_nvidia_ocsp(data: &[u8]) {
    if let Ok(response) = Response::parse(data) {
        assert!(data.len() <= MAX_OCSP_BYTES);
        assert!(response.singles.len() <= MAX_RESPONSES);
        assert!(response.certificates.len() <= MAX_CERTIFICATES);
        assert!(!verify_asn1(&[4; 97], response.signed, response.signature));
        for subject in response.certificates.iter().filter_map(|der| Certificate::parse(der).ok()) {
            let about = IssuerOf { subject: &subject, issuer_key: &[4; 97] };
            assert!(verify(data, about, 0, None).is_err());
        }
    }
}
