//! Whether a certificate that the judgement rests on has been revoked since it was made.
//!
//! Asked about: every certificate between a GPU's leaf and the root (the leaf is made anew by the GPU's firmware and no
//! responder knows it), and every certificate of a RIM but the root.

use ring::digest;

use super::{GpuQuestion, device::Claims};
use crate::{
    fixed_hex::{FixedHex, Hex32},
    nvidia::{
        certificate::{Certificate, Point},
        chain::{DeviceChain, parse_all},
        codes::Code,
        collateral::NvidiaCollateral,
        nonce::ocsp_nonce,
        ocsp::{self, CertificateStatus, IssuerOf},
        rim::{DateCheck, VerifiedRim},
        rules::{HoldRule, OcspNonceRule, Presence},
    },
    verdict::Findings,
};

/// Faults by how bad they are.
#[derive(Debug, Default)]
struct Faults {
    refused: Vec<(Code, String)>,
    doubted: Vec<(Code, String)>,
    good: usize,
}

pub(super) fn judge(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    chain: &DeviceChain<'_>,
    rims: &[VerifiedRim],
    findings: &mut Findings,
) {
    let mut faults = Faults::default();
    let rule = question.rules.ocsp;
    judge_chain(question, &chain.certificates, 1, &question.roots.device, rule, &mut faults);
    for rim in rims {
        match parse_all(&rim.certificates) {
            Ok(certificates) => {
                // No responder needs to answer for certificates that are out of date.
                let rule = match rim.dates {
                    DateCheck::Valid => rule,
                    DateCheck::Pinned => Presence::Optional,
                };
                let root = &question.roots.rim;
                judge_chain(question, &certificates, 0, root, rule, &mut faults);
            }
            Err(error) => faults.refused.push((error.entry(), error.to_string())),
        }
    }
    let claim = claims.name("revocation");
    if faults.refused.is_empty() && faults.doubted.is_empty() {
        let value = format!("{} certificates good", faults.good);
        findings.affirm(&claim, value, question.roots.anchor(), "as their issuers say by OCSP");
    }
    for list in [&mut faults.refused, &mut faults.doubted] {
        list.sort_by_key(|(code, _)| code.as_str());
        list.dedup_by_key(|(code, _)| *code);
    }
    for (code, detail) in faults.refused {
        findings.refuse(&claim, "", code, detail);
    }
    for (code, detail) in faults.doubted {
        findings.warn(&claim, "", code, detail);
    }
}

fn judge_chain(
    question: &GpuQuestion<'_>,
    chain: &[Certificate<'_>],
    first: usize,
    root: &Point,
    rule: Presence,
    faults: &mut Faults,
) {
    for about in asked_about(chain, first, root) {
        let certificate = certificate_digest(about.subject);
        let name = about.subject.common_name().unwrap_or("a certificate without a name");
        let Some(response) = question.collateral.response(&certificate) else {
            let fault = (Code::OcspMissing, name.to_owned());
            match rule {
                Presence::Required => faults.refused.push(fault),
                Presence::Optional => faults.doubted.push(fault),
            }
            continue;
        };
        // Without the evidence's nonce there is none for OCSP, and that its own lacks is said elsewhere.
        let nonce = match (question.rules.ocsp_nonce, question.nonce) {
            (OcspNonceRule::Required, Some(nonce)) => Some(ocsp_nonce(&nonce, &certificate)),
            _ => None,
        };
        match ocsp::verify(response, about, question.time, nonce.as_ref().map(<[u8; 32]>::as_slice))
        {
            Ok(CertificateStatus::Good) => faults.good += 1,
            Ok(CertificateStatus::Hold) if question.rules.hold == HoldRule::Warn => {
                faults.doubted.push((Code::OcspHold, name.to_owned()));
            }
            Ok(CertificateStatus::Hold) => faults.refused.push((Code::OcspHold, name.to_owned())),
            Ok(CertificateStatus::Revoked) => {
                faults.refused.push((Code::OcspRevoked, name.to_owned()));
            }
            Ok(CertificateStatus::Unknown) => {
                faults.refused.push((Code::OcspUnknown, name.to_owned()));
            }
            Err(error) => faults.refused.push((error.entry(), format!("{name}: {error}"))),
        }
    }
}

/// Certificates from `first` on with their issuers' keys, without the root.
fn asked_about<'a>(
    chain: &'a [Certificate<'a>],
    first: usize,
    root: &'a Point,
) -> impl Iterator<Item = IssuerOf<'a>> {
    let issuers = chain.iter().skip(1).map(|issuer| &issuer.point).chain([root]);
    let pairs = chain.iter().zip(issuers).skip(first);
    pairs
        .filter(|(subject, _)| subject.point != *root)
        .map(|(subject, issuer_key)| IssuerOf { subject, issuer_key })
}

fn certificate_digest(certificate: &Certificate<'_>) -> Hex32 {
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&digest::SHA256, certificate.der).as_ref());
    FixedHex(value)
}

/// Requests for the responses that the collateral lacks.
pub(super) fn wanted(
    chain: &[Vec<u8>],
    first: usize,
    root: &Point,
    collateral: &NvidiaCollateral,
    nonce: Option<&[u8; 32]>,
    wanted: &mut Vec<(Hex32, Vec<u8>)>,
) {
    let Ok(chain) = parse_all(chain) else { return };
    for about in asked_about(&chain, first, root) {
        let certificate = certificate_digest(about.subject);
        let is_known = collateral.response(&certificate).is_some()
            || wanted.iter().any(|(listed, _)| *listed == certificate);
        if !is_known {
            let nonce = nonce.map(|nonce| ocsp_nonce(nonce, &certificate));
            let request = ocsp::request(about, nonce.as_ref().map(<[u8; 32]>::as_slice));
            wanted.push((certificate, request));
        }
    }
}
