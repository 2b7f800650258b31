//! What of a TDX quote verifies without any collateral: its certificates lead to a pinned root, the machine's key signed the
//! quoting enclave's report, that report names the attestation key, and this key signed the VM's.
//!
//! No dates, no revocation and no TCB: this says whether it is worth asking the maker about a machine, and never more. Source
//! of the layout: Intel TDX DCAP quoting library API, appendix "quote format".

use dcap_qvl::{
    intel::extract_cert_chain,
    quote::{AuthData, Quote},
};
use ring::{
    digest,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{fixed_hex::Hex32, pck_chain, quote::TdxQuote};

/// A root, the authority and the machine's own; nobody has more.
const MOST: usize = 5;
/// Of the quoting enclave's report: its report data, of which the second half is zero.
const REPORT_DATA: usize = 320;

/// `root` is the SHA-256 of the root certificate that ends the chain.
pub(crate) fn leads_to(root: &Hex32, quote: &[u8]) -> bool {
    verified(root, quote).is_some()
}

fn verified(root: &Hex32, bytes: &[u8]) -> Option<()> {
    TdxQuote::parse(bytes).ok()?;
    pck_chain::check(bytes, root).ok()?;
    let quote = Quote::parse(bytes).ok()?;
    let AuthData::V4(data) = &quote.auth_data else { return None };
    let enclave = &data.qe_report_data;
    let machine = machine_key(root, &extract_cert_chain(&quote).ok()?)?;
    let fixed = |key: &[u8], message: &[u8], signature: &[u8]| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).ok()
    };
    fixed(&machine, &enclave.qe_report, &enclave.qe_report_signature)?;
    let mut named = digest::Context::new(&digest::SHA256);
    named.update(&data.ecdsa_attestation_key);
    named.update(&enclave.qe_auth_data.data);
    let expected = [named.finish().as_ref(), &[0; 32]].concat();
    if enclave.qe_report.get(REPORT_DATA..REPORT_DATA + 64)? != expected {
        return None;
    }
    let attestation_key = [&[4], data.ecdsa_attestation_key.as_slice()].concat();
    fixed(&attestation_key, bytes.get(..quote.signed_length())?, &data.ecdsa_signature)
}

/// The key of the first certificate, if each is signed by the next and the last is the root.
fn machine_key(root: &Hex32, chain: &[Vec<u8>]) -> Option<Vec<u8>> {
    if chain.len() > MOST || pck_chain::sha256(chain.last()?) != *root {
        return None;
    }
    let mut certificates = Vec::with_capacity(chain.len());
    for der in chain {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        certificates.push(certificate);
    }
    for pair in certificates.windows(2) {
        let [subject, issuer] = pair else { return None };
        if subject.issuer().as_raw() != issuer.subject().as_raw() || !issuer.is_ca() {
            return None;
        }
        // The name of the algorithm stands outside of what is signed, too.
        if subject.signature_algorithm != subject.tbs_certificate.signature {
            return None;
        }
        let key = &issuer.public_key().subject_public_key.data;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(subject.tbs_certificate.as_ref(), &subject.signature_value.data)
            .ok()?;
    }
    Some(certificates.first()?.public_key().subject_public_key.data.to_vec())
}
