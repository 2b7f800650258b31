//! The outer form that certificates and revocation lists share: what is signed, how, and the signature.
//!
//! Source: RFC 5280, sections 4.1.1 and 5.1.1; X.690 (DER); RFC 4055 for the parameters. What stands outside of the signed
//! part is compared byte for byte, or it could change and the document still verify.

use ring::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 3;

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384, a salt of 48 bytes; AMD writes the trailer field or leaves it to its default.
const PSS: [&[u8]; 2] = [
    &[
        0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34,
        0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
        0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
        0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
        0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
    ],
    &[
        0x30, 0x46, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39,
        0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
        0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
        0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
        0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
    ],
];

/// A document's parts; nothing is verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    /// With tag and length.
    body: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// `None` unless `der` is exactly body, RSA-PSS as AMD uses it, and a signature of whole bytes.
    pub(super) fn split(der: &'a [u8]) -> Option<Self> {
        let (_, content, []) = element(der, SEQUENCE)? else { return None };
        let (body, _, rest) = element(content, SEQUENCE)?;
        let rest = PSS.iter().find_map(|algorithm| rest.strip_prefix(*algorithm))?;
        match element(rest, BIT_STRING)? {
            (_, [0, signature @ ..], []) => Some(Self { body, signature }),
            _ => None,
        }
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// `key` is a DER RSAPublicKey.
    pub(super) fn verifies_with(&self, key: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key)
            .verify(self.body, self.signature)
            .is_ok()
    }
}

/// One element whole, its content, and what follows it. Lengths have one spelling and at most three bytes.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8], &[u8])> {
    let (header, length) = match *bytes {
        [found, length @ 0..=0x7f, ..] if found == tag => (2, usize::from(length)),
        [found, 0x81, length @ 0x80..=0xff, ..] if found == tag => (3, usize::from(length)),
        [found, 0x82, high @ 1..=0xff, low, ..] if found == tag => {
            (4, usize::from(u16::from_be_bytes([high, low])))
        }
        _ => return None,
    };
    let (whole, rest) = bytes.split_at_checked(header + length)?;
    Some((whole, whole.get(header..)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
        let content = [body, algorithm, signature].concat();
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        match length {
            [0, low @ 0..=0x7f] => [&[0x30, low][..], &content].concat(),
            [0, low] => [&[0x30, 0x81, low][..], &content].concat(),
            [high, low] => [&[0x30, 0x82, high, low][..], &content].concat(),
        }
    }

    #[test]
    fn only_one_spelling_is_split() {
        let body = [0x30, 1, 7];
        let signature = [3, 3, 0, 0xaa, 0xbb];
        for algorithm in PSS {
            let good = document(&body, algorithm, &signature);
            let parts = Signed::split(&good).expect("good");
            assert_eq!((parts.body(), parts.signature), (&body[..], &[0xaa, 0xbb][..]));
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut flipped = good.clone();
                    flipped[at] ^= 1 << bit;
                    assert!(
                        Signed::split(&flipped).is_none_or(|other| other != parts),
                        "byte {at}, bit {bit}"
                    );
                }
                assert_eq!(Signed::split(&good[..at]), None);
            }
        }
        let bits = document(&body, PSS[0], &[3, 3, 1, 0xaa, 0xbb]);
        assert_eq!(Signed::split(&bits), None);
        let after = document(&body, PSS[0], &[3, 3, 0, 0xaa, 0xbb, 0]);
        assert_eq!(Signed::split(&after), None);
    }

    #[test]
    fn lengths_have_one_spelling() {
        for bad in [
            &[0x30, 0x81, 1, 0][..],
            &[0x30, 0x82, 0, 1, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x83, 0, 0, 1, 0],
            &[0x30],
            &[],
            &[0x30, 2, 0],
        ] {
            assert_eq!(element(bad, SEQUENCE), None, "{bad:x?}");
        }
    }
}
