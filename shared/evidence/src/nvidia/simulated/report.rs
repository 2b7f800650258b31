//! A simulated GPU and what it signs.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    ARCHITECTURE, DRIVER_VERSION, SimulatedGpuError, SimulatedNvidia, VBIOS_VERSION, YEAR,
    firmware_digest, measurements,
    pki::{Authority, Draft},
};
use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        der::{INTEGER, OCTET_STRING, OID, SEQUENCE},
        der_writer::{tlv, tlv_all},
        evidence::{
            CcEnvironment, CcFeature, CcState, MigMode, MultiGpuMode, NvidiaEvidence,
            Virtualization,
        },
    },
};

const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const P384_SPKI_PREFIX: &str = "3076301006072a8648ce3d020106052b81040022036200";

/// One GPU: its boot ROM's identity and its firmware's alias key.
#[derive(Debug)]
pub struct SimulatedGpu {
    pub(crate) identity: Authority,
    pub(crate) leaf: Authority,
    /// DER, leaf first, with the root.
    pub chain: Vec<Vec<u8>>,
}

/// What a transcript says; every part of it can be changed before it is signed.
#[derive(Debug, Clone)]
pub struct Report {
    pub nonce: [u8; 32],
    /// By block, from 1.
    pub measurements: BTreeMap<u8, [u8; 48]>,
    pub opaque: Vec<(u16, Vec<u8>)>,
}

impl Report {
    pub fn new(nonce: [u8; 32]) -> Self {
        let opaque = vec![
            (6, vec![0, 0x9f, 0, 0x96, 1, 0, 0, 0]),
            (15, b"882\0".to_vec()),
            (17, b"1010\0".to_vec()),
            (18, b"0200\0".to_vec()),
            (3, [DRIVER_VERSION.as_bytes(), &[0]].concat()),
            (11, vec![0xaa]),
            (20, firmware_digest().to_vec()),
            (21, vec![0x55]),
        ];
        Self { nonce, measurements: measurements(), opaque }
    }

    /// Sets a field of the opaque data.
    #[must_use]
    pub fn with(mut self, field: u16, value: &[u8]) -> Self {
        self.opaque.retain(|(kind, _)| *kind != field);
        self.opaque.push((field, value.to_vec()));
        self
    }

    #[must_use]
    pub fn without(mut self, field: u16) -> Self {
        self.opaque.retain(|(kind, _)| *kind != field);
        self
    }

    /// Everything that is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x11, 0xe0, 0x01, 0xff];
        bytes.extend(self.nonce);
        bytes.push(0);
        let mut record = Vec::new();
        for (index, value) in &self.measurements {
            record.extend([*index, 1, 51, 0, 1, 48, 0]);
            record.extend(value);
        }
        let blocks = u8::try_from(self.measurements.len()).unwrap_or(u8::MAX);
        bytes.extend([0x11, 0x60, 0, 0, blocks]);
        bytes.extend(length_bytes(record.len()).get(..3).unwrap_or_default());
        bytes.extend(record);
        bytes.extend([0xcc; 32]);
        let mut opaque = Vec::new();
        for (kind, value) in &self.opaque {
            opaque.extend(kind.to_le_bytes());
            opaque.extend(length_bytes(value.len()).get(..2).unwrap_or_default());
            opaque.extend(value);
        }
        bytes.extend(length_bytes(opaque.len()).get(..2).unwrap_or_default());
        bytes.extend(opaque);
        bytes
    }
}

fn length_bytes(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

impl SimulatedGpu {
    pub(crate) fn make(
        maker: &SimulatedNvidia,
        number: u64,
        fwid: Option<[u8; 48]>,
    ) -> Result<Self, SimulatedGpuError> {
        let (from, to) = (maker.now.saturating_sub(YEAR), maker.now.saturating_add(20 * YEAR));
        let serial = [&[0x41], number.to_be_bytes().as_slice()].concat();
        let identity = Draft::authority("GH100 SIMULATED GSP BROM", &serial, from, to);
        let identity = maker.provisioner.issue(identity)?;
        Self::under(maker, identity, fwid)
    }

    /// A GPU with a device identity that somebody else made.
    pub(crate) fn under(
        maker: &SimulatedNvidia,
        identity: Authority,
        fwid: Option<[u8; 48]>,
    ) -> Result<Self, SimulatedGpuError> {
        let (from, to) = (maker.now.saturating_sub(YEAR), maker.now.saturating_add(20 * YEAR));
        let mut draft = Draft::signer("GH100 SIMULATED GSP FMC LF", &[5], from, to);
        if let Some(fwid) = fwid {
            draft = draft.with_dice(dice(&identity.point(), &fwid));
        }
        let leaf = identity.issue(draft)?;
        let above = [&leaf, &identity, &maker.provisioner, &maker.identity, &maker.device_root];
        let chain = above.iter().map(|authority| authority.der.clone()).collect();
        Ok(Self { identity, leaf, chain })
    }

    pub fn sign(&self, report: &Report) -> Result<Vec<u8>, SimulatedGpuError> {
        let mut bytes = report.to_bytes();
        bytes.extend(self.leaf.sign_fixed(&bytes)?);
        Ok(bytes)
    }

    pub fn pem(&self) -> String {
        pem(&self.chain)
    }

    /// Evidence with nothing wrong in it, over a report that may have.
    pub fn evidence(
        &self,
        device: &str,
        report: &Report,
    ) -> Result<NvidiaEvidence, SimulatedGpuError> {
        Ok(NvidiaEvidence {
            version: NvidiaEvidence::VERSION,
            device: device.to_owned(),
            architecture: ARCHITECTURE,
            uuid_digest: None,
            transcript: Base64Bytes(self.sign(report)?),
            certificates: Base64Bytes(self.pem().into_bytes()),
            driver_version: DRIVER_VERSION.to_owned(),
            vbios_version: VBIOS_VERSION.to_ascii_uppercase(),
            cc: CcState {
                feature: CcFeature::On,
                environment: CcEnvironment::Prod,
                multi_gpu: MultiGpuMode::None,
                gpus_ready: false,
            },
            mig: MigMode::Off,
            virtualization: Virtualization::PassThrough,
        })
    }
}

pub(crate) fn pem(chain: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Hopper's form of the DICE extension.
pub(crate) fn dice(identity: &[u8; 97], fwid: &[u8; 48]) -> Vec<u8> {
    let mut spki = hex::decode(P384_SPKI_PREFIX).unwrap_or_default();
    spki.extend(identity);
    let fwid = tlv_all(SEQUENCE, &[tlv(OID, SHA384), tlv(OCTET_STRING, fwid)]);
    tlv_all(SEQUENCE, &[tlv(INTEGER, &[1]), spki, fwid])
}
