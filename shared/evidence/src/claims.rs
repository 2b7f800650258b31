//! What the agent says about itself inside a quote.
//!
//! Claims are canonical JSON of strings; their bytes travel verbatim and the quote's report data is
//! `SHA-512("sealtune/report-data/v1" ‖ 0x00 ‖ bytes)`. A claim is only as good as the measured code that made it:
//! [`crate::appraise`] says which of them follow from something else.

mod builder;

use std::collections::BTreeMap;

use ring::digest;
use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    fixed_hex::{FixedHex, Hex16, Hex32, HexBytes},
    launch::{LaunchDigest, Role, VmMode},
};

pub use builder::{ClaimsBuilder, JobBinding};

pub const REPORT_DATA_TAG: &str = "sealtune/report-data/v1";
pub const GPU_NONCE_TAG: &str = "sealtune/gpu-nonce/v1";
pub const MAX_CLAIMS_BYTES: usize = 32 * 1024;
const MAX_GPU_CLAIMS: usize = 32;
const MAX_KNOBS: usize = 32;
const MAX_TEXT: usize = 128;

/// What evidence is made for; evidence for one purpose is no evidence for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Who this VM is, for anybody who asks with a nonce.
    Identity,
    /// The VM offers to open one job; its HPKE key is what the job is sealed to.
    Offer,
    /// Made once, right before untrusted code starts.
    Start,
    /// Made once, over the receipt of the job.
    Receipt,
}

impl Purpose {
    pub const ALL: [Self; 4] = [Self::Identity, Self::Offer, Self::Start, Self::Receipt];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Offer => "offer",
            Self::Start => "start",
            Self::Receipt => "receipt",
        }
    }

    /// Whether the register of run-time events must hold exactly one `job-start`, or none.
    pub fn follows_job_start(self) -> bool {
        matches!(self, Self::Start | Self::Receipt)
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or(UnknownPurpose)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected identity, offer, start or receipt")]
pub struct UnknownPurpose;

/// Version of the claims, a string like everything in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimsVersion {
    #[serde(rename = "1")]
    V1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HpkeSuite {
    XWing,
    X25519,
}

impl HpkeSuite {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::XWing => "x-wing",
            Self::X25519 => "x25519",
        }
    }

    pub fn public_key_bytes(self) -> usize {
        match self {
            Self::XWing => 1216,
            Self::X25519 => 32,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HpkeClaim {
    pub suite: HpkeSuite,
    pub key: HexBytes,
}

/// SHA-256 of one device's evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuClaim {
    pub device: String,
    pub digest: Hex32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    pub version: ClaimsVersion,
    pub purpose: Purpose,
    /// The verifier's; for `start` and `receipt` the owner's from the job specification.
    pub nonce: Hex32,
    /// 32 random bytes made at boot, the same in all evidence of one boot.
    pub instance: Hex32,
    pub role: Role,
    pub vm_mode: VmMode,
    /// Ed25519 public key that signs this VM's receipts.
    pub receipt_key: Hex32,
    pub hpke: HpkeClaim,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement_signer: Option<FixedHex<20>>,
    pub launch: LaunchDigest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Hex16>,
    /// Decimal, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// Digest of the job specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Hex32>,
    pub gpu: Vec<GpuClaim>,
    /// Digest of the collateral that the agent was given, which dates this evidence from below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<Hex32>,
    /// Evidence digest of the offer (in `start`) or of the start (in `receipt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Hex32>,
    /// SHA-256 of the receipt's DSSE payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Hex32>,
    /// The guest's clock, which is the host's word and vouches for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_time: Option<String>,
    /// Kernel settings as the agent read them back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    #[error("read the claims: {0}")]
    Parse(#[source] CanonicalError),
    #[error("accept the claims: the nonce is all zero")]
    NonceZero,
    #[error("accept the claims: the instance is all zero")]
    InstanceZero,
    #[error("accept the claims: a key for {suite} has {expected} bytes, found {found}")]
    HpkeKey { suite: &'static str, expected: usize, found: usize },
    #[error("accept the claims: evidence for {purpose} must have `{field}`")]
    Missing { purpose: Purpose, field: &'static str },
    #[error("accept the claims: evidence for {purpose} must not have `{field}`")]
    Unexpected { purpose: Purpose, field: &'static str },
    #[error("accept the claims: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
}

impl ClaimsError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Parse(_) => Code::ClaimsUnreadable,
            Self::NonceZero => Code::ClaimsNonceZero,
            Self::InstanceZero => Code::ClaimsInstanceZero,
            Self::HpkeKey { .. } => Code::ClaimsHpkeKey,
            Self::Missing { .. } => Code::ClaimsMissing,
            Self::Unexpected { .. } => Code::ClaimsUnexpected,
            Self::Field { .. } => Code::ClaimsField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Claims {
    /// Reads canonical bytes and holds them against the rules of their purpose.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimsError> {
        let claims: Self = canonical::parse(bytes, MAX_CLAIMS_BYTES).map_err(ClaimsError::Parse)?;
        claims.validate()?;
        Ok(claims)
    }

    /// The bytes to put behind a quote and to send along with it, unchanged.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, ClaimsError> {
        self.validate()?;
        canonical::to_vec(self).map_err(ClaimsError::Parse)
    }

    /// Which fields each purpose must and must not have.
    pub fn validate(&self) -> Result<(), ClaimsError> {
        if self.nonce.is_zero() {
            return Err(ClaimsError::NonceZero);
        }
        if self.instance.is_zero() {
            return Err(ClaimsError::InstanceZero);
        }
        let expected = self.hpke.suite.public_key_bytes();
        if self.hpke.key.0.len() != expected {
            return Err(ClaimsError::HpkeKey {
                suite: self.hpke.suite.as_str(),
                expected,
                found: self.hpke.key.0.len(),
            });
        }
        self.validate_purpose()?;
        self.validate_bounds()
    }

    fn validate_purpose(&self) -> Result<(), ClaimsError> {
        use Need::{Must, MustNot, Open};
        let purpose = self.purpose;
        let (job, spec, previous, payload) = match purpose {
            Purpose::Identity => (MustNot, MustNot, MustNot, MustNot),
            Purpose::Offer => (Open, MustNot, MustNot, MustNot),
            Purpose::Start => (Must, Must, Must, MustNot),
            Purpose::Receipt => (Must, Must, Must, Must),
        };
        for (field, present, need) in [
            ("job", self.job.is_some(), job),
            ("attempt", self.attempt.is_some(), job),
            ("spec", self.spec.is_some(), spec),
            ("previous", self.previous.is_some(), previous),
            ("payload", self.payload.is_some(), payload),
        ] {
            match (need, present) {
                (Must, false) => return Err(ClaimsError::Missing { purpose, field }),
                (MustNot, true) => return Err(ClaimsError::Unexpected { purpose, field }),
                _ => {}
            }
        }
        if self.job.is_some() != self.attempt.is_some() {
            return Err(ClaimsError::Missing { purpose, field: "job and attempt together" });
        }
        Ok(())
    }

    fn validate_bounds(&self) -> Result<(), ClaimsError> {
        let refuse = |field, reason| Err(ClaimsError::Field { field, reason });
        let short = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT;
        if let Some(attempt) = &self.attempt
            && parse_attempt(attempt).is_none()
        {
            return refuse("attempt", "expected a decimal number from 1");
        }
        if self.gpu.len() > MAX_GPU_CLAIMS || !self.gpu.iter().all(|gpu| short(&gpu.device)) {
            return refuse("gpu", "expected at most 32 devices with short names");
        }
        for (at, gpu) in self.gpu.iter().enumerate() {
            if self.gpu[..at].iter().any(|other| other.device == gpu.device) {
                return refuse("gpu", "a device is listed twice");
            }
        }
        if self.host_time.as_deref().is_some_and(|time| !short(time)) {
            return refuse("host_time", "expected a short text");
        }
        if self.knobs.len() > MAX_KNOBS
            || !self.knobs.iter().all(|(name, value)| short(name) && value.len() <= MAX_TEXT)
        {
            return refuse("knobs", "expected at most 32 short texts");
        }
        Ok(())
    }

    pub fn attempt_number(&self) -> Option<u32> {
        self.attempt.as_deref().and_then(parse_attempt)
    }
}

#[derive(Clone, Copy)]
enum Need {
    Must,
    MustNot,
    Open,
}

fn parse_attempt(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number >= 1 && number.to_string() == text).then_some(number)
}

/// What a quote over these claims must carry as report data.
pub fn report_data(claims_bytes: &[u8]) -> [u8; 64] {
    let mut context = digest::Context::new(&digest::SHA512);
    context.update(REPORT_DATA_TAG.as_bytes());
    context.update(&[0]);
    context.update(claims_bytes);
    let mut data = [0; 64];
    data.copy_from_slice(context.finish().as_ref());
    data
}

/// The nonce under which a GPU's evidence must be made to belong to this VM and this request.
pub fn gpu_nonce(purpose: Purpose, nonce: &Hex32, instance: &Hex32, hpke_key: &[u8]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(purpose.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(nonce.as_bytes());
    bytes.extend_from_slice(instance.as_bytes());
    bytes.extend_from_slice(digest::digest(&digest::SHA256, hpke_key).as_ref());
    canonical::domain_hash(GPU_NONCE_TAG, &bytes)
}

/// Fuzz entry: whatever is accepted is canonical and obeys the rules of its purpose.
pub fn fuzz_claims(data: &[u8]) {
    if let Ok(claims) = Claims::parse(data) {
        assert_eq!(claims.canonical_bytes().ok().as_deref(), Some(data));
        assert!(!claims.nonce.is_zero());
        assert_eq!(claims.purpose == Purpose::Receipt, claims.payload.is_some());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn builder() -> ClaimsBuilder {
        ClaimsBuilder::new(
            FixedHex([1; 32]),
            Role::Worker,
            VmMode::PerJob,
            FixedHex([2; 32]),
            HpkeClaim { suite: HpkeSuite::X25519, key: HexBytes(vec![3; 32]) },
            LaunchDigest(FixedHex([4; 32])),
        )
    }

    fn binding() -> JobBinding {
        JobBinding { job: FixedHex([5; 16]), attempt: 1, spec: FixedHex([6; 32]) }
    }

    fn of_purpose(purpose: Purpose) -> Claims {
        let nonce = FixedHex([8; 32]);
        let claims = match purpose {
            Purpose::Identity => builder().identity(nonce),
            Purpose::Offer => builder().offer(nonce, None),
            Purpose::Start => builder().start(nonce, binding(), FixedHex([7; 32])),
            Purpose::Receipt => {
                builder().receipt(nonce, binding(), FixedHex([7; 32]), FixedHex([9; 32]))
            }
        };
        claims.expect("the builder keeps the rules")
    }

    #[test]
    fn the_bytes_are_fixed_for_ever() {
        let bytes = of_purpose(Purpose::Identity).canonical_bytes().expect("canonical");
        let expected = format!(
            concat!(
                r#"{{"gpu":[],"hpke":{{"key":"{}","suite":"x25519"}},"instance":"{}","launch":"{}","nonce":"{}","#,
                r#""purpose":"identity","receipt_key":"{}","role":"worker","version":"1","vm_mode":"per-job"}}"#
            ),
            "03".repeat(32),
            "01".repeat(32),
            "04".repeat(32),
            "08".repeat(32),
            "02".repeat(32)
        );
        assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    }

    #[test]
    fn report_data_is_the_tagged_sha512_of_the_bytes() {
        let expected = digest::digest(&digest::SHA512, b"sealtune/report-data/v1\0{}");
        assert_eq!(report_data(b"{}"), expected.as_ref());
    }

    /// Sets or clears one field of a purpose that is complete otherwise.
    #[test]
    fn each_purpose_has_its_fields_and_no_others() {
        type Toggle = fn(&mut Claims, bool);
        let fields: [(&str, Toggle); 4] = [
            ("job", |c, on| {
                c.job = on.then_some(FixedHex([5; 16]));
                c.attempt = on.then(|| "1".into());
            }),
            ("spec", |c, on| c.spec = on.then_some(FixedHex([6; 32]))),
            ("previous", |c, on| c.previous = on.then_some(FixedHex([7; 32]))),
            ("payload", |c, on| c.payload = on.then_some(FixedHex([9; 32]))),
        ];
        for purpose in Purpose::ALL {
            let needed = match purpose {
                Purpose::Identity | Purpose::Offer => [false; 4],
                Purpose::Start => [true, true, true, false],
                Purpose::Receipt => [true; 4],
            };
            for ((field, toggle), needed) in fields.into_iter().zip(needed) {
                if purpose == Purpose::Offer && field == "job" {
                    continue;
                }
                let mut claims = of_purpose(purpose);
                toggle(&mut claims, !needed);
                let error = claims.validate().expect_err(field);
                let expected = if needed { Code::ClaimsMissing } else { Code::ClaimsUnexpected };
                assert_eq!(error.entry(), expected, "{purpose} {field}");
            }
        }
    }

    #[test]
    fn refuses_empty_nonces_wrong_keys_and_wild_values() {
        type Change = fn(&mut Claims);
        let cases: [(Code, Change); 7] = [
            (Code::ClaimsNonceZero, |c| c.nonce = Hex32::ZERO),
            (Code::ClaimsInstanceZero, |c| c.instance = Hex32::ZERO),
            (Code::ClaimsHpkeKey, |c| c.hpke.suite = HpkeSuite::XWing),
            (Code::ClaimsField, |c| c.attempt = Some("01".into())),
            (Code::ClaimsField, |c| c.attempt = Some("0".into())),
            (Code::ClaimsMissing, |c| c.attempt = None),
            (Code::ClaimsField, |c| {
                c.gpu = vec![GpuClaim { device: "g0".into(), digest: Hex32::ZERO }; 2];
            }),
        ];
        for (code, change) in cases {
            let mut claims = of_purpose(Purpose::Receipt);
            change(&mut claims);
            assert_eq!(claims.canonical_bytes().expect_err("refused").entry(), code);
        }
    }

    #[test]
    fn an_empty_nonce_cannot_be_written() {
        let text =
            String::from_utf8(of_purpose(Purpose::Offer).canonical_bytes().expect("canonical"))
                .expect("text");
        let empty = text.replace(&"08".repeat(32), "");
        assert!(Claims::parse(empty.as_bytes()).is_err());
        assert!(Claims::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn the_gpu_nonce_depends_on_each_input() {
        let base = gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([2; 32]), &[3]);
        for other in [
            gpu_nonce(Purpose::Start, &FixedHex([1; 32]), &FixedHex([2; 32]), &[3]),
            gpu_nonce(Purpose::Offer, &FixedHex([9; 32]), &FixedHex([2; 32]), &[3]),
            gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([9; 32]), &[3]),
            gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([2; 32]), &[4]),
        ] {
            assert_ne!(base, other);
        }
    }
}
