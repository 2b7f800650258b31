//! The launch configuration: everything that varies between VMs of one release and changes behaviour.
//!
//! The host chooses it, the CPU measures its digest `H` before the guest runs (TDX: `MRCONFIGID = 0x53 ‖ H ‖ 15 zero
//! bytes`; SNP: `HOST_DATA = H`), and the agent does nothing until the bytes it was handed hash to the value in its own
//! report. What is not in here and not in the measured image is ignored by the agent.

use std::collections::BTreeSet;

use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    fixed_hex::{FixedHex, Hex32, Hex48, HexBytes},
};

/// Domain tag of `H`.
pub const LAUNCH_TAG: &str = "sealtune/launch/v1";
/// First byte of a Sealtune MRCONFIGID; other stacks use other numbers here.
pub const MR_CONFIG_ID_KIND: u8 = 0x53;

pub const MAX_LAUNCH_BYTES: usize = 64 * 1024;
pub const MAX_LAYERS: usize = 32;
const MAX_GPUS: usize = 16;
const MAX_DEVICES: usize = 32;
const MAX_NAME: usize = 128;
const MAX_SALT: usize = 256;
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// What a VM may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs jobs; holds keys made fresh per boot or job.
    Worker,
    /// Holds the settlement key; no GPU, never a container.
    Signer,
}

/// Whether a VM serves one job and then ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmMode {
    PerJob,
    /// For 0G tasks only; sealed jobs refuse it.
    Shared,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Signer => "signer",
        }
    }
}

impl VmMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerJob => "per-job",
            Self::Shared => "shared",
        }
    }
}

/// The size of the VM, as its firmware sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub vcpus: u32,
    pub memory_mib: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashAlgorithm {
    Sha256,
}

/// A read-only image that the agent opens through dm-verity with exactly these parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub name: String,
    pub root: Hex32,
    pub data_blocks: u64,
    /// Where the hash tree begins, in bytes from the start of the device.
    pub hash_offset: u64,
    pub data_block_size: u32,
    pub hash_block_size: u32,
    pub hash_algorithm: HashAlgorithm,
    pub salt: HexBytes,
}

/// Which contract a signer settles with, and at what price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// Chain id, decimal.
    pub chain: String,
    pub contract: FixedHex<20>,
    /// Price in the contract's smallest unit, decimal.
    pub price: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchConfiguration {
    pub version: u32,
    pub release: String,
    pub role: Role,
    pub vm_mode: VmMode,
    pub shape: Shape,
    /// One entry a GPU, by what the host calls it.
    pub gpus: Vec<String>,
    pub layers: Vec<Layer>,
    /// Devices that may be bound besides those that every VM has; anything else is an error in the guest.
    pub devices: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<Settlement>,
    /// SHA-256 of the token that the first message of a control connection must carry.
    pub token_hash: Hex32,
}

/// `H`: the digest of a launch configuration's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaunchDigest(pub Hex32);

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("read the launch configuration: {0}")]
    Parse(#[source] CanonicalError),
    #[error("read launch configuration version {0}, this program knows version 1")]
    Version(u32),
    #[error("accept the launch configuration: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
    #[error(
        "accept MRCONFIGID: it is all zero, so nothing binds this VM to a launch configuration"
    )]
    MrConfigIdZero,
    #[error("accept MRCONFIGID {found}: it does not have the form 53 ‖ digest ‖ 15 zero bytes")]
    MrConfigIdForm { found: Hex48 },
    #[error("accept HOST_DATA: it is all zero, so nothing binds this VM to a launch configuration")]
    HostDataZero,
    #[error(
        "match the launch configuration: it hashes to {configured}, the CPU measured {measured}"
    )]
    Mismatch { configured: Hex32, measured: Hex32 },
}

impl LaunchError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Parse(_) => Code::LaunchUnreadable,
            Self::Version(_) => Code::LaunchVersion,
            Self::Field { .. } => Code::LaunchField,
            Self::MrConfigIdZero | Self::HostDataZero => Code::LaunchZero,
            Self::MrConfigIdForm { .. } => Code::LaunchForm,
            Self::Mismatch { .. } => Code::LaunchMismatch,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl LaunchConfiguration {
    /// Reads canonical bytes within the limits; the digest is then over exactly these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, LaunchError> {
        let configuration: Self =
            canonical::parse(bytes, MAX_LAUNCH_BYTES).map_err(LaunchError::Parse)?;
        configuration.validate()?;
        Ok(configuration)
    }

    pub fn canonical_bytes(&self) -> Result<Vec<u8>, LaunchError> {
        self.validate()?;
        let bytes = canonical::to_vec(self).map_err(LaunchError::Parse)?;
        if bytes.len() > MAX_LAUNCH_BYTES {
            return Err(LaunchError::Parse(CanonicalError::TooLong {
                length: bytes.len(),
                limit: MAX_LAUNCH_BYTES,
            }));
        }
        Ok(bytes)
    }

    pub fn digest(&self) -> Result<LaunchDigest, LaunchError> {
        Ok(LaunchDigest::of(&self.canonical_bytes()?))
    }

    /// The MRCONFIGID with which a TDX VM of this configuration must be started.
    pub fn mr_config_id(&self) -> Result<Hex48, LaunchError> {
        Ok(self.digest()?.mr_config_id())
    }

    /// The HOST_DATA with which an SNP VM of this configuration must be started.
    pub fn host_data(&self) -> Result<Hex32, LaunchError> {
        Ok(self.digest()?.host_data())
    }

    /// Whether the CPU measured this configuration: the agent's first check.
    pub fn check_against(&self, mr_config_id: &Hex48) -> Result<LaunchDigest, LaunchError> {
        let digest = self.digest()?;
        digest.check_mr_config_id(mr_config_id)?;
        Ok(digest)
    }

    fn validate(&self) -> Result<(), LaunchError> {
        let refuse = |field, reason| Err(LaunchError::Field { field, reason });
        if self.version != 1 {
            return Err(LaunchError::Version(self.version));
        }
        if !is_name(&self.release) {
            return refuse("release", "expected 1 to 128 letters, digits or . _ - + :");
        }
        if self.shape.vcpus == 0 || self.shape.vcpus > 4096 {
            return refuse("shape.vcpus", "expected 1 to 4096");
        }
        if self.shape.memory_mib == 0 || self.shape.memory_mib > 1 << 34 {
            return refuse("shape.memory_mib", "expected 1 MiB to 16 PiB");
        }
        if self.gpus.len() > MAX_GPUS || !self.gpus.iter().all(|gpu| is_name(gpu)) {
            return refuse("gpus", "expected at most 16 names");
        }
        if !is_set(&self.gpus) {
            return refuse("gpus", "a GPU is listed twice");
        }
        if self.role == Role::Signer && !self.gpus.is_empty() {
            return refuse("gpus", "a signer has none");
        }
        if self.devices.len() > MAX_DEVICES || !self.devices.iter().all(|name| is_name(name)) {
            return refuse("devices", "expected at most 32 names");
        }
        if !is_set(&self.devices) {
            return refuse("devices", "a device is listed twice");
        }
        if self.layers.len() > MAX_LAYERS {
            return refuse("layers", "expected at most 32");
        }
        if !is_set(self.layers.iter().map(|layer| &layer.name)) {
            return refuse("layers", "a layer's name is used twice");
        }
        for layer in &self.layers {
            layer.validate()?;
        }
        if let Some(settlement) = &self.settlement {
            if !is_decimal(&settlement.chain) {
                return refuse("settlement.chain", "expected a decimal number");
            }
            if !is_decimal(&settlement.price) {
                return refuse("settlement.price", "expected a decimal number");
            }
        }
        Ok(())
    }
}

impl Layer {
    fn validate(&self) -> Result<(), LaunchError> {
        let refuse = |field, reason| Err(LaunchError::Field { field, reason });
        let block_size_fits = |size: u32| size.is_power_of_two() && (512..=65536).contains(&size);
        if !is_name(&self.name) {
            return refuse("layers.name", "expected 1 to 128 letters, digits or . _ - + :");
        }
        if !block_size_fits(self.data_block_size) || !block_size_fits(self.hash_block_size) {
            return refuse("layers.block_size", "expected a power of two from 512 to 65536");
        }
        let Some(data_bytes) = self.data_blocks.checked_mul(u64::from(self.data_block_size)) else {
            return refuse("layers.data_blocks", "the size overflows");
        };
        if data_bytes == 0 || data_bytes > MAX_SAFE_INTEGER {
            return refuse("layers.data_blocks", "expected 1 byte to 8 PiB of data");
        }
        if self.hash_offset < data_bytes || self.hash_offset > MAX_SAFE_INTEGER {
            return refuse("layers.hash_offset", "the hash tree begins after the data");
        }
        if !self.hash_offset.is_multiple_of(u64::from(self.hash_block_size)) {
            return refuse("layers.hash_offset", "expected a multiple of the hash block size");
        }
        if self.salt.0.len() > MAX_SALT {
            return refuse("layers.salt", "expected at most 256 bytes");
        }
        Ok(())
    }
}

impl LaunchDigest {
    /// The digest of bytes as they were received.
    pub fn of(bytes: &[u8]) -> Self {
        Self(FixedHex(canonical::domain_hash(LAUNCH_TAG, bytes)))
    }

    pub fn mr_config_id(&self) -> Hex48 {
        let mut register = [0; 48];
        register[0] = MR_CONFIG_ID_KIND;
        register[1..33].copy_from_slice(self.0.as_bytes());
        FixedHex(register)
    }

    pub fn host_data(&self) -> Hex32 {
        self.0
    }

    /// Says which part of a measured MRCONFIGID differs.
    pub fn check_mr_config_id(&self, measured: &Hex48) -> Result<(), LaunchError> {
        if measured.is_zero() {
            return Err(LaunchError::MrConfigIdZero);
        }
        let bytes = measured.as_bytes();
        if bytes[0] != MR_CONFIG_ID_KIND || bytes[33..].iter().any(|byte| *byte != 0) {
            return Err(LaunchError::MrConfigIdForm { found: *measured });
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[1..33]);
        self.check_digest(FixedHex(digest))
    }

    pub fn check_host_data(&self, measured: &Hex32) -> Result<(), LaunchError> {
        if measured.is_zero() {
            return Err(LaunchError::HostDataZero);
        }
        self.check_digest(*measured)
    }

    fn check_digest(&self, measured: Hex32) -> Result<(), LaunchError> {
        if measured == self.0 {
            Ok(())
        } else {
            Err(LaunchError::Mismatch { configured: self.0, measured })
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b':')
        })
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 78
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

fn is_set<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

/// Fuzz entry: whatever is accepted is canonical and binds to its own MRCONFIGID only.
pub fn fuzz_launch(data: &[u8]) {
    if let Ok(configuration) = LaunchConfiguration::parse(data) {
        assert_eq!(configuration.canonical_bytes().ok().as_deref(), Some(data));
        let register = LaunchDigest::of(data).mr_config_id();
        assert!(configuration.check_against(&register).is_ok());
        assert!(configuration.check_against(&Hex48::ZERO).is_err());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> LaunchConfiguration {
        LaunchConfiguration {
            version: 1,
            release: "0.1.0".into(),
            role: Role::Worker,
            vm_mode: VmMode::PerJob,
            shape: Shape { vcpus: 2, memory_mib: 2048 },
            gpus: vec![],
            layers: vec![Layer {
                name: "training".into(),
                root: FixedHex([7; 32]),
                data_blocks: 100,
                hash_offset: 409_600,
                data_block_size: 4096,
                hash_block_size: 4096,
                hash_algorithm: HashAlgorithm::Sha256,
                salt: HexBytes(vec![1, 2]),
            }],
            devices: vec![],
            settlement: None,
            token_hash: FixedHex([9; 32]),
        }
    }

    #[test]
    fn the_bytes_are_fixed_for_ever() {
        let bytes = example().canonical_bytes().expect("canonical");
        let text = concat!(
            r#"{"devices":[],"gpus":[],"layers":[{"data_block_size":4096,"data_blocks":100,"#,
            r#""hash_algorithm":"sha256","hash_block_size":4096,"hash_offset":409600,"name":"training","#,
            r#""root":"0707070707070707070707070707070707070707070707070707070707070707","salt":"0102"}],"#,
            r#""release":"0.1.0","role":"worker","shape":{"memory_mib":2048,"vcpus":2},"#,
            r#""token_hash":"0909090909090909090909090909090909090909090909090909090909090909","#,
            r#""version":1,"vm_mode":"per-job"}"#
        );
        assert_eq!(String::from_utf8(bytes).expect("text"), text);
        assert_eq!(LaunchConfiguration::parse(text.as_bytes()).expect("parses"), example());
    }

    #[test]
    fn mr_config_id_has_kind_digest_and_zero_padding() {
        let configuration = example();
        let register = configuration.mr_config_id().expect("valid");
        assert_eq!(register.0[0], 0x53);
        assert_eq!(register.0[1..33], configuration.digest().expect("valid").0.0);
        assert_eq!(register.0[33..], [0; 15]);
        assert!(configuration.check_against(&register).is_ok());
    }

    #[test]
    fn every_difference_in_the_register_has_its_own_code() {
        let configuration = example();
        let good = configuration.mr_config_id().expect("valid");
        let flipped = |at: usize| {
            let mut bytes = good.0;
            bytes[at] ^= 1;
            configuration.check_against(&FixedHex(bytes)).expect_err("differs").entry()
        };
        assert_eq!(flipped(0), Code::LaunchForm);
        assert_eq!(flipped(1), Code::LaunchMismatch);
        assert_eq!(flipped(32), Code::LaunchMismatch);
        assert_eq!(flipped(47), Code::LaunchForm);
        let zero = configuration.check_against(&Hex48::ZERO).expect_err("zero is refused");
        assert_eq!(zero.entry(), Code::LaunchZero);
    }

    #[test]
    fn refuses_what_no_vm_can_be() {
        type Change = fn(&mut LaunchConfiguration);
        let cases: Vec<(&str, Change)> = vec![
            ("release", |c| c.release.clear()),
            ("release", |c| c.release = "a b".into()),
            ("shape.vcpus", |c| c.shape.vcpus = 0),
            ("shape.memory_mib", |c| c.shape.memory_mib = 0),
            ("gpus", |c| c.gpus = vec!["a".into(), "a".into()]),
            ("gpus", |c| {
                c.role = Role::Signer;
                c.gpus = vec!["a".into()];
            }),
            ("layers", |c| c.layers = vec![c.layers[0].clone(), c.layers[0].clone()]),
            ("layers.block_size", |c| c.layers[0].data_block_size = 4095),
            ("layers.data_blocks", |c| c.layers[0].data_blocks = 0),
            ("layers.data_blocks", |c| c.layers[0].data_blocks = u64::MAX),
            ("layers.hash_offset", |c| c.layers[0].hash_offset = 4096),
            ("layers.hash_offset", |c| c.layers[0].hash_offset = 409_601),
            ("layers.salt", |c| c.layers[0].salt = HexBytes(vec![0; 257])),
            ("devices", |c| c.devices = vec!["x".into(); 2]),
        ];
        for (expected, change) in cases {
            let mut configuration = example();
            change(&mut configuration);
            match configuration.canonical_bytes() {
                Err(LaunchError::Field { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn refuses_unknown_fields_and_versions() {
        let text = String::from_utf8(example().canonical_bytes().expect("valid")).expect("text");
        let unknown = text.replacen("{\"devices\"", "{\"debug\":true,\"devices\"", 1);
        assert!(matches!(
            LaunchConfiguration::parse(unknown.as_bytes()),
            Err(LaunchError::Parse(CanonicalError::Parse(_)))
        ));
        let newer = text.replace("\"version\":1", "\"version\":2");
        assert!(matches!(
            LaunchConfiguration::parse(newer.as_bytes()),
            Err(LaunchError::Version(2))
        ));
    }
}
