//! The attestation report of SEV-SNP, 1184 bytes, versions 2 to 5.
//!
//! Source: AMD 56860 (SNP firmware ABI), structure ATTESTATION_REPORT. All integers are little-endian, those of the
//! signature too. The signature covers the first 672 bytes as they were received: nothing here is ever written back.

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::{
    codes::Code,
    product::{CpuId, TcbVersion},
};
use crate::fixed_hex::{FixedHex, Hex32, Hex48};

pub const REPORT_BYTES: usize = 1184;
/// What the signature covers.
pub const SIGNED_BYTES: usize = 0x2a0;
const ECDSA_P384_SHA384: u32 = 1;
/// Bits of POLICY that version 5 of the report knows; bit 17 is always one.
const KNOWN_POLICY: u64 = 0x03ff_ffff;
const POLICY_ONE: u64 = 1 << 17;

/// Every field of a report. To be believed only when the signature over its bytes verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub version: u32,
    pub guest_svn: u32,
    pub policy: GuestPolicy,
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    pub vmpl: u32,
    pub current_tcb: TcbVersion,
    pub platform: PlatformInfo,
    pub author_key_enabled: bool,
    pub chip_key_masked: bool,
    pub signing_key: SigningKey,
    pub report_data: [u8; 64],
    pub measurement: Hex48,
    pub host_data: Hex32,
    pub id_key_digest: Hex48,
    pub author_key_digest: Hex48,
    pub report_id: Hex32,
    pub report_id_ma: Hex32,
    /// The version that the signing key was derived from.
    pub reported_tcb: TcbVersion,
    /// From version 3 on.
    pub cpu: Option<CpuId>,
    pub chip_id: [u8; 64],
    /// Below this the platform cannot be rolled back.
    pub committed_tcb: TcbVersion,
    pub current: FirmwareVersion,
    pub committed: FirmwareVersion,
    pub launch_tcb: TcbVersion,
    /// From version 5 on.
    pub mitigations: Option<Mitigations>,
}

/// What the VM may do and its host may do with it, as the host asked for at launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

/// What the platform does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

/// Which of its keys the firmware signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKey {
    /// Of this chip.
    Vcek,
    /// Loaded by a cloud provider, the same on many chips.
    Vlek,
}

/// Compared field by field in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    pub major: u8,
    pub minor: u8,
    pub build: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mitigations {
    pub launch: u64,
    pub current: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("read the report: {0} bytes, expected 1184")]
    Length(usize),
    #[error("read the report: version {0}, expected 2 to 5")]
    Version(u32),
    #[error("read the report: {0} is not what it must be")]
    Reserved(&'static str),
    #[error("read the report: signature algorithm {0}, expected 1")]
    Algorithm(u32),
    #[error("read the report: signing key {0}, expected 0 (VCEK) or 1 (VLEK)")]
    SigningKey(u32),
    #[error("verify the report's signature with the key of its certificate")]
    Signature,
}

impl ReportError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Length(_) => Code::ReportLength,
            Self::Version(_) => Code::ReportVersion,
            Self::Reserved(_) => Code::ReportReserved,
            Self::Algorithm(_) => Code::ReportAlgorithm,
            Self::SigningKey(_) => Code::SigningKeyNone,
            Self::Signature => Code::ReportSignature,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Report {
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() != REPORT_BYTES {
            return Err(ReportError::Length(bytes.len()));
        }
        let mut fields = Fields(bytes);
        let version = fields.u32()?;
        if !(2..=5).contains(&version) {
            return Err(ReportError::Version(version));
        }
        let guest_svn = fields.u32()?;
        let policy = GuestPolicy(fields.u64()?);
        if policy.0 & !KNOWN_POLICY != 0 || policy.0 & POLICY_ONE == 0 {
            return Err(ReportError::Reserved("POLICY"));
        }
        let (family_id, image_id) = (fields.take()?, fields.take()?);
        let vmpl = fields.u32()?;
        let algorithm = fields.u32()?;
        if algorithm != ECDSA_P384_SHA384 {
            return Err(ReportError::Algorithm(algorithm));
        }
        let current_tcb = TcbVersion(fields.take()?);
        let platform = PlatformInfo(fields.u64()?);
        let key_info = fields.u32()?;
        if key_info >> 5 != 0 {
            return Err(ReportError::Reserved("KEY_INFO"));
        }
        let signing_key = match key_info >> 2 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            other => return Err(ReportError::SigningKey(other)),
        };
        fields.zero(4, "the bytes at 0x04c")?;
        let report_data = fields.take()?;
        let measurement = FixedHex(fields.take()?);
        let host_data = FixedHex(fields.take()?);
        let id_key_digest = FixedHex(fields.take()?);
        let author_key_digest = FixedHex(fields.take()?);
        let (report_id, report_id_ma) = (FixedHex(fields.take()?), FixedHex(fields.take()?));
        let reported_tcb = TcbVersion(fields.take()?);
        let [family, model, stepping] = fields.take()?;
        let cpu = CpuId { family, model, stepping };
        if version == 2 && (family, model, stepping) != (0, 0, 0) {
            return Err(ReportError::Reserved("the bytes at 0x188"));
        }
        fields.zero(21, "the bytes at 0x18b")?;
        let chip_id = fields.take()?;
        let committed_tcb = TcbVersion(fields.take()?);
        let current = fields.firmware_version()?;
        let committed = fields.firmware_version()?;
        let launch_tcb = TcbVersion(fields.take()?);
        let mitigations = Mitigations { launch: fields.u64()?, current: fields.u64()? };
        if version < 5 && mitigations != (Mitigations { launch: 0, current: 0 }) {
            return Err(ReportError::Reserved("the bytes at 0x1f8"));
        }
        fields.zero(152, "the bytes at 0x208")?;
        signature_of(bytes)?;
        Ok(Self {
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform,
            author_key_enabled: key_info & 1 != 0,
            chip_key_masked: key_info & 2 != 0,
            signing_key,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpu: (version >= 3).then_some(cpu),
            chip_id,
            committed_tcb,
            current,
            committed,
            launch_tcb,
            mitigations: (version >= 5).then_some(mitigations),
        })
    }
}

/// Checks the signature over the bytes as they were received. `point` is an uncompressed point of P-384.
pub fn verify_signature(bytes: &[u8], point: &[u8]) -> Result<(), ReportError> {
    let signature = signature_of(bytes)?;
    let signed = bytes.get(..SIGNED_BYTES).ok_or(ReportError::Length(bytes.len()))?;
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
        .verify(signed, &signature)
        .map_err(|_| ReportError::Signature)
}

/// `r ‖ s`, big-endian, out of the report's two little-endian numbers of 72 bytes.
fn signature_of(bytes: &[u8]) -> Result<[u8; 96], ReportError> {
    if bytes.len() != REPORT_BYTES {
        return Err(ReportError::Length(bytes.len()));
    }
    let mut fields = Fields(bytes.get(SIGNED_BYTES..).ok_or(ReportError::Length(bytes.len()))?);
    let mut r: [u8; 48] = fields.take()?;
    fields.zero(24, "the signature's R")?;
    let mut s: [u8; 48] = fields.take()?;
    fields.zero(24, "the signature's S")?;
    fields.zero(368, "the bytes after the signature")?;
    r.reverse();
    s.reverse();
    let mut signature = [0; 96];
    let (first, second) = signature.split_at_mut(48);
    first.copy_from_slice(&r);
    second.copy_from_slice(&s);
    Ok(signature)
}

/// The rest of a report.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ReportError> {
        let taken = REPORT_BYTES.saturating_sub(self.0.len());
        let (field, rest) = self.0.split_first_chunk().ok_or(ReportError::Length(taken))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, ReportError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ReportError> {
        self.take().map(u64::from_le_bytes)
    }

    fn zero(&mut self, length: usize, name: &'static str) -> Result<(), ReportError> {
        let (field, rest) =
            self.0.split_at_checked(length).ok_or(ReportError::Length(REPORT_BYTES))?;
        self.0 = rest;
        if field.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(ReportError::Reserved(name)) }
    }

    fn firmware_version(&mut self) -> Result<FirmwareVersion, ReportError> {
        let [build, minor, major] = self.take()?;
        self.zero(1, "the byte after a firmware version")?;
        Ok(FirmwareVersion { major, minor, build })
    }
}

impl GuestPolicy {
    /// The lowest firmware ABI under which the VM may run, major before minor.
    pub fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// Two threads of one core may run different VMs' work.
    pub fn allows_smt(self) -> bool {
        self.bit(16)
    }

    pub fn allows_migration(self) -> bool {
        self.bit(18)
    }

    /// The host can read and change the VM's memory.
    pub fn allows_debug(self) -> bool {
        self.bit(19)
    }

    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }
}

impl PlatformInfo {
    /// SMT, TSME, ECC, RAPL off, ciphertext hiding, alias check, IOMMU safe against writes, trusted I/O.
    const KNOWN: u64 = 0b1111_1111;

    pub fn hides_ciphertext(self) -> bool {
        self.0 >> 4 & 1 != 0
    }

    /// No two addresses lead to the same memory.
    pub fn alias_check_complete(self) -> bool {
        self.0 >> 5 & 1 != 0
    }

    pub fn unknown_bits(self) -> u64 {
        self.0 & !Self::KNOWN
    }
}

impl SigningKey {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }
}

impl std::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Fuzz entry: a report has one length, known bits only, and reading it again gives the same.
pub fn fuzz_snp_report(data: &[u8]) {
    if let Ok(report) = Report::parse(data) {
        assert_eq!(data.len(), REPORT_BYTES);
        assert_eq!(Report::parse(data).as_ref(), Ok(&report));
        assert!((2..=5).contains(&report.version));
        assert_eq!(report.cpu.is_some(), report.version >= 3);
        // A point that is on no curve verifies nothing.
        assert_eq!(verify_signature(data, &[4; 97]), Err(ReportError::Signature));
    } else {
        let _ = verify_signature(data, &[4; 97]);
    }
}
