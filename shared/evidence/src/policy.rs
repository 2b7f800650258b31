//! What a verifier accepts, as a TOML file. An empty file is `strict`; the ready-made policies have names.
//!
//! A policy chooses among things that hardware vouches for. It cannot admit a simulated root, the dev profile or a debug
//! VM: those need `--simulated-root` on the command line, so that "use our policy file" is never enough.

mod launch_rule;
mod listed;
mod rtmr0_rule;

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    fixed_hex::{FixedHex, Hex32},
    launch::VmMode,
    nvidia::NvidiaRules,
    snp::{SnpRules, rules::RulesError},
    verdict::PolicyIdentity,
};

pub use launch_rule::LaunchRule;
pub use listed::ListedImages;
pub use rtmr0_rule::Rtmr0Rule;

pub const MAX_POLICY_BYTES: usize = 64 * 1024;
const MAX_LIST: usize = 1024;

/// The default; the same as an empty file.
pub const STRICT: &str = include_str!("strict.toml");
/// Ready-made policies by name.
const READY_MADE: [(&str, &str); 4] = [
    ("strict", STRICT),
    ("dstack", include_str!("policies/dstack.toml")),
    ("0g", include_str!("policies/0g.toml")),
    ("dev", include_str!("policies/dev.toml")),
];

/// TCB statuses that may be allowed; `Revoked` never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TcbStatus {
    UpToDate,
    SWHardeningNeeded,
    ConfigurationNeeded,
    ConfigurationAndSWHardeningNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
    TDRelaunchAdvised,
    TDRelaunchAdvisedConfigurationNeeded,
}

/// What is asked of GPUs that the launch configuration lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuRule {
    /// Their evidence must verify.
    Verified,
    /// Their evidence must be bound to the VM; whether it is genuine is left to somebody else.
    Unverified,
}

/// Whose guest images may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageRule {
    /// Sealtune's: the CPU measures the launch configuration, reference values say the rest.
    Sealtune,
    /// dstack's, with a listed OS image and a listed compose file, both measured into RTMR3.
    Dstack,
}

/// The only profile that a policy can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequiredProfile {
    Prod,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRules {
    pub version: u32,
    pub name: String,
    /// Releases that may run; empty: the one that the reference values describe.
    pub releases: Vec<String>,
    pub require_profile: RequiredProfile,
    pub vm_modes: Vec<VmMode>,
    pub tcb_statuses: Vec<TcbStatus>,
    pub allow_advisories: Vec<String>,
    pub min_evaluation_number: u32,
    /// SHA-256 of the PPIDs of the machines that may run; empty: any, with a warning.
    pub platforms: Vec<Hex32>,
    pub gpu: GpuRule,
    /// What is asked of SEV-SNP platforms.
    pub snp: SnpRules,
    /// What is asked of GPUs whose evidence must verify.
    pub nvidia: NvidiaRules,
    pub rtmr0: Rtmr0Rule,
    pub images: ImageRule,
    pub launch: LaunchRule,
    /// SHA-256 of the compose files that may run in dstack images.
    pub compose_hashes: Vec<Hex32>,
    /// Digests of the dstack OS images that may run (`digest.txt`).
    pub os_images: Vec<Hex32>,
}

/// Rules and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub rules: PolicyRules,
    pub digest: Hex32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("read the policy: {0}")]
    Parse(String),
    #[error("accept the policy: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
    #[error("accept the policy: `{0}` is not for a policy file to say")]
    Simulated(String),
    #[error(transparent)]
    Snp(#[from] RulesError),
    #[error("accept the policy `{name}`: it lists no {missing}, so nothing could run")]
    NothingListed { name: String, missing: &'static str },
}

impl PolicyError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Parse(_) => Code::PolicyUnreadable,
            Self::Field { .. } | Self::NothingListed { .. } => Code::PolicyField,
            Self::Simulated(_) => Code::PolicySimulated,
            Self::Snp(_) => Code::PolicyField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Default for PolicyRules {
    fn default() -> Self {
        Self {
            version: 1,
            name: "strict".to_owned(),
            releases: vec![],
            require_profile: RequiredProfile::Prod,
            vm_modes: vec![VmMode::PerJob],
            tcb_statuses: vec![TcbStatus::UpToDate],
            allow_advisories: vec![],
            min_evaluation_number: 0,
            platforms: vec![],
            gpu: GpuRule::Verified,
            snp: SnpRules::default(),
            nvidia: NvidiaRules::default(),
            rtmr0: Rtmr0Rule::Full,
            images: ImageRule::Sealtune,
            launch: LaunchRule::Measured,
            compose_hashes: vec![],
            os_images: vec![],
        }
    }
}

impl TcbStatus {
    /// As Intel's collateral and `dcap-qvl` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TDRelaunchAdvised => "TDRelaunchAdvised",
            Self::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
        }
    }
}

impl Policy {
    pub fn strict() -> Self {
        Self { rules: PolicyRules::default(), digest: sha256(STRICT.as_bytes()) }
    }

    /// Names that [`Self::by_name`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        READY_MADE.iter().map(|(name, _)| *name)
    }

    /// A ready-made policy, with what the user lists; `None` if there is none of this name.
    pub fn by_name(name: &str, listed: &ListedImages) -> Option<Result<Self, PolicyError>> {
        let (_, text) = READY_MADE.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse_with(text.as_bytes(), listed))
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        Self::parse_with(bytes, &ListedImages::default())
    }

    /// Reads a policy file and adds what the user lists besides; the digest is over both.
    pub fn parse_with(bytes: &[u8], listed: &ListedImages) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::Field { field: "file", reason: "longer than 64 KiB" });
        }
        let text = str::from_utf8(bytes).map_err(|error| PolicyError::Parse(error.to_string()))?;
        refuse_what_no_policy_may_say(text)?;
        let mut rules: PolicyRules =
            toml::from_str(text).map_err(|error| PolicyError::Parse(error.message().to_owned()))?;
        rules.compose_hashes.extend(&listed.compose_hashes);
        rules.os_images.extend(&listed.os_images);
        rules.validate()?;
        Ok(Self { rules, digest: listed.digest_with(bytes) })
    }

    pub fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: self.rules.name.clone(),
            digest: self.digest.to_string(),
            tolerates: self.rules.tolerates(),
        }
    }
}

impl PolicyRules {
    fn validate(&self) -> Result<(), PolicyError> {
        let refuse = |field, reason| Err(PolicyError::Field { field, reason });
        let short = |text: &String| {
            !text.is_empty()
                && text.len() <= 128
                && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        };
        if self.version != 1 {
            return refuse("version", "this program knows version 1");
        }
        if !short(&self.name) {
            return refuse("name", "expected a short name");
        }
        if self.releases.len() > MAX_LIST || !self.releases.iter().all(short) {
            return refuse("releases", "expected at most 1024 short names");
        }
        if self.vm_modes.is_empty() || self.vm_modes.len() > 2 {
            return refuse("vm_modes", "expected one or two modes");
        }
        if self.tcb_statuses.is_empty() || self.tcb_statuses.len() > 8 {
            return refuse("tcb_statuses", "expected one to eight statuses");
        }
        if self.allow_advisories.len() > MAX_LIST || !self.allow_advisories.iter().all(short) {
            return refuse("allow_advisories", "expected at most 1024 names");
        }
        if self.platforms.len() > MAX_LIST {
            return refuse("platforms", "expected at most 1024 digests");
        }
        self.snp.validate()?;
        if !self.nvidia.is_within_bounds() {
            return refuse("nvidia", "expected at most 256 digests, and one or two architectures");
        }
        self.validate_images()
    }

    /// An empty list of what may run is a mistake, not a rule.
    fn validate_images(&self) -> Result<(), PolicyError> {
        self.launch.check(self.images)?;
        for (missing, list) in
            [("compose_hashes", &self.compose_hashes), ("os_images", &self.os_images)]
        {
            if list.len() > MAX_LIST || list.iter().any(FixedHex::is_zero) {
                let reason = "expected at most 1024 digests, none of them zero";
                return Err(PolicyError::Field { field: missing, reason });
            }
            match self.images {
                ImageRule::Dstack if list.is_empty() => {
                    return Err(PolicyError::NothingListed { name: self.name.clone(), missing });
                }
                ImageRule::Sealtune if !list.is_empty() => {
                    let reason = "it means something with images = \"dstack\" only";
                    return Err(PolicyError::Field { field: missing, reason });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What a reader must know before he relies on a verdict under these rules.
    pub fn tolerates(&self) -> Vec<String> {
        let mut list = Vec::new();
        for status in &self.tcb_statuses {
            if *status != TcbStatus::UpToDate {
                list.push(format!("TCB status {}", status.as_str()));
            }
        }
        for advisory in &self.allow_advisories {
            list.push(format!("advisory {advisory}"));
        }
        if self.vm_modes.contains(&VmMode::Shared) {
            list.push("VMs that several jobs share".to_owned());
        }
        if self.gpu == GpuRule::Unverified {
            list.push("GPUs whose evidence nobody verified".to_owned());
        }
        list.extend(self.rtmr0.tolerates());
        if self.images == ImageRule::Dstack {
            list.push("dstack images, whose launch the CPU does not measure".to_owned());
        }
        list.extend(self.launch.tolerates());
        if self.platforms.is_empty() {
            list.push("any machine (no platform is pinned)".to_owned());
        }
        list.extend(self.snp.tolerates());
        list.extend(self.nvidia.tolerates());
        list
    }
}

/// A clear answer for what would be an unknown field or value anyway.
fn refuse_what_no_policy_may_say(text: &str) -> Result<(), PolicyError> {
    let Ok(table) = text.parse::<toml::Table>() else { return Ok(()) };
    for (key, value) in &table {
        let lower = key.to_ascii_lowercase();
        let names_it = ["simulat", "debug", "root", "anchor"].iter().any(|w| lower.contains(w));
        let asks_for_dev = lower.contains("profile") && value.as_str() != Some("prod");
        if names_it || asks_for_dev {
            return Err(PolicyError::Simulated(key.chars().take(64).collect()));
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> Hex32 {
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    FixedHex(value)
}

/// Fuzz entry: whatever is accepted is within its limits and never allows a revoked platform.
pub fn fuzz_policy(data: &[u8]) {
    if let Ok(policy) = Policy::parse(data) {
        assert!(policy.rules.validate().is_ok());
        assert_eq!(policy.rules.require_profile, RequiredProfile::Prod);
        assert!(policy.rules.tcb_statuses.iter().all(|status| status.as_str() != "Revoked"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_made_policy_says_what_the_defaults_are() {
        assert_eq!(Policy::parse(STRICT.as_bytes()), Ok(Policy::strict()));
        let empty = Policy::parse(b"").expect("an empty file is strict");
        assert_eq!(empty.rules, PolicyRules::default());
    }

    #[test]
    fn no_policy_file_admits_simulation_the_dev_profile_or_debug() {
        for text in [
            "simulated_root = \"root.der\"",
            "simulated_roots = []",
            "allow_simulated = true",
            "allow_debug = true",
            "debug = true",
            "anchors = [\"simulated\"]",
            "root_ca = \"x\"",
            "require_profile = \"dev\"",
            "profile = \"dev\"",
            "profiles = [\"prod\", \"dev\"]",
        ] {
            let error = Policy::parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.entry(), Code::PolicySimulated, "{text}");
        }
    }

    #[test]
    fn refuses_unknown_fields_and_values() {
        for (text, code) in [
            ("releasess = []", Code::PolicyUnreadable),
            ("tcb_statuses = [\"Revoked\"]", Code::PolicyUnreadable),
            ("tcb_statuses = []", Code::PolicyField),
            ("vm_modes = []", Code::PolicyField),
            ("version = 2", Code::PolicyField),
            ("platforms = [\"00\"]", Code::PolicyUnreadable),
            ("gpu = \"none\"", Code::PolicyUnreadable),
            ("name = \"\"", Code::PolicyField),
            ("name = ", Code::PolicyUnreadable),
            ("images = \"any\"", Code::PolicyUnreadable),
            ("compose_hashes = [\"00\"]", Code::PolicyUnreadable),
        ] {
            assert_eq!(Policy::parse(text.as_bytes()).expect_err(text).entry(), code, "{text}");
        }
    }

    fn listed() -> ListedImages {
        ListedImages { compose_hashes: vec![FixedHex([1; 32])], os_images: vec![FixedHex([2; 32])] }
    }

    fn ready_made(name: &str) -> Policy {
        let listed = if name == "dstack" { listed() } else { ListedImages::default() };
        Policy::by_name(name, &listed).expect("there is one").expect("it parses")
    }

    #[test]
    fn ready_made_policies_have_their_names_and_say_what_they_tolerate() {
        assert_eq!(ready_made("strict"), Policy::strict());
        let tolerates = |name| ready_made(name).identity().tolerates;
        let any_machine = "any machine (no platform is pinned)";
        assert_eq!(tolerates("strict"), [any_machine]);
        let [images, launch, rest] = tolerates("dstack").try_into().expect("three");
        assert!(images.starts_with("dstack images") && launch.starts_with("launch conf"));
        assert_eq!(rest, any_machine);
        assert_eq!(tolerates("0g"), ["VMs that several jobs share", any_machine]);
        let dev = tolerates("dev");
        assert_eq!(dev.iter().filter(|text| text.starts_with("TCB status")).count(), 7);
        assert!(dev.iter().any(|text| text == "advisory INTEL-SA-01036"));
        for name in Policy::names() {
            let policy = ready_made(name);
            assert_eq!(policy.rules.name, name);
            assert_eq!(policy.rules.require_profile, RequiredProfile::Prod);
            assert_eq!(policy.rules.gpu, GpuRule::Verified, "{name}");
        }
        assert_eq!(Policy::by_name("lax", &ListedImages::default()), None);
    }

    #[test]
    fn an_empty_list_of_what_may_run_is_an_error() {
        for (listed, missing) in [
            (ListedImages::default(), "compose_hashes"),
            (ListedImages { compose_hashes: vec![], ..listed() }, "compose_hashes"),
            (ListedImages { os_images: vec![], ..listed() }, "os_images"),
        ] {
            let error = Policy::by_name("dstack", &listed).expect("exists").expect_err(missing);
            assert_eq!(error, PolicyError::NothingListed { name: "dstack".into(), missing });
            assert_eq!(error.entry(), Code::PolicyField);
        }
        let error = Policy::parse(b"images = \"dstack\"").expect_err("also from a file");
        assert!(matches!(error, PolicyError::NothingListed { .. }));
        let zero = ListedImages { os_images: vec![Hex32::ZERO], ..listed() };
        assert!(Policy::by_name("dstack", &zero).expect("exists").is_err());
        // Lists that nothing reads must not look as if they ruled.
        for name in ["strict", "0g", "dev"] {
            assert!(Policy::by_name(name, &listed()).expect("exists").is_err(), "{name}");
        }
    }

    #[test]
    fn what_the_user_lists_is_in_the_digest() {
        let one = ready_made("dstack");
        let mut other = listed();
        other.os_images.push(FixedHex([3; 32]));
        let other = Policy::by_name("dstack", &other).expect("exists").expect("parses");
        assert_ne!(one.digest, other.digest);
        assert_eq!(other.rules.os_images.len(), 2);
        assert_eq!(one.digest, ready_made("dstack").digest);
    }

    #[test]
    fn says_what_it_tolerates() {
        let text =
            "name = \"lab\"\ntcb_statuses = [\"UpToDate\", \"OutOfDate\"]\ngpu = \"unverified\"";
        let tolerates = Policy::parse(text.as_bytes()).expect("a policy").identity().tolerates;
        assert_eq!(
            tolerates,
            [
                "TCB status OutOfDate",
                "GPUs whose evidence nobody verified",
                "any machine (no platform is pinned)"
            ]
        );
    }
}
