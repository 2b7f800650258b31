//! The certificates in a quote, behind what its signatures cover: `QE certification data` of type 5, PEM.
//!
//! Source: Intel TDX DCAP quoting library API, appendix "quote format". Whoever verifies a chain may pass over its root, which
//! it knows, and over whatever stands around the certificates. Evidence is named by the digest of its quote, so little is left
//! to choose here: the certificates are spelled as Intel's service spells them, end in the very root that they lead to, and
//! are followed by one of four [`ENDS`], with nothing behind it that the length does not count. Which one is not signed, and
//! neither is which of its two forms an ECDSA signature has: whoever holds no key can write one quote in these ways and no
//! others. A digest names a quote, it does not count them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dcap_qvl::quote::Quote;
use ring::digest;

use crate::fixed_hex::{FixedHex, Hex32};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----";
const COLUMNS: usize = 64;
/// What may follow the last certificate. Intel's quoting library counts the line end and the zero byte of a C string, and so
/// do all real quotes that this was tested with; others leave out one or both.
const ENDS: [&str; 4] = ["\n\0", "\n", "\0", ""];
/// A root, the authority and the machine's own; nobody has more.
const MOST: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("its certificates are missing, or not in the quote")]
    Missing,
    #[error(
        "its certificates are not spelled as PEM of 64 columns, or something stands around them"
    )]
    Spelling,
    #[error("its certificates end in another root than the one they lead to")]
    Root,
}

/// That the chain in `quote` is exactly its certificates, and the last of them the one with this SHA-256.
pub(crate) fn check(quote: &[u8], root: &Hex32) -> Result<(), ChainError> {
    let quote = Quote::parse(quote).map_err(|_| ChainError::Missing)?;
    let data = quote.raw_cert_chain().map_err(|_| ChainError::Missing)?;
    check_text(data, root)
}

fn check_text(data: &[u8], root: &Hex32) -> Result<(), ChainError> {
    let mut rest = str::from_utf8(data).map_err(|_| ChainError::Spelling)?;
    for _ in 0..MOST {
        let (body, after) = rest
            .strip_prefix(BEGIN)
            .and_then(|body| body.split_once(END))
            .ok_or(ChainError::Spelling)?;
        let digits: String = body.lines().collect();
        let der = STANDARD.decode(&digits).map_err(|_| ChainError::Spelling)?;
        if wrapped(&digits) != body {
            return Err(ChainError::Spelling);
        }
        if ENDS.contains(&after) {
            return if sha256(&der) == *root { Ok(()) } else { Err(ChainError::Root) };
        }
        rest = after.strip_prefix('\n').ok_or(ChainError::Spelling)?;
    }
    Err(ChainError::Spelling)
}

pub(crate) fn sha256(bytes: &[u8]) -> Hex32 {
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    FixedHex(value)
}

fn wrapped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / COLUMNS + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % COLUMNS == 0 {
            text.push('\n');
        }
        text.push(digit);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(der: &[u8]) -> String {
        format!("{BEGIN}{}{END}\n", wrapped(&STANDARD.encode(der)))
    }

    #[test]
    fn certificates_have_one_spelling_and_four_ends() {
        let (leaf, root_der) = (vec![7; 301], vec![9; 96]);
        let (root, of_leaf) = (sha256(&root_der), sha256(&leaf));
        let good = pem(&leaf) + &pem(&root_der);
        for end in ["\n\0", "\n", "\0", ""] {
            let text = format!("{}{end}", good.trim_end());
            assert_eq!(check_text(text.as_bytes(), &root), Ok(()), "{end:?}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.clone().into_bytes();
                flipped[at] ^= 1 << bit;
                // Of a certificate that is not the root nothing but its spelling is looked at here.
                let in_leaf = at < pem(&leaf).len() && check_text(&flipped, &root).is_ok();
                assert!(in_leaf || check_text(&flipped, &root).is_err(), "byte {at} bit {bit}");
                if in_leaf {
                    assert!(
                        good.as_bytes()[at].is_ascii_alphanumeric()
                            || b"+/".contains(&good.as_bytes()[at])
                    );
                }
            }
        }
        for other in [
            format!("x{good}"),
            format!("{good}x"),
            format!("{good}\n\n"),
            format!("{good}\0\0"),
            format!("{good}\0\n"),
            format!("{}\r\n", good.trim_end()),
            format!("{} ", good.trim_end()),
            format!("{good}{BEGIN}"),
            good.replacen(&format!("{END}\n"), END, 1),
            good.replacen(END, &format!("{END}\n"), 1),
            good.replace('\n', "\r\n"),
            good.replacen("\n", " \n", 1),
            pem(&root_der).repeat(6),
            STANDARD.encode(&root_der),
        ] {
            assert_eq!(check_text(other.as_bytes(), &root), Err(ChainError::Spelling), "{other}");
        }
        assert_eq!(check_text(b"", &root), Err(ChainError::Spelling));
        assert_eq!(check_text(good.as_bytes(), &of_leaf), Err(ChainError::Root));
        assert_eq!(check_text(pem(&leaf).as_bytes(), &root), Err(ChainError::Root));
    }
}
