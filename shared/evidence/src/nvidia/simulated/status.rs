//! Simulated OCSP responses.

use ring::digest;

use super::{
    SimulatedGpuError, SimulatedNvidia, YEAR,
    pki::{Authority, Draft},
};
use crate::{
    nvidia::{
        certificate::{Certificate, ECDSA_WITH_SHA384},
        der::{BIT_STRING, ENUMERATED, GENERALIZED_TIME, OCTET_STRING, OID, SEQUENCE},
        der_writer::{algorithm, tlv, tlv_all, unsigned},
    },
    time::rfc3339,
};

const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 2];

/// Who signs a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// A certificate that the issuer made for this.
    Delegate,
    Issuer,
    /// A certificate of the issuer's that is not for this.
    Undelegated,
    /// A certificate that somebody else's authority made for this.
    Stranger,
    /// A delegate whose certificate has ended.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaidStatus {
    Good,
    /// With a reason of RFC 5280.
    Revoked(Option<u8>),
    Unknown,
}

/// What a response says, before it is signed.
#[derive(Debug, Clone)]
pub struct OcspDraft {
    pub status: SaidStatus,
    pub this_update: u64,
    pub next_update: Option<u64>,
    pub nonce: Option<Vec<u8>>,
    pub signer: Signer,
}

impl OcspDraft {
    pub fn good(now: u64) -> Self {
        Self {
            status: SaidStatus::Good,
            this_update: now.saturating_sub(60),
            next_update: Some(now.saturating_add(24 * 3600)),
            nonce: None,
            signer: Signer::Delegate,
        }
    }
}

impl SimulatedNvidia {
    pub(crate) fn ocsp(
        &self,
        subject: &Authority,
        issuer: &Authority,
        draft: &OcspDraft,
    ) -> Result<Vec<u8>, SimulatedGpuError> {
        let certificate = Certificate::parse(&subject.der).map_err(|_| SimulatedGpuError::Key)?;
        let (from, to) = (self.now.saturating_sub(YEAR), self.now.saturating_add(YEAR));
        let delegate = Draft::signer("SIMULATED OCSP Responder", &[77], from, to);
        let delegate = match draft.signer {
            Signer::Issuer => None,
            Signer::Delegate => Some(issuer.issue(delegate.for_ocsp())?),
            Signer::Undelegated => Some(issuer.issue(delegate)?),
            Signer::Ended => {
                let ended = Draft::signer(
                    "SIMULATED OCSP Responder",
                    &[77],
                    from,
                    self.now.saturating_sub(1),
                );
                Some(issuer.issue(ended.for_ocsp())?)
            }
            Signer::Stranger => {
                let name = "SIMULATED stranger";
                Some(
                    Authority::root(Draft::authority(name, &[1], from, to))?
                        .issue(delegate.for_ocsp())?,
                )
            }
        };
        let signer = delegate.as_ref().unwrap_or(issuer);
        let name = Certificate::parse(&signer.der).map_err(|_| SimulatedGpuError::Key)?.subject;
        let hash =
            |bytes: &[u8]| tlv(OCTET_STRING, digest::digest(&digest::SHA384, bytes).as_ref());
        let id = tlv_all(
            SEQUENCE,
            &[
                algorithm(SHA384),
                hash(certificate.issuer),
                hash(&issuer.point()),
                unsigned(certificate.serial),
            ],
        );
        let status = match draft.status {
            SaidStatus::Good => tlv(0x80, &[]),
            SaidStatus::Unknown => tlv(0x82, &[]),
            SaidStatus::Revoked(reason) => {
                let mut parts = vec![time(draft.this_update)];
                parts.extend(reason.map(|reason| tlv(0xa0, &tlv(ENUMERATED, &[reason]))));
                tlv_all(0xa1, &parts)
            }
        };
        let mut single = vec![id, status, time(draft.this_update)];
        single.extend(draft.next_update.map(|next| tlv(0xa0, &time(next))));
        let mut data =
            vec![tlv(0xa1, name), time(self.now), tlv_all(SEQUENCE, &[tlv_all(SEQUENCE, &single)])];
        if let Some(nonce) = &draft.nonce {
            let value = tlv(OCTET_STRING, &tlv(OCTET_STRING, nonce));
            let extension = tlv_all(SEQUENCE, &[tlv(OID, NONCE), value]);
            data.push(tlv(0xa1, &tlv_all(SEQUENCE, &[extension])));
        }
        let data = tlv_all(SEQUENCE, &data);
        let signature = [&[0], signer.sign_asn1(&data)?.as_slice()].concat();
        let mut basic = vec![data, algorithm(ECDSA_WITH_SHA384), tlv(BIT_STRING, &signature)];
        if let Some(delegate) = &delegate {
            basic.push(tlv(0xa0, &tlv_all(SEQUENCE, std::slice::from_ref(&delegate.der))));
        }
        let basic = tlv(OCTET_STRING, &tlv_all(SEQUENCE, &basic));
        let holder = tlv(0xa0, &tlv_all(SEQUENCE, &[tlv(OID, BASIC), basic]));
        Ok(tlv_all(SEQUENCE, &[tlv(ENUMERATED, &[0]), holder]))
    }
}

fn time(seconds: u64) -> Vec<u8> {
    let text = rfc3339(seconds).unwrap_or_default();
    let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == 'Z').collect();
    tlv(GENERALIZED_TIME, digits.as_bytes())
}
