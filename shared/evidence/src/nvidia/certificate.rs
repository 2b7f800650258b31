//! X.509 certificates (RFC 5280) as far as NVIDIA's chains use them: P-384 keys, ECDSA with SHA-384, and the few extensions
//! that decide who may sign what.

use ring::signature::{ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::der::{self, DerError, Reader};

pub(crate) const MAX_CERTIFICATE_BYTES: usize = 4096;

/// 1.2.840.10045.4.3.3
pub(crate) const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// SubjectPublicKeyInfo of a P-384 key up to its point.
const P384_SPKI_PREFIX: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22,
    3, 0x62, 0,
];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.23.133.5.4.1 and 2.23.133.5.4.1.1, under which NVIDIA keeps the digest of the firmware.
const DICE_TCB_INFO: &[u8] = &[0x67, 0x81, 5, 5, 4, 1];
const DICE_TCB_INFO_1: &[u8] = &[0x67, 0x81, 5, 5, 4, 1, 1];

/// An uncompressed P-384 point: 0x04 ‖ x ‖ y.
pub(crate) const POINT_BYTES: usize = 97;
pub(crate) type Point = [u8; POINT_BYTES];

/// One certificate, parsed; nothing about it is verified yet.
#[derive(Debug, Clone)]
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) spki: &'a [u8],
    pub(crate) point: Point,
    pub(crate) usage: Usage,
    /// Content of the DICE extension.
    pub(crate) dice: Option<&'a [u8]>,
}

/// What the extensions allow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) authority: bool,
    pub(crate) path_length: Option<u8>,
    pub(crate) key_cert_sign: bool,
    pub(crate) digital_signature: bool,
    pub(crate) ocsp_signing: bool,
    /// A critical extension that is not understood here.
    pub(crate) unknown_critical: bool,
}

impl<'a> Certificate<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, DerError> {
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(DerError::Value("a certificate is longer than 4096 bytes"));
        }
        let mut outer = Reader::only(bytes, der::SEQUENCE)?;
        let tbs = outer.value(der::SEQUENCE)?;
        if outer.algorithm()? != ECDSA_WITH_SHA384 {
            return Err(DerError::Value("a certificate is not signed by ECDSA with SHA-384"));
        }
        let signature = outer.bytes_of_bits()?;
        outer.finish()?;

        let mut body = Reader::new(tbs.content);
        let mut version = body.enter(0xa0)?;
        if version.small()? != 2 {
            return Err(DerError::Value("a certificate is not of version 3"));
        }
        version.finish()?;
        let serial = body.unsigned()?;
        if serial.len() > 20 {
            return Err(DerError::Value("a serial number is longer than 20 bytes"));
        }
        if body.algorithm()? != ECDSA_WITH_SHA384 {
            return Err(DerError::Value("a certificate names two signature algorithms"));
        }
        let issuer = body.value(der::SEQUENCE)?.whole;
        let mut validity = body.enter(der::SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.finish()?;
        let subject = body.value(der::SEQUENCE)?.whole;
        let spki = body.value(der::SEQUENCE)?.whole;
        let point = p384_point(spki).ok_or(DerError::Value("a key is not of P-384"))?;
        let mut certificate = Self {
            der: bytes,
            signed: tbs.whole,
            signature,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            spki,
            point,
            usage: Usage::default(),
            dice: None,
        };
        if let Some(extensions) = body.optional(0xa3)? {
            certificate.read_extensions(Reader::only(extensions.content, der::SEQUENCE)?)?;
        }
        body.finish()?;
        Ok(certificate)
    }

    fn read_extensions(&mut self, mut list: Reader<'a>) -> Result<(), DerError> {
        let mut seen: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            let mut extension = list.enter(der::SEQUENCE)?;
            let oid = extension.content(der::OID)?;
            let critical = match extension.peek() {
                Some(der::BOOLEAN) => extension.boolean()?,
                _ => false,
            };
            let content = extension.content(der::OCTET_STRING)?;
            extension.finish()?;
            if seen.contains(&oid) {
                return Err(DerError::Value("an extension occurs twice"));
            }
            seen.push(oid);
            match oid {
                BASIC_CONSTRAINTS => self.usage.read_basic_constraints(content)?,
                KEY_USAGE => self.usage.read_key_usage(content)?,
                EXTENDED_KEY_USAGE => self.usage.read_extended_key_usage(content)?,
                DICE_TCB_INFO | DICE_TCB_INFO_1 if self.dice.is_some() => {
                    return Err(DerError::Value("there are two DICE extensions"));
                }
                DICE_TCB_INFO | DICE_TCB_INFO_1 => self.dice = Some(content),
                _ => self.usage.unknown_critical |= critical,
            }
        }
        Ok(())
    }

    /// Whether `point`'s owner signed this certificate.
    pub(crate) fn is_signed_by(&self, point: &Point) -> bool {
        verify_asn1(point, self.signed, self.signature)
    }

    pub(crate) fn is_valid_at(&self, time: u64) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }

    /// The last common name of the subject, if it is plain text.
    pub(crate) fn common_name(&self) -> Option<&'a str> {
        let mut names = Reader::only(self.subject, der::SEQUENCE).ok()?;
        let mut found = None;
        while !names.is_empty() {
            let mut pairs = names.enter(der::SET).ok()?;
            while !pairs.is_empty() {
                let mut pair = pairs.enter(der::SEQUENCE).ok()?;
                if pair.content(der::OID).ok()? == COMMON_NAME {
                    found = str::from_utf8(pair.next().ok()?.content).ok();
                }
            }
        }
        found.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))
    }
}

impl Usage {
    fn read_basic_constraints(&mut self, content: &[u8]) -> Result<(), DerError> {
        let mut inner = Reader::only(content, der::SEQUENCE)?;
        if inner.peek() == Some(der::BOOLEAN) {
            self.authority = inner.boolean()?;
        }
        if inner.peek() == Some(der::INTEGER) {
            self.path_length = Some(inner.small()?);
        }
        inner.finish()
    }

    fn read_key_usage(&mut self, content: &[u8]) -> Result<(), DerError> {
        let bits = Reader::new(content).content(der::BIT_STRING)?;
        let first = match bits {
            [unused, bits @ ..] if *unused < 8 && bits.len() <= 2 => {
                bits.first().copied().unwrap_or_default()
            }
            _ => return Err(DerError::Value("a key usage is out of its limits")),
        };
        self.digital_signature = first & 0x80 != 0;
        self.key_cert_sign = first & 0x04 != 0;
        Ok(())
    }

    fn read_extended_key_usage(&mut self, content: &[u8]) -> Result<(), DerError> {
        let mut inner = Reader::only(content, der::SEQUENCE)?;
        while !inner.is_empty() {
            self.ocsp_signing |= inner.content(der::OID)? == OCSP_SIGNING;
        }
        Ok(())
    }
}

fn p384_point(spki: &[u8]) -> Option<Point> {
    let point = spki.strip_prefix(P384_SPKI_PREFIX)?;
    let point: Point = point.try_into().ok()?;
    (point.first() == Some(&4)).then_some(point)
}

/// An ECDSA signature as certificates and OCSP responses carry it.
pub(crate) fn verify_asn1(point: &Point, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, point).verify(message, signature).is_ok()
}

/// An ECDSA signature as SPDM and XML signatures carry it: r ‖ s.
pub(crate) fn verify_fixed(point: &Point, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature).is_ok()
}
