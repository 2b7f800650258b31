//! Simulated RIM files: the same XML and the same signature, by another signer.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;

use super::{
    DRIVER_INDICES, DRIVER_VERSION, SWITCH_BIOS_VERSION, SWITCH_INDICES, SimulatedGpuError,
    SimulatedNvidia, VBIOS_INDICES, VBIOS_VERSION, golden,
};
use crate::nvidia::xml::{c14n::canonical, reader};

const CLOSE: &str = "</SoftwareIdentity>";

/// What a RIM says, before it is written and signed.
#[derive(Debug, Clone)]
pub struct RimDraft {
    pub version: String,
    pub product: String,
    /// Index, whether it is active, and its alternatives.
    pub rows: Vec<(u8, bool, Vec<[u8; 48]>)>,
}

impl RimDraft {
    pub fn driver() -> Self {
        Self::of(DRIVER_VERSION, &DRIVER_INDICES)
    }

    pub fn vbios() -> Self {
        Self::of(&VBIOS_VERSION.to_ascii_uppercase(), &VBIOS_INDICES)
    }

    /// Of a switch's BIOS.
    pub fn switch() -> Self {
        let all = Self::of(SWITCH_BIOS_VERSION, &SWITCH_INDICES);
        Self { product: "LS10".to_owned(), ..all }
    }

    fn of(version: &str, active: &[u8]) -> Self {
        let row = |index: u8| match active.contains(&index) {
            true if index.is_multiple_of(2) => (index, true, vec![[0; 48], golden(index)]),
            true => (index, true, vec![golden(index)]),
            false => (index, false, vec![[0; 48]]),
        };
        let rows = (0..64).map(row).collect();
        Self { version: version.to_owned(), product: "GH100".to_owned(), rows }
    }

    /// The file without its signature.
    pub fn to_xml(&self) -> String {
        let mut text = format!(
            concat!(
                "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\"",
                " xmlns:swid=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\"",
                " xmlns:h=\"http://www.w3.org/2001/04/xmlenc#sha384\" name=\"simulated\">\n",
                "  <swid:Meta colloquialVersion=\"{}\" product=\"{}\" edition=\"GPU\"/>\n  <swid:Payload>\n"
            ),
            self.version, self.product
        );
        for (index, active, values) in &self.rows {
            let active = if *active { "True" } else { "False" };
            let _ = write!(
                text,
                "    <swid:Resource type=\"Measurement\" index=\"{index}\" active=\"{active}\" alternatives=\"{}\"",
                values.len()
            );
            for (number, value) in values.iter().enumerate() {
                let _ = write!(text, " h:Hash{number}=\"{}\"", hex::encode(value));
            }
            text.push_str(" size=\"48\"/>\n");
        }
        text.push_str("  </swid:Payload>\n");
        text.push_str(CLOSE);
        text.push('\n');
        text
    }
}

impl SimulatedNvidia {
    /// Signs a RIM file that ends with its root's closing tag.
    pub fn sign_rim(&self, text: &str) -> Result<Vec<u8>, SimulatedGpuError> {
        let bad = |what: &str| SimulatedGpuError::Rim(what.to_owned());
        let document = reader::read(text.as_bytes()).map_err(|error| bad(&error.to_string()))?;
        let form = canonical(&document, &[], None);
        let digest = STANDARD.encode(digest::digest(&digest::SHA384, form.as_bytes()));
        let signed_info = format!(
            concat!(
                "<d:SignedInfo><d:CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"/>",
                "<d:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"/>",
                "<d:Reference URI=\"\"><d:Transforms>",
                "<d:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>",
                "<d:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"/></d:Transforms>",
                "<d:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"/>",
                "<d:DigestValue>{}</d:DigestValue></d:Reference></d:SignedInfo>"
            ),
            digest
        );
        self.envelope(text, &signed_info)
    }

    /// Puts a signature over any `SignedInfo` into a file.
    pub(crate) fn envelope(
        &self,
        text: &str,
        signed_info: &str,
    ) -> Result<Vec<u8>, SimulatedGpuError> {
        let bad = |what: &str| SimulatedGpuError::Rim(what.to_owned());
        let whole = |value: &str| {
            let certificates: String = [&self.rim_signer, &self.rim_ca, &self.rim_root]
                .iter()
                .map(|it| {
                    format!("<d:X509Certificate>{}</d:X509Certificate>", STANDARD.encode(&it.der))
                })
                .collect();
            let signature = format!(
                "<d:Signature xmlns:d=\"http://www.w3.org/2000/09/xmldsig#\">{signed_info}<d:SignatureValue>{value}</d:SignatureValue><d:KeyInfo><d:X509Data>{certificates}</d:X509Data></d:KeyInfo></d:Signature>"
            );
            let (head, tail) = text.rsplit_once(CLOSE)?;
            Some(format!("{head}{signature}{CLOSE}{tail}"))
        };
        let unsigned = whole("").ok_or(bad("its root has another name"))?;
        let document =
            reader::read(unsigned.as_bytes()).map_err(|error| bad(&error.to_string()))?;
        let signature = document.elements().last().ok_or(bad("it has no signature"))?;
        let info = signature.elements().next().ok_or(bad("it has no signature"))?;
        let around: &[&[_]] = &[&document.declarations, &signature.declarations];
        let value = self.rim_signer.sign_fixed(canonical(info, around, None).as_bytes())?;
        whole(&STANDARD.encode(value)).map(String::into_bytes).ok_or(bad("it has no root"))
    }
}
