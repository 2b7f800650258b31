//! One GPU: its evidence taken apart, and each claim about it.

use super::{DeviceFacts, GpuQuestion, Whole, firmware, mode, revocation};
use crate::{
    nvidia::{
        chain::{ChainError, DeviceChain, read_pem},
        codes::Code,
        evidence::NvidiaEvidence,
        transcript::Transcript,
    },
    verdict::Findings,
};

/// Names of the claims about one device.
#[derive(Debug)]
pub(super) struct Claims {
    index: usize,
}

/// Claims that rest on the GPU's signature.
const SIGNED: [&str; 6] = ["nonce", "fwid", "mode", "firmware", "revocation", "device"];

impl Claims {
    pub(super) fn new(index: usize) -> Self {
        Self { index }
    }

    pub(super) fn name(&self, claim: &str) -> String {
        format!("gpu.{}.{claim}", self.index)
    }
}

pub(super) fn judge(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    name: &str,
    bytes: &[u8],
    all: &mut Whole,
    findings: &mut Findings,
) -> Option<DeviceFacts> {
    let unjudged = |list: &[&str], findings: &mut Findings| {
        for claim in list {
            findings.unjudged(&claims.name(claim), Code::NotChecked, "");
        }
    };
    let evidence = match NvidiaEvidence::parse(bytes) {
        Ok(evidence) => evidence,
        Err(error) => {
            findings.refuse(&claims.name("evidence"), name, error.entry(), error.to_string());
            unjudged(&["chain", "signature"], findings);
            unjudged(&SIGNED, findings);
            return None;
        }
    };
    if evidence.device != name {
        findings.refuse(&claims.name("evidence"), name, Code::DeviceNameOther, &evidence.device);
    }
    let ders = certificates(&evidence);
    let chain = judge_chain(question, claims, &ders, findings);
    let transcript = match Transcript::parse(&evidence.transcript.0) {
        Ok(transcript) => transcript,
        Err(error) => {
            let claim = claims.name("signature");
            findings.refuse(&claim, "", error.entry(), error.to_string());
            unjudged(&SIGNED, findings);
            return None;
        }
    };
    all.add(name, &evidence, &transcript);
    let nonce_holds = judge_nonce(question, claims, &transcript, findings);
    let Some(chain) = chain else {
        unjudged(&["signature"], findings);
        unjudged(if nonce_holds { &SIGNED } else { &SIGNED[1..] }, findings);
        return None;
    };
    all.add_chain(&chain);
    let signature = claims.name("signature");
    if !chain.leaf_point().is_some_and(|leaf| transcript.is_signed_by(leaf)) {
        findings.refuse(&signature, "", Code::Signature, "");
        unjudged(if nonce_holds { &SIGNED } else { &SIGNED[1..] }, findings);
        return None;
    }
    let anchor = question.roots.anchor();
    findings.affirm(
        &signature,
        "SPDM 1.1, P-384",
        anchor.as_str(),
        "of the leaf certificate's key",
    );
    if nonce_holds {
        let value = hex::encode(transcript.nonce);
        findings.affirm(
            &claims.name("nonce"),
            value,
            anchor.as_str(),
            "of this request, VM and key",
        );
    }
    let value = chain.device.to_string();
    findings.affirm(&claims.name("device"), value, anchor.as_str(), "SHA-256 of its serial number");
    judge_fwid(claims, &chain, &transcript, &anchor, findings);
    mode::judge(question, claims, &evidence, &transcript.opaque, &chain, findings);
    let rims = firmware::judge(question, claims, &evidence, &transcript, &chain, findings);
    revocation::judge(question, claims, &chain, &rims, findings);
    Some(DeviceFacts {
        name: name.to_owned(),
        chip: chain.chip.to_owned(),
        driver_version: transcript.opaque.driver_version().unwrap_or_default().to_owned(),
        vbios_version: transcript.opaque.vbios_version().unwrap_or_default(),
        device: chain.device,
    })
}

fn certificates(evidence: &NvidiaEvidence) -> Result<Vec<Vec<u8>>, ChainError> {
    let text = str::from_utf8(&evidence.certificates.0)
        .map_err(|_| ChainError::Pem("they are not text"))?;
    read_pem(text)
}

fn judge_chain<'a>(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    ders: &'a Result<Vec<Vec<u8>>, ChainError>,
    findings: &mut Findings,
) -> Option<DeviceChain<'a>> {
    let claim = claims.name("chain");
    let ders = ders.as_ref().map_err(|error| *error);
    match ders.and_then(|ders| DeviceChain::verify(ders, &question.roots.device, question.time)) {
        Ok(chain) => {
            let value = format!("{}, {} certificates", chain.chip, chain.certificates.len());
            findings.affirm(&claim, value, question.roots.anchor(), "leads to the pinned root");
            Some(chain)
        }
        Err(error) => {
            findings.refuse(&claim, "", error.entry(), error.to_string());
            None
        }
    }
}

/// Whether the nonce is the expected one; what is wrong with it is a finding already.
fn judge_nonce(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    transcript: &Transcript<'_>,
    findings: &mut Findings,
) -> bool {
    let claim = claims.name("nonce");
    match question.nonce {
        None => {
            findings.unjudged(&claim, Code::NonceMissing, "");
            false
        }
        Some(expected) if expected == transcript.nonce => true,
        Some(_) => {
            findings.refuse(&claim, hex::encode(transcript.nonce), Code::NonceOther, "");
            false
        }
    }
}

fn judge_fwid(
    claims: &Claims,
    chain: &DeviceChain<'_>,
    transcript: &Transcript<'_>,
    anchor: &str,
    findings: &mut Findings,
) {
    let claim = claims.name("fwid");
    let certified = hex::encode(chain.fwid);
    match transcript.opaque.fwid() {
        Some(reported) if reported == chain.fwid => {
            findings.affirm(
                &claim,
                certified,
                anchor,
                "the leaf key is of the firmware that reports",
            );
        }
        Some(reported) => {
            findings.refuse(&claim, hex::encode(reported), Code::FwidOther, certified);
        }
        None => findings.refuse(&claim, "", Code::FwidMissing, "the report names none"),
    }
}
