//! Cuts the signature off a kernel module. What follows the module's ELF file is, per `kernel/module_signature.c`: a
//! PKCS #7 message, 12 bytes that end in its length (big-endian), and a marker.
//!
//! The initramfs is measured, so the modules in it are: their signatures prove nothing more, and checking each costs the
//! guest's kernel a tenth of a second under emulation. A kernel that is locked down would refuse such modules; ours is
//! started without Secure Boot, and loads no module after the last listed one.

const MARKER: &[u8] = b"~Module signature appended~\n";
const TRAILER_BYTES: usize = 12;
/// Real ones have some 400 bytes.
const MOST_BYTES: usize = 64 * 1024;

/// The module without its signature; without a change where it has none.
#[must_use]
pub fn without_signature(module: &[u8]) -> &[u8] {
    signed_part(module).unwrap_or(module)
}

fn signed_part(module: &[u8]) -> Option<&[u8]> {
    let body = module.strip_suffix(MARKER)?;
    let (body, trailer) = body.split_at_checked(body.len().checked_sub(TRAILER_BYTES)?)?;
    let length: [u8; 4] = trailer.get(8..)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if length > MOST_BYTES {
        return None;
    }
    body.get(..body.len().checked_sub(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(module: &[u8], signature: &[u8], length: u32) -> Vec<u8> {
        let mut all = module.to_vec();
        all.extend_from_slice(signature);
        all.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0]);
        all.extend_from_slice(&length.to_be_bytes());
        all.extend_from_slice(MARKER);
        all
    }

    #[test]
    fn exactly_the_signature_goes() {
        assert_eq!(without_signature(&signed(b"\x7fELF module", b"pkcs7", 5)), b"\x7fELF module");
    }

    #[test]
    fn anything_else_stays_whole() {
        let too_long = signed(b"module", b"pkcs7", 6000);
        let absurd = signed(b"module", b"pkcs7", u32::MAX);
        for module in [&b""[..], b"\x7fELF", MARKER, &too_long, &absurd] {
            assert_eq!(without_signature(module), module);
        }
    }
}
