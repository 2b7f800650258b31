//! One GPU or switch: its evidence taken apart, and each claim about it.

use super::{
    Device, DeviceFacts, DeviceKind, GpuQuestion, firmware, mode, revocation, switch, whole::Whole,
};
use crate::{
    nvidia::{
        chain::{ChainError, DeviceChain, read_pem},
        codes::Code,
        device_evidence::DeviceEvidence,
        transcript::Transcript,
    },
    verdict::Findings,
};

/// Names of the claims about one device.
#[derive(Debug)]
pub(super) struct Claims {
    index: usize,
    kind: &'static str,
}

/// Claims that rest on the device's signature.
const SIGNED: [&str; 6] = ["nonce", "fwid", "mode", "firmware", "revocation", "device"];

impl Claims {
    /// What does not read is claimed about as a GPU.
    fn new(index: usize, evidence: Option<&DeviceEvidence>) -> Self {
        let kind = match evidence {
            None | Some(DeviceEvidence::Gpu(_)) => "gpu",
            Some(DeviceEvidence::Switch(_)) => "switch",
        };
        Self { index, kind }
    }

    pub(super) fn name(&self, claim: &str) -> String {
        format!("{}.{}.{claim}", self.kind, self.index)
    }
}

pub(super) fn judge(
    question: &GpuQuestion<'_>,
    index: usize,
    (name, bytes): Device<'_>,
    all: &mut Whole,
    findings: &mut Findings,
) -> Option<DeviceFacts> {
    let evidence = DeviceEvidence::parse(bytes);
    let claims = &Claims::new(index, evidence.as_ref().ok());
    let unjudged = |list: &[&str], findings: &mut Findings| {
        for claim in list {
            findings.unjudged(&claims.name(claim), Code::NotChecked, "");
        }
    };
    let evidence = match evidence {
        Ok(evidence) => evidence,
        Err(error) => {
            findings.refuse(&claims.name("evidence"), name, error.entry(), error.to_string());
            unjudged(&["chain", "signature"], findings);
            unjudged(&SIGNED, findings);
            return None;
        }
    };
    all.add_document(&evidence);
    if evidence.device() != name {
        findings.refuse(&claims.name("evidence"), name, Code::DeviceNameOther, evidence.device());
    }
    let ders = certificates(&evidence);
    let chain = judge_chain(question, claims, &ders, findings);
    let transcript = match Transcript::parse(evidence.transcript()) {
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
    judge_fwid(claims, &evidence, &chain, &transcript, &anchor, findings);
    let opaque = &transcript.opaque;
    match &evidence {
        DeviceEvidence::Gpu(evidence) => {
            let mode = mode::judge(question, claims, evidence, opaque, &chain, findings);
            all.machine.add_gpu(mode, opaque, &chain);
        }
        DeviceEvidence::Switch(evidence) => {
            switch::judge(question, claims, evidence, opaque, &chain, findings);
            all.machine.add_switch(opaque, &chain);
        }
    }
    let rims = firmware::judge(question, claims, &evidence, &transcript, &chain, findings);
    revocation::judge(question, claims, &chain, &rims, findings);
    let kind = match &evidence {
        DeviceEvidence::Gpu(_) => DeviceKind::Gpu,
        DeviceEvidence::Switch(_) => DeviceKind::Switch,
    };
    let vbios_version = match kind {
        DeviceKind::Gpu => opaque.vbios_version().ok(),
        DeviceKind::Switch => opaque.bios_version().ok().map(str::to_owned),
    };
    Some(DeviceFacts {
        name: name.to_owned(),
        kind,
        chip: chain.chip.to_owned(),
        driver_version: opaque.driver_version().ok().map(str::to_owned),
        vbios_version,
        device: chain.device,
    })
}

fn certificates(evidence: &DeviceEvidence) -> Result<Vec<Vec<u8>>, ChainError> {
    let text = str::from_utf8(evidence.certificates())
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
    evidence: &DeviceEvidence,
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
        None => match evidence {
            DeviceEvidence::Gpu(_) => {
                findings.refuse(&claim, "", Code::FwidMissing, "the report names none");
            }
            DeviceEvidence::Switch(_) => {
                let text = "named by the leaf certificate alone: a switch's report has none";
                findings.affirm(&claim, certified, anchor, text);
            }
        },
    }
}
