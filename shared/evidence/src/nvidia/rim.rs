//! Reference integrity manifests (RIM): what NVIDIA says a driver or VBIOS release measures.
//!
//! A file is a SWID tag (ISO/IEC 19770-2:2015) with TCG's RIM attributes and an enveloped XML signature. Of its content
//! this is read: `Meta` with version and product, and in `Payload` one `Resource` a measurement with index (from 0),
//! activity, and one or more alternatives as SHA-384 digests.

use std::collections::BTreeMap;

use ring::digest;

use super::{
    certificate::Point,
    chain::{ChainError, Dates, parse_all, verify_path},
    codes::Code,
    transcript::{MEASUREMENT_BYTES, Measurement},
    xml::{
        XmlError,
        reader::{self, MAX_XML_BYTES},
        signature::{Signature, SignatureError},
        tree::Element,
    },
};
use crate::fixed_hex::{FixedHex, Hex32};

pub const MAX_RIM_BYTES: usize = MAX_XML_BYTES;
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const MAX_INDEX: u8 = 253;
const MAX_ALTERNATIVES: usize = 64;

/// What a RIM says, as far as it is used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rim {
    /// Of the driver or VBIOS, as the file spells it.
    pub version: String,
    /// The chip, such as `GH100`.
    pub product: String,
    /// Of active measurements only, by index from 0: every digest that it may have.
    pub golden: BTreeMap<u8, Vec<Measurement>>,
}

/// A RIM after every check on its file, with its certificates for the question whether they are revoked.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedRim {
    pub(crate) rim: Rim,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) dates: DateCheck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DateCheck {
    Valid,
    /// A certificate is out of date, and the file's digest is pinned.
    Pinned,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RimError {
    #[error("read the RIM: {0}")]
    Xml(#[from] XmlError),
    #[error("read the RIM: {0}")]
    Content(&'static str),
    #[error("accept the RIM: {0}")]
    Signature(#[from] SignatureError),
    #[error("accept the RIM's certificates: {0}")]
    Chain(ChainError),
    #[error("accept the RIM's certificates: {0}")]
    Expired(ChainError),
}

impl RimError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Xml(_) => Code::RimMalformed,
            Self::Content(_) => Code::RimContent,
            Self::Signature(_) => Code::RimSignature,
            Self::Chain(_) => Code::RimChain,
            Self::Expired(_) => Code::RimExpired,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

/// What a policy pins a RIM file by.
pub fn rim_digest(file: &[u8]) -> Hex32 {
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&digest::SHA256, file).as_ref());
    FixedHex(value)
}

impl VerifiedRim {
    /// Every check on one file. `pinned` are digests of files whose certificates may be out of date.
    pub(crate) fn verify(
        file: &[u8],
        root: &Point,
        time: u64,
        pinned: &[Hex32],
    ) -> Result<Self, RimError> {
        let document = reader::read(file)?;
        let signature = Signature::of(&document)?;
        let chain = parse_all(&signature.certificates).map_err(RimError::Chain)?;
        let leaf = chain.first().ok_or(RimError::Chain(ChainError::Length { found: 0 }))?;
        if leaf.usage.authority || !leaf.usage.digital_signature {
            let error = ChainError::Leaf("its key is not for signatures alone");
            return Err(RimError::Chain(error));
        }
        let dates = match verify_path(&chain, root, Dates::At(time)) {
            Ok(()) => DateCheck::Valid,
            Err(error @ ChainError::Time { .. }) => {
                if !pinned.contains(&rim_digest(file)) {
                    return Err(RimError::Expired(error));
                }
                verify_path(&chain, root, Dates::NotLookedAt).map_err(RimError::Chain)?;
                DateCheck::Pinned
            }
            Err(error) => return Err(RimError::Chain(error)),
        };
        signature.verify(&leaf.point)?;
        let rim = Rim::of(&document)?;
        Ok(Self { rim, certificates: signature.certificates, dates })
    }
}

impl Rim {
    fn of(root: &Element) -> Result<Self, RimError> {
        if !root.is(SWID, "SoftwareIdentity") {
            return Err(RimError::Content("its root is not a SWID tag"));
        }
        let meta = the_only(root, "Meta")?;
        let word = |name: &str| {
            meta.attribute(name).filter(|text| {
                (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
            })
        };
        let version = word("colloquialVersion").ok_or(RimError::Content("it has no version"))?;
        let product = word("product").ok_or(RimError::Content("it has no product"))?;
        let payload = the_only(root, "Payload")?;
        let mut golden = BTreeMap::new();
        let mut seen = Vec::new();
        for resource in payload.elements() {
            if !resource.is(SWID, "Resource") || resource.attribute("type") != Some("Measurement") {
                return Err(RimError::Content("its payload has other things than measurements"));
            }
            let (index, values) = read_resource(resource)?;
            if seen.contains(&index) {
                return Err(RimError::Content("a measurement is listed twice"));
            }
            seen.push(index);
            if let Some(values) = values {
                golden.insert(index, values);
            }
        }
        if golden.is_empty() {
            return Err(RimError::Content(
                "it has no active measurement, so it would match anything",
            ));
        }
        Ok(Self { version: version.to_owned(), product: product.to_owned(), golden })
    }
}

/// The one such child of the root; there may be none of it anywhere else.
fn the_only<'a>(root: &'a Element, local: &str) -> Result<&'a Element, RimError> {
    let mut found = root.elements().filter(|element| element.is(SWID, local));
    match (found.next(), found.next(), root.count(&|element| element.name.local == local)) {
        (Some(element), None, 1) => Ok(element),
        _ => Err(RimError::Content("it must have one `Meta` and one `Payload`")),
    }
}

/// Index and, for an active measurement, its values.
fn read_resource(resource: &Element) -> Result<(u8, Option<Vec<Measurement>>), RimError> {
    const BAD: RimError = RimError::Content("a measurement is not of its form");
    let index =
        decimal(resource.attribute("index")).filter(|index| *index <= usize::from(MAX_INDEX));
    let index = u8::try_from(index.ok_or(BAD)?).map_err(|_| BAD)?;
    let is_active = match resource.attribute("active") {
        Some("True") => true,
        Some("False") => false,
        _ => return Err(BAD),
    };
    let count = decimal(resource.attribute("alternatives")).ok_or(BAD)?;
    let listed = resource.attributes.iter().filter(|it| it.name.namespace == SHA384).count();
    let whole = (1..=MAX_ALTERNATIVES).contains(&count)
        && count == listed
        && decimal(resource.attribute("size")) == Some(MEASUREMENT_BYTES)
        && resource.children.is_empty();
    if !whole {
        return Err(BAD);
    }
    let mut values = Vec::with_capacity(count);
    for alternative in 0..count {
        let text = resource.attribute_of(SHA384, &format!("Hash{alternative}")).ok_or(BAD)?;
        let mut value = [0; MEASUREMENT_BYTES];
        hex::decode_to_slice(text, &mut value).map_err(|_| BAD)?;
        values.push(value);
    }
    Ok((index, is_active.then_some(values)))
}

fn decimal(text: Option<&str>) -> Option<usize> {
    let text = text?;
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Which of a GPU's two RIMs, or a switch's one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RimKind {
    Driver,
    Vbios,
    SwitchBios,
}

impl RimKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Vbios => "VBIOS",
            Self::SwitchBios => "switch BIOS",
        }
    }
}

/// Fuzz entry: whatever is read has a canonical form that reads back to the same document, and no RIM without a signature
/// of NVIDIA's verifies.
pub fn fuzz_nvidia_rim(data: &[u8]) {
    use super::{roots::NvidiaRoots, xml::c14n::canonical};
    if let Ok(document) = reader::read(data) {
        let form = canonical(&document, &[], None);
        if let Ok(again) = reader::read(form.as_bytes()) {
            assert_eq!(canonical(&again, &[], None), form);
        } else {
            assert!(form.len() > MAX_XML_BYTES, "a canonical form does not read");
        }
        if let Ok(rim) = Rim::of(&document) {
            assert!(!rim.golden.is_empty());
        }
        assert!(VerifiedRim::verify(data, &NvidiaRoots::nvidia().rim, 0, &[]).is_err());
    }
}
