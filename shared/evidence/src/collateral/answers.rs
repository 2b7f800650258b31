//! What Intel's service, or a cache, answers: bodies as they were signed, issuer chains as URL-encoded PEM in a header.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Collateral, CollateralError, urls::CrlForm};
use crate::fixed_hex::HexBytes;

/// Real answers have 1 to 14 KB.
pub const MAX_BODY: usize = 128 * 1024;
const MAX_CHAIN: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const SIGNATURE: usize = 64;

/// One answer with status 200.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The four answers that make up collateral.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub pck_crl: Answer,
    pub tcb_info: Answer,
    pub qe_identity: Answer,
    pub root_crl: Answer,
    pub root_crl_form: CrlForm,
}

#[derive(Deserialize)]
struct TcbInfoBody<'a> {
    #[serde(rename = "tcbInfo", borrow)]
    inner: &'a RawValue,
    signature: HexBytes,
}

#[derive(Deserialize)]
struct QeIdentityBody<'a> {
    #[serde(rename = "enclaveIdentity", borrow)]
    inner: &'a RawValue,
    signature: HexBytes,
}

impl Answers {
    /// Puts the parts together. Nothing is verified here but form and size: signatures are checked with the quote.
    pub fn into_collateral(self) -> Result<Collateral, CollateralError> {
        let (tcb_info, tcb_info_signature) = {
            let body: TcbInfoBody<'_> = json("TCB info", &self.tcb_info)?;
            (body.inner.get().to_owned(), body.signature)
        };
        let (qe_identity, qe_identity_signature) = {
            let body: QeIdentityBody<'_> = json("QE identity", &self.qe_identity)?;
            (body.inner.get().to_owned(), body.signature)
        };
        for (part, signature) in
            [("TCB info", &tcb_info_signature), ("QE identity", &qe_identity_signature)]
        {
            if signature.0.len() != SIGNATURE {
                return Err(refuse(part, "its signature has another length"));
            }
        }
        let chain = |part, answer: &Answer, names: &[&str]| chain(part, answer, names);
        let collateral = Collateral {
            pck_crl_issuer_chain: chain("PCK CRL", &self.pck_crl, &["SGX-PCK-CRL-Issuer-Chain"])?,
            tcb_info_issuer_chain: chain(
                "TCB info",
                &self.tcb_info,
                &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"],
            )?,
            qe_identity_issuer_chain: chain(
                "QE identity",
                &self.qe_identity,
                &["SGX-Enclave-Identity-Issuer-Chain"],
            )?,
            pck_crl: der("PCK CRL", self.pck_crl.body)?,
            root_ca_crl: match self.root_crl_form {
                CrlForm::Der => der("root CRL", self.root_crl.body)?,
                CrlForm::Hex => der("root CRL", unhex(&self.root_crl.body)?)?,
            },
            tcb_info,
            tcb_info_signature,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        };
        if !collateral.is_within_bounds() {
            return Err(refuse("collateral", "longer than 256 KiB"));
        }
        Ok(collateral)
    }
}

fn refuse(part: &'static str, reason: impl Into<String>) -> CollateralError {
    CollateralError::Answer { part, reason: reason.into() }
}

fn json<'a, T: Deserialize<'a>>(
    part: &'static str,
    answer: &'a Answer,
) -> Result<T, CollateralError> {
    if answer.body.len() > MAX_BODY {
        return Err(refuse(part, "longer than 128 KiB"));
    }
    serde_json::from_slice(&answer.body).map_err(|error| refuse(part, error.to_string()))
}

fn der(part: &'static str, body: Vec<u8>) -> Result<HexBytes, CollateralError> {
    if body.len() > MAX_BODY {
        return Err(refuse(part, "longer than 128 KiB"));
    }
    // A list is a DER sequence; an error page is not.
    if body.first() != Some(&0x30) {
        return Err(refuse(part, "not DER"));
    }
    Ok(HexBytes(body))
}

fn unhex(body: &[u8]) -> Result<Vec<u8>, CollateralError> {
    if body.len() > 2 * MAX_BODY {
        return Err(refuse("root CRL", "longer than 128 KiB"));
    }
    hex::decode(body.trim_ascii()).map_err(|error| refuse("root CRL", error.to_string()))
}

/// The first of `names` among the headers, decoded.
fn chain(part: &'static str, answer: &Answer, names: &[&str]) -> Result<String, CollateralError> {
    if answer.headers.len() > MAX_HEADERS {
        return Err(refuse(part, "more than 64 headers"));
    }
    let value = names
        .iter()
        .find_map(|name| answer.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value)
        .ok_or_else(|| refuse(part, "its issuer chain is missing"))?;
    if value.len() > 3 * MAX_CHAIN {
        return Err(refuse(part, "its issuer chain is longer than 16 KiB"));
    }
    let text = percent_decode(value).ok_or_else(|| refuse(part, "its issuer chain is not PEM"))?;
    if text.len() > MAX_CHAIN || !text.starts_with("-----BEGIN CERTIFICATE-----") {
        return Err(refuse(part, "its issuer chain is not PEM"));
    }
    Ok(text)
}

/// RFC 3986 percent-encoding of PEM text: what it gives is printable ASCII in lines, or nothing.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = String::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            u8::try_from(high << 4 | low).ok()?
        } else {
            byte
        };
        if !matches!(byte, b' '..=b'~' | b'\n' | b'\r') {
            return None;
        }
        decoded.push(char::from(byte));
    }
    Some(decoded)
}

/// Fuzz entry: hostile answers in every place make bounded collateral or none. The first line is a header value.
pub fn fuzz_answers(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (line, body) = data.split_at(cut);
    let body = body.strip_prefix(b"\n").unwrap_or(body).to_vec();
    let value = String::from_utf8_lossy(line).into_owned();
    let names =
        ["SGX-PCK-CRL-Issuer-Chain", "tcb-info-issuer-chain", "SGX-Enclave-Identity-Issuer-Chain"];
    let answer = Answer {
        headers: names.iter().map(|name| ((*name).to_owned(), value.clone())).collect(),
        body,
    };
    let crl = Answer { body: vec![0x30], ..answer.clone() };
    for form in [CrlForm::Der, CrlForm::Hex] {
        let answers = Answers {
            pck_crl: crl.clone(),
            tcb_info: answer.clone(),
            qe_identity: answer.clone(),
            root_crl: if form == CrlForm::Der { crl.clone() } else { answer.clone() },
            root_crl_form: form,
        };
        if let Ok(collateral) = answers.into_collateral() {
            assert!(collateral.is_within_bounds());
            assert!(collateral.pck_crl_issuer_chain.is_ascii());
        }
    }
}
