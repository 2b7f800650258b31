//! AMD's certificate revocation list: which signing keys below a root are no longer to be trusted.
//!
//! Source: RFC 5280, section 5; AMD 57230. The list is signed by the ARK with RSA-PSS. A client remembers the highest
//! number that it has seen, since an old list is as well signed as a new one.

use x509_parser::{
    extensions::ParsedExtension, oid_registry::OID_PKCS1_RSASSAPSS, prelude::FromDer,
    revocation_list::CertificateRevocationList,
};

use super::{certificates::VerifiedChain, codes::Code, signed_der::Signed};
use crate::fixed_hex::FixedHex;

pub const MAX_CRL_BYTES: usize = 32 * 1024;

/// A list's number, big-endian; RFC 5280 gives it at most 20 bytes. Later lists have higher ones.
pub type CrlNumber = FixedHex<20>;

/// A list that was read, and is not yet known to be AMD's.
#[derive(Debug)]
pub struct Crl<'a> {
    list: CertificateRevocationList<'a>,
    signed: Signed<'a>,
    number: CrlNumber,
}

/// A list that its root signed and that is valid now. Made by [`Crl::verify`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCrl {
    number: CrlNumber,
    issued: u64,
    expires: u64,
    /// The names of certificates of the chain that the list has.
    revoked: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    #[error("read the revocation list: {0}")]
    Form(&'static str),
    #[error("verify the revocation list with the root of the chain")]
    Signature,
    #[error("use the revocation list at {now}: it is valid from {from} to {to}")]
    Time { now: u64, from: i64, to: i64 },
}

impl CrlError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Form(_) => Code::CrlUnreadable,
            Self::Signature => Code::CrlSignature,
            Self::Time { .. } => Code::CrlTime,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl<'a> Crl<'a> {
    /// Reads one DER list that ends where its bytes end.
    pub fn read(der: &'a [u8]) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL_BYTES {
            return Err(CrlError::Form("longer than 32 KiB"));
        }
        let (rest, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| CrlError::Form("it is not DER of a revocation list"))?;
        if !rest.is_empty() {
            return Err(CrlError::Form("bytes follow it"));
        }
        let signed = Signed::split(der).filter(|signed| {
            let body = &list.tbs_cert_list;
            signed.body() == body.as_ref() && body.signature.algorithm == OID_PKCS1_RSASSAPSS
        });
        let signed = signed.ok_or(CrlError::Form("it is not signed with RSA-PSS as AMD signs"))?;
        let mut number = None;
        for (at, extension) in list.extensions().iter().enumerate() {
            let before = list.extensions().get(..at).unwrap_or_default();
            if before.iter().any(|other| other.oid == extension.oid) {
                return Err(CrlError::Form("an extension twice"));
            }
            if let ParsedExtension::CRLNumber(_) = extension.parsed_extension() {
                number = Some(number_of(extension.value)?);
            }
            // Delta lists and lists of part of the certificates say so here.
            if extension.critical {
                return Err(CrlError::Form("a critical extension"));
            }
        }
        let entries_plain = list
            .iter_revoked_certificates()
            .all(|entry| entry.extensions().iter().all(|extension| !extension.critical));
        if !entries_plain {
            return Err(CrlError::Form("an entry with a critical extension"));
        }
        let number = number.ok_or(CrlError::Form("it has no number"))?;
        Ok(Self { list, signed, number })
    }

    /// Holds the list against the chain's root and `now`, and looks the chain's certificates up in it.
    pub fn verify(&self, chain: &VerifiedChain, now: u64) -> Result<VerifiedCrl, CrlError> {
        let named = self.list.issuer().as_raw() == chain.root.name;
        if !named || !chain.root.verifies(&self.signed) {
            return Err(CrlError::Signature);
        }
        let from = self.list.last_update().timestamp();
        let to = self.list.next_update().ok_or(CrlError::Form("it has no end"))?.timestamp();
        let refused = CrlError::Time { now, from, to };
        let (Ok(at), Ok(issued), Ok(expires)) =
            (i64::try_from(now), u64::try_from(from), u64::try_from(to))
        else {
            return Err(refused);
        };
        if at < from || to < at {
            return Err(refused);
        }
        let lists = |serial: &[u8]| {
            self.list
                .iter_revoked_certificates()
                .any(|entry| without_zeros(entry.raw_serial()) == without_zeros(serial))
        };
        let revoked = chain
            .serials
            .iter()
            .filter(|(_, serial)| lists(serial))
            .map(|(name, _)| *name)
            .collect();
        Ok(VerifiedCrl { number: self.number, issued, expires, revoked })
    }
}

impl VerifiedCrl {
    /// For the client to remember.
    pub fn number(&self) -> CrlNumber {
        self.number
    }

    pub fn issued(&self) -> u64 {
        self.issued
    }

    pub fn expires(&self) -> u64 {
        self.expires
    }

    pub fn revoked(&self) -> &[&'static str] {
        &self.revoked
    }
}

/// A DER INTEGER of 0 or more, of at most 20 bytes.
fn number_of(value: &[u8]) -> Result<CrlNumber, CrlError> {
    let refused = CrlError::Form("its number");
    let [2, length @ 1..=0x7f, digits @ ..] = value else { return Err(refused) };
    let negative = digits.first().is_none_or(|first| first & 0x80 != 0);
    let digits = if usize::from(*length) == digits.len() { without_zeros(digits) } else { &[] };
    let mut number = [0; 20];
    let Some(start) = number.len().checked_sub(digits.len()) else { return Err(refused) };
    if negative || usize::from(*length) + 2 != value.len() {
        return Err(refused);
    }
    for (to, from) in number.iter_mut().skip(start).zip(digits) {
        *to = *from;
    }
    Ok(FixedHex(number))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_lists() {
        let low = number_of(&[2, 1, 9]).expect("9");
        let high = number_of(&[2, 2, 1, 0]).expect("256");
        assert!(low < high, "numbers order as they count");
        assert_eq!(number_of(&[2, 2, 0, 0xff]).expect("255").0[19], 255);
        let longest = [&[2, 21, 0][..], &[0xff; 20]].concat();
        assert_eq!(number_of(&longest).expect("20 bytes").0, [0xff; 20]);
        let too_long = [&[2, 21, 1][..], &[0; 20]].concat();
        for other in [&[2, 1, 0x80][..], &[2, 2, 1], &[2, 0], &[2, 1, 1, 1], &[], &too_long] {
            assert!(number_of(other).is_err(), "{other:?}");
        }
    }
}
