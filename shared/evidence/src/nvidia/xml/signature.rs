//! The enveloped XML signature (W3C XML Signature 1.1) of a RIM file, in the one form that NVIDIA's have.
//!
//! Exactly one `Signature`, the last element of the root; canonical form C14N 1.1; ECDSA over P-384 with SHA-384; one
//! reference, to the whole document, with the transforms enveloped and C14N 1.1 and a SHA-384 digest; the certificates in
//! `X509Data`. Anything else is refused, so there is nothing to wrap a signature in.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;

use super::{
    c14n::canonical,
    tree::{DSIG, Element},
};
use crate::nvidia::{
    certificate::{MAX_CERTIFICATE_BYTES, Point, verify_fixed},
    chain::MAX_CHAIN,
};

const C14N11: &str = "http://www.w3.org/2006/12/xml-c14n11";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("it must have one signature, the root's last element")]
    Count,
    #[error("the signature's {0} is not of the one form that is read here")]
    Form(&'static str),
    #[error("the signed digest is not that of the document")]
    Digest,
    #[error("the signature is not of its leaf certificate's key")]
    Signature,
}

/// A signature whose digest is that of the document; whose key it is is not judged yet.
#[derive(Debug)]
pub(crate) struct Signature {
    /// DER, leaf first, as in the file.
    pub(crate) certificates: Vec<Vec<u8>>,
    signed_info: String,
    value: Vec<u8>,
}

impl Signature {
    /// Finds the signature of `root` and holds its digest against the document without it.
    pub(crate) fn of(root: &Element) -> Result<Self, SignatureError> {
        let is_signature = |element: &Element| element.is(DSIG, "Signature");
        let signature = root
            .elements()
            .last()
            .filter(|last| is_signature(last) && root.count(&is_signature) == 1)
            .ok_or(SignatureError::Count)?;
        // Elements of signatures elsewhere have no business there.
        let theirs = |element: &Element| element.name.namespace == DSIG;
        if root.count(&theirs) != signature.count(&theirs) {
            return Err(SignatureError::Count);
        }
        let [signed_info, value, key_info] =
            children(signature, ["SignedInfo", "SignatureValue", "KeyInfo"], "content")?;
        if signed_digest(signed_info)? != document_digest(root, signature) {
            return Err(SignatureError::Digest);
        }
        let value = base64_text(value, 96).ok_or(SignatureError::Form("value"))?;
        let around: &[&[_]] = &[&root.declarations, &signature.declarations];
        Ok(Self {
            certificates: certificates(key_info)?,
            signed_info: canonical(signed_info, around, None),
            value,
        })
    }

    pub(crate) fn verify(&self, leaf: &Point) -> Result<(), SignatureError> {
        if verify_fixed(leaf, self.signed_info.as_bytes(), &self.value) {
            Ok(())
        } else {
            Err(SignatureError::Signature)
        }
    }
}

pub(crate) fn document_digest(root: &Element, signature: &Element) -> Vec<u8> {
    let document = canonical(root, &[], Some(signature));
    digest::digest(&digest::SHA384, document.as_bytes()).as_ref().to_vec()
}

/// Reads `SignedInfo`, which must say exactly what is done here.
fn signed_digest(signed_info: &Element) -> Result<Vec<u8>, SignatureError> {
    let names = ["CanonicalizationMethod", "SignatureMethod", "Reference"];
    let [form, method, reference] = children(signed_info, names, "SignedInfo")?;
    check_algorithm(form, C14N11)?;
    check_algorithm(method, ECDSA_SHA384)?;
    match reference.attributes.as_slice() {
        [uri]
            if uri.name.namespace.is_empty() && uri.name.local == "URI" && uri.value.is_empty() => {
        }
        _ => return Err(SignatureError::Form("reference")),
    }
    let names = ["Transforms", "DigestMethod", "DigestValue"];
    let [transforms, digest_method, digest_value] = open_children(reference, names, "reference")?;
    let [enveloped, form] = children(transforms, ["Transform", "Transform"], "transforms")?;
    check_algorithm(enveloped, ENVELOPED)?;
    check_algorithm(form, C14N11)?;
    check_algorithm(digest_method, SHA384)?;
    base64_text(digest_value, 48).ok_or(SignatureError::Form("digest"))
}

/// An element that has the one attribute `Algorithm` and nothing in it.
fn check_algorithm(element: &Element, expected: &str) -> Result<(), SignatureError> {
    let said = match element.attributes.as_slice() {
        [one] if one.name.namespace.is_empty() && one.name.local == "Algorithm" => &one.value,
        _ => return Err(SignatureError::Form("algorithm")),
    };
    if said == expected && element.children.is_empty() {
        Ok(())
    } else {
        Err(SignatureError::Form("algorithm"))
    }
}

fn certificates(key_info: &Element) -> Result<Vec<Vec<u8>>, SignatureError> {
    const BAD: SignatureError = SignatureError::Form("key information");
    let [data] = children(key_info, ["X509Data"], "key information")?;
    if !data.has_elements_only() || !data.attributes.is_empty() {
        return Err(BAD);
    }
    let mut certificates = Vec::new();
    for element in data.elements() {
        let is_plain = element.is(DSIG, "X509Certificate") && element.attributes.is_empty();
        if !is_plain || certificates.len() >= MAX_CHAIN {
            return Err(BAD);
        }
        let der = decode(element.text().ok_or(BAD)?).ok_or(BAD)?;
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(BAD);
        }
        certificates.push(der);
    }
    Ok(certificates)
}

/// The elements of `parent`, which must be these in this order and have nothing between them; `parent` has no attributes.
fn children<'a, const N: usize>(
    parent: &'a Element,
    names: [&str; N],
    what: &'static str,
) -> Result<[&'a Element; N], SignatureError> {
    if !parent.attributes.is_empty() {
        return Err(SignatureError::Form(what));
    }
    open_children(parent, names, what)
}

fn open_children<'a, const N: usize>(
    parent: &'a Element,
    names: [&str; N],
    what: &'static str,
) -> Result<[&'a Element; N], SignatureError> {
    let found: Vec<&Element> = parent.elements().collect();
    let found: [&Element; N] = found.try_into().map_err(|_| SignatureError::Form(what))?;
    let named = found.iter().zip(names).all(|(element, name)| element.is(DSIG, name));
    if named && parent.has_elements_only() { Ok(found) } else { Err(SignatureError::Form(what)) }
}

fn base64_text(element: &Element, length: usize) -> Option<Vec<u8>> {
    let bytes = decode(element.text()?)?;
    (bytes.len() == length && element.attributes.is_empty()).then_some(bytes)
}

/// Base64 with line ends in it.
fn decode(text: &str) -> Option<Vec<u8>> {
    let packed: String = text.chars().filter(|c| !matches!(c, '\n' | ' ' | '\t')).collect();
    STANDARD.decode(packed).ok()
}
