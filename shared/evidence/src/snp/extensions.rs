//! The extensions of AMD's VCEK and VLEK certificates, under 1.3.6.1.4.1.3704.1.
//!
//! Source: AMD 57230 (VCEK certificate and KDS interface), table of custom extensions. Integers are DER INTEGER, names
//! IA5String; the chip's id is found both bare and as DER OCTET STRING.

use x509_parser::extensions::X509Extension;

use super::{
    certificates::CertificateError,
    product::{Product, Tcb},
};

/// DER content of 1.3.6.1.4.1.3704.1.
const AMD: [u8; 8] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01];
const MOST_CSP_ID_BYTES: usize = 64;

/// What a certificate says besides its key. Only [`super::certificates`] makes one, from a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmdExtensions {
    pub tcb: Tcb,
    /// The chip's id, filled with zeros to 64 bytes; in a VCEK's certificate.
    pub chip_id: Option<[u8; 64]>,
    /// The cloud provider's name; in a VLEK's certificate.
    pub csp_id: Option<String>,
}

#[derive(Default)]
struct Found<'a> {
    structure: Option<u8>,
    product: Option<&'a str>,
    /// By the last arc of 1.3.6.1.4.1.3704.1.3.x: 1 boot loader, 2 TEE, 3 SNP, 8 microcode, 9 FMC; 4 to 7 are reserved.
    numbers: [Option<u8>; 10],
    chip_id: Option<&'a [u8]>,
    csp_id: Option<&'a str>,
}

/// Whether an extension is one of AMD's own.
pub(super) fn is_amd(extension: &X509Extension<'_>) -> bool {
    extension.oid.as_bytes().starts_with(&AMD)
}

/// Reads AMD's extensions among a certificate's, each at most once.
pub(super) fn read(
    extensions: &[X509Extension<'_>],
    product: Product,
) -> Result<AmdExtensions, CertificateError> {
    let refuse = |what| Err(CertificateError::Extension(what));
    let mut found = Found::default();
    for extension in extensions {
        let Some(arcs) = extension.oid.as_bytes().strip_prefix(&AMD) else { continue };
        let value = extension.value;
        let first = match arcs {
            [1] => found.structure.replace(integer(value)?).is_none(),
            [2] => found.product.replace(text(value)?).is_none(),
            [3, arc @ 1..=9] => match found.numbers.get_mut(usize::from(*arc)) {
                Some(slot) => slot.replace(integer(value)?).is_none(),
                None => false,
            },
            [4] => found.chip_id.replace(value).is_none(),
            [5] => found.csp_id.replace(text(value)?).is_none(),
            _ => return refuse("an extension of AMD's that this program does not know"),
        };
        if !first {
            return refuse("an extension twice");
        }
    }
    if found.structure.is_none_or(|version| version > 1) {
        return refuse("the version of its extensions");
    }
    if !found.product.is_some_and(|name| is_product_name(name, product)) {
        return refuse("the product's name");
    }
    Ok(AmdExtensions {
        tcb: tcb(&found.numbers, product)?,
        chip_id: found.chip_id.map(|value| chip_id(value, product)).transpose()?,
        csp_id: match found.csp_id {
            Some(name) if name.is_empty() || name.len() > MOST_CSP_ID_BYTES => {
                return refuse("the cloud provider's name");
            }
            name => name.map(str::to_owned),
        },
    })
}

/// `Milan`, or with a stepping `Milan-B0`.
fn is_product_name(name: &str, product: Product) -> bool {
    name.strip_prefix(product.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn tcb(numbers: &[Option<u8>; 10], product: Product) -> Result<Tcb, CertificateError> {
    let [_, boot_loader, tee, snp, reserved @ .., microcode, fmc] = *numbers;
    let missing = || CertificateError::Extension("the TCB's numbers");
    if reserved.iter().flatten().any(|number| *number != 0) {
        return Err(missing());
    }
    // What has another layout is not silently read in this one.
    if fmc.is_some() != (product == Product::Turin) {
        return Err(missing());
    }
    Ok(Tcb {
        fmc,
        boot_loader: boot_loader.ok_or_else(missing)?,
        tee: tee.ok_or_else(missing)?,
        snp: snp.ok_or_else(missing)?,
        microcode: microcode.ok_or_else(missing)?,
    })
}

fn chip_id(value: &[u8], product: Product) -> Result<[u8; 64], CertificateError> {
    let length = product.chip_id_bytes();
    let bare = match value {
        [4, stated, rest @ ..] if usize::from(*stated) == rest.len() && rest.len() == length => {
            rest
        }
        bare if bare.len() == length => bare,
        _ => return Err(CertificateError::Extension("the chip's id")),
    };
    let mut id = [0; 64];
    for (to, from) in id.iter_mut().zip(bare) {
        *to = *from;
    }
    Ok(id)
}

/// A DER INTEGER of 0 to 255, in its one spelling.
fn integer(value: &[u8]) -> Result<u8, CertificateError> {
    match *value {
        [2, 1, number @ 0..=0x7f] | [2, 2, 0, number @ 0x80..=0xff] => Ok(number),
        _ => Err(CertificateError::Extension("a number")),
    }
}

/// A DER IA5String of printable characters.
fn text(value: &[u8]) -> Result<&str, CertificateError> {
    match value {
        [0x16, length @ 0..=0x7f, rest @ ..]
            if usize::from(*length) == rest.len() && rest.iter().all(u8::is_ascii_graphic) =>
        {
            str::from_utf8(rest).map_err(|_| CertificateError::Extension("a name"))
        }
        _ => Err(CertificateError::Extension("a name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_of_a_number() {
        for number in 0..=255_u8 {
            let der = if number < 0x80 { vec![2, 1, number] } else { vec![2, 2, 0, number] };
            assert_eq!(integer(&der).ok(), Some(number));
        }
        for other in [
            &[2, 1, 0x80][..],
            &[2, 2, 0, 0x7f],
            &[2, 2, 1, 0],
            &[2, 1],
            &[2, 0],
            &[],
            &[2, 1, 0, 0],
            &[4, 1, 0],
        ] {
            assert!(integer(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn names_of_products() {
        assert!(is_product_name("Milan-B0", Product::Milan));
        assert!(is_product_name("Turin", Product::Turin));
        for other in ["Milano", "Genoa-B1", "", "milan"] {
            assert!(!is_product_name(other, Product::Milan), "{other}");
        }
    }

    #[test]
    fn chip_ids_are_bare_or_wrapped_and_of_the_products_length() {
        let bare = [7; 64];
        let wrapped = [&[4, 64][..], &bare].concat();
        assert_eq!(chip_id(&bare, Product::Milan).ok(), Some(bare));
        assert_eq!(chip_id(&wrapped, Product::Genoa).ok(), Some(bare));
        let mut short = [0; 64];
        short[..8].fill(7);
        assert_eq!(chip_id(&[7; 8], Product::Turin).ok(), Some(short));
        assert_eq!(chip_id(&[4, 8, 7, 7, 7, 7, 7, 7, 7, 7], Product::Turin).ok(), Some(short));
        for (value, product) in [
            (&bare[..8], Product::Milan),
            (&bare[..], Product::Turin),
            (&wrapped[..65], Product::Milan),
            (&[][..], Product::Milan),
        ] {
            assert!(chip_id(value, product).is_err());
        }
    }
}
