//! Asking NVIDIA for what verifies its GPUs' evidence: the RIM files of driver and VBIOS, then whether any certificate has
//! been revoked.
//!
//! RIM service: `GET /v1/rim/{id}` answers JSON with the file in base64 under `rim`. OCSP: RFC 6960 over HTTP, appendix A.1,
//! with a nonce (RFC 8954). A responder may leave the nonce out; one that answers with another's answers another request.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Answer, CollateralError, ServiceBase,
    inquiry::{Ask, Inquiry, Method, Next},
};
use crate::{
    base64_bytes::Base64Bytes,
    bundle::EvidenceBundle,
    claims::{Claims, gpu_nonce},
    fixed_hex::Hex32,
    nvidia::{
        NvidiaCollateral, NvidiaRoots,
        collateral::{MAX_NVIDIA_COLLATERAL_BYTES, MAX_RESPONSES, MAX_RIMS, OcspAnswer, RimFile},
        nonce::ocsp_nonce,
        ocsp::{MAX_OCSP_BYTES, OcspError, nonce_of},
        rim::MAX_RIM_BYTES,
        wanted,
    },
};

/// The file in base64, and what the service says about it.
const MAX_RIM_ANSWER: usize = MAX_RIM_BYTES / 3 * 4 + 4096;
/// Real ones have 250 bytes.
const MAX_REQUEST: usize = 2048;
/// RFC 6960: the responder does not answer for this certificate.
const UNAUTHORIZED: u8 = 6;

#[derive(Debug)]
pub struct GpuInquiry<'a> {
    rim: ServiceBase,
    ocsp: ServiceBase,
    devices: Vec<&'a [u8]>,
    /// The device that is being asked about.
    at: usize,
    nonce: Option<[u8; 32]>,
    roots: &'a NvidiaRoots,
    have: NvidiaCollateral,
    asked: Option<Asked>,
    /// RIMs that the service does not have.
    absent: Vec<String>,
    /// Certificates that the responder does not answer for.
    unanswered: Vec<Hex32>,
    missing: Vec<Missing>,
    rims_are_lost: bool,
    ocsp_is_lost: bool,
    /// So that as much is asked for as can be kept, and no more.
    bytes: usize,
}

/// A part that was passed over, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The RIM's name, or the certificate's SHA-256.
    pub part: String,
    pub reason: String,
}

#[derive(Debug, Clone)]
enum Asked {
    Rim(String),
    Ocsp(Hex32),
}

/// The part of the service's answer that is used.
#[derive(Deserialize)]
struct RimAnswer<'a> {
    #[serde(borrow)]
    rim: std::borrow::Cow<'a, str>,
}

impl<'a> GpuInquiry<'a> {
    /// The most certificates that one inquiry asks about.
    pub const MAX_RESPONSES: usize = MAX_RESPONSES;

    /// `nonce` is that of the devices' evidence; without one, responses of any age within their validity are taken.
    pub fn new(
        rim: &ServiceBase,
        ocsp: &ServiceBase,
        devices: Vec<&'a [u8]>,
        nonce: Option<[u8; 32]>,
        roots: &'a NvidiaRoots,
    ) -> Self {
        let (rim, ocsp, have) = (rim.clone(), ocsp.clone(), NvidiaCollateral::default());
        Self {
            rim,
            ocsp,
            devices,
            at: 0,
            nonce,
            roots,
            have,
            asked: None,
            absent: vec![],
            unanswered: vec![],
            missing: vec![],
            rims_are_lost: false,
            ocsp_is_lost: false,
            bytes: 0,
        }
    }

    /// For every GPU of these bundles, with nonces that follow from the first one's; `None` where there is nothing to ask.
    pub fn of_bundles(
        rim: &ServiceBase,
        ocsp: &ServiceBase,
        bundles: &[&'a EvidenceBundle],
        roots: &'a NvidiaRoots,
    ) -> Option<Self> {
        let first = bundles.iter().find(|bundle| !bundle.gpu.is_empty())?;
        let claims = Claims::parse(&first.claims.0).ok()?;
        let nonce = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, &claims.hpke.key.0);
        let devices = bundles.iter().flat_map(|bundle| &bundle.gpu);
        let devices = devices.map(|gpu| gpu.evidence.0.as_slice()).collect();
        Some(Self::new(rim, ocsp, devices, Some(nonce), roots))
    }

    /// Goes on from files and responses that are there already.
    pub fn with(mut self, known: NvidiaCollateral) -> Self {
        self.have = known;
        self
    }

    /// Goes on without what was asked for last, for whom something is better than nothing. A service that did not answer
    /// (`is_lost`) is not asked for the rest either: it would not, part by part. Where nothing was asked for, there is
    /// nothing to go on from.
    pub fn pass_over(&mut self, reason: &str, is_lost: bool) -> bool {
        let part = match self.asked.take() {
            Some(Asked::Rim(id)) => {
                self.rims_are_lost |= is_lost;
                self.absent.push(id.clone());
                id
            }
            Some(Asked::Ocsp(certificate)) => {
                self.ocsp_is_lost |= is_lost;
                self.unanswered.push(certificate);
                certificate.to_string()
            }
            None => return false,
        };
        self.missing.push(Missing { part, reason: reason.to_owned() });
        true
    }

    /// What there is so far, and what was passed over.
    pub fn so_far(self) -> (NvidiaCollateral, Vec<Missing>) {
        (self.have, self.missing)
    }

    fn take(&mut self, answer: &Answer) -> Result<(), CollateralError> {
        let asked = self.asked.take();
        self.take_as(asked.clone(), answer).inspect_err(|_| self.asked = asked)
    }

    fn take_as(&mut self, asked: Option<Asked>, answer: &Answer) -> Result<(), CollateralError> {
        let refuse = |part, reason: &str| CollateralError::Answer { part, reason: reason.into() };
        let length = match asked {
            // The verdict says that it is missing; certificates are asked about without it.
            Some(Asked::Rim(id)) if answer.body.is_empty() => {
                let part = id.clone();
                self.missing.push(Missing { part, reason: "the service has none".to_owned() });
                self.absent.push(id);
                return Ok(());
            }
            Some(Asked::Rim(id)) => {
                let read: RimAnswer<'_> = serde_json::from_slice(&answer.body)
                    .map_err(|error| refuse("a RIM", &error.to_string()))?;
                let file = STANDARD
                    .decode(read.rim.as_bytes())
                    .map_err(|_| refuse("a RIM", "its file is not base64"))?;
                if file.is_empty() || file.len() > MAX_RIM_BYTES {
                    return Err(refuse("a RIM", "its file is empty, or longer than 256 KiB"));
                }
                let length = file.len();
                self.have.rims.push(RimFile { id, file: Base64Bytes(file) });
                length
            }
            Some(Asked::Ocsp(certificate)) => {
                let carried = match nonce_of(&answer.body) {
                    Ok(carried) => carried,
                    // The verdict says what it means that there is none: out-of-date files may be pinned.
                    Err(OcspError::Refused(UNAUTHORIZED)) => {
                        let (part, reason) =
                            (certificate.to_string(), "the service does not know it");
                        self.missing.push(Missing { part, reason: reason.to_owned() });
                        self.unanswered.push(certificate);
                        return Ok(());
                    }
                    Err(error) => return Err(refuse("an OCSP request", &error.to_string())),
                };
                let sent = self.nonce.map(|nonce| ocsp_nonce(&nonce, &certificate));
                if carried.is_some_and(|carried| sent.is_none_or(|sent| carried != sent)) {
                    return Err(CollateralError::OcspNonce);
                }
                let response = Base64Bytes(answer.body.clone());
                self.have.ocsp.push(OcspAnswer { certificate, response });
                answer.body.len()
            }
            None => return Err(refuse("GPU collateral", "unasked")),
        };
        self.bytes = self.bytes.saturating_add(length / 3 * 4 + 256);
        Ok(())
    }
}

impl Inquiry for GpuInquiry<'_> {
    type Document = NvidiaCollateral;

    fn go_on(&mut self, answer: Option<Answer>) -> Result<Next<NvidiaCollateral>, CollateralError> {
        if let Some(answer) = answer {
            self.take(&answer)?;
        }
        let full = self.bytes > MAX_NVIDIA_COLLATERAL_BYTES
            || self.have.rims.len().saturating_add(self.absent.len()) > MAX_RIMS
            || self.have.ocsp.len().saturating_add(self.unanswered.len()) > MAX_RESPONSES;
        if full {
            return Err(CollateralError::Gpu("they need more than one document can hold"));
        }
        while let Some(device) = self.devices.get(self.at) {
            let wanted = wanted(device, &self.have, self.roots, self.nonce.as_ref());
            let mut files = wanted.rims.into_iter();
            let next = files.find(|id| !self.rims_are_lost && !self.absent.contains(id));
            if let Some(id) = next {
                let url = rim_url(&self.rim, &id)?;
                self.asked = Some(Asked::Rim(id));
                let ask = Ask::get(url, MAX_RIM_ANSWER);
                return Ok(Next::Ask(Ask { may_be_absent: true, ..ask }));
            }
            let mut open = wanted.ocsp.into_iter();
            let next = open.find(|(certificate, _)| {
                !self.ocsp_is_lost && !self.unanswered.contains(certificate)
            });
            let Some((certificate, body)) = next else {
                self.at = self.at.saturating_add(1);
                continue;
            };
            if body.len() > MAX_REQUEST {
                return Err(CollateralError::Gpu("a certificate's serial number is too long"));
            }
            self.asked = Some(Asked::Ocsp(certificate));
            return Ok(Next::Ask(Ask {
                url: format!("{}/", self.ocsp.as_str()),
                method: Method::Post { content_type: "application/ocsp-request", body },
                most: MAX_OCSP_BYTES,
                may_be_absent: false,
            }));
        }
        Ok(Next::Done(std::mem::take(&mut self.have)))
    }
}

/// The id comes from evidence that nobody has verified yet.
fn rim_url(base: &ServiceBase, id: &str) -> Result<String, CollateralError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.is_empty() || id.len() > 160 || !id.bytes().all(plain) {
        return Err(CollateralError::Gpu("the name of a RIM is not of its form"));
    }
    Ok(format!("{}/v1/rim/{id}", base.as_str()))
}

/// Fuzz entry: hostile answers, the second of them after the first line break, make bounded collateral or none.
pub fn fuzz_gpu_answers(data: &[u8]) {
    let (first, second) = match data.iter().position(|byte| *byte == b'\n') {
        Some(cut) => data.split_at(cut),
        None => (data, data),
    };
    let second = second.strip_prefix(b"\n").unwrap_or(second);
    let base = ServiceBase::nvidia_rim();
    let roots = NvidiaRoots::nvidia();
    let mut inquiry = GpuInquiry::new(&base, &base, vec![], Some([7; 32]), &roots);
    let certificate = crate::fixed_hex::FixedHex([9; 32]);
    for (asked, body) in [(Asked::Rim("A".to_owned()), first), (Asked::Ocsp(certificate), second)] {
        inquiry.asked = Some(asked);
        let answer = Answer { headers: vec![], body: body.to_vec() };
        if let Ok(Next::Done(document)) = inquiry.go_on(Some(answer)) {
            assert!(document.validate().is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_another_place() {
        let base = ServiceBase::nvidia_rim();
        assert_eq!(
            rim_url(&base, "NV_GPU_DRIVER_GH100_550.90.07").expect("a name"),
            "https://rim.attestation.nvidia.com/v1/rim/NV_GPU_DRIVER_GH100_550.90.07"
        );
        for bad in ["", "a/b", "a?b", "a#b", "a b", "a%2f", "a\n", &"a".repeat(161)] {
            assert!(rim_url(&base, bad).is_err(), "{bad:?}");
        }
    }
}
