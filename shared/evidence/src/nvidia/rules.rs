//! What a verifier accepts of GPUs. The defaults are the strict ones.

use serde::{Deserialize, Serialize};

use super::evidence::Architecture;
use crate::fixed_hex::Hex32;

/// Whether something must be there. What is there must hold either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    Required,
    /// Its absence is a warning.
    Optional,
}

/// What a certificate on hold means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldRule {
    Deny,
    Warn,
}

/// Whether OCSP responses must be younger than the question that the evidence answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OcspNonceRule {
    /// Any response that is still valid will do.
    Ignored,
    /// Each must carry the nonce that follows from the evidence's ([`super::nonce::ocsp_nonce`]), and so from that of whoever
    /// asks: nobody can have got it before. Only of evidence that is asked for now: see [`NvidiaRules::for_kept_evidence`].
    Required,
}

/// What becomes of GPUs in protected PCIe mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtectedPcieRule {
    /// Accepted as a whole machine: eight GPUs and four switches that list one another.
    Complete,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvidiaRules {
    pub rim: Presence,
    pub ocsp: Presence,
    pub hold: HoldRule,
    pub ocsp_nonce: OcspNonceRule,
    /// SHA-256 of RIM files that may be used though their certificates are out of date.
    pub pinned_rims: Vec<Hex32>,
    pub architectures: Vec<Architecture>,
    pub protected_pcie: ProtectedPcieRule,
}

impl Default for NvidiaRules {
    fn default() -> Self {
        Self {
            rim: Presence::Required,
            ocsp: Presence::Required,
            hold: HoldRule::Deny,
            ocsp_nonce: OcspNonceRule::Ignored,
            pinned_rims: vec![],
            architectures: vec![Architecture::Hopper, Architecture::Blackwell],
            protected_pcie: ProtectedPcieRule::Complete,
        }
    }
}

impl NvidiaRules {
    pub const MAX_PINNED: usize = 256;

    /// Bounds, for whoever reads rules from a file.
    pub fn is_within_bounds(&self) -> bool {
        self.pinned_rims.len() <= Self::MAX_PINNED && (1..=2).contains(&self.architectures.len())
    }

    /// For the parts of a receipt. They are of several moments, and were asked for long ago: a nonce that follows from one of
    /// them could have been asked with at any time since, so it says nothing about a response's age. Its own times do.
    pub fn for_kept_evidence(&self) -> Self {
        Self { ocsp_nonce: OcspNonceRule::Ignored, ..self.clone() }
    }

    /// What a reader must know before he relies on a verdict under these rules.
    pub fn tolerates(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.rim == Presence::Optional {
            list.push("GPUs with unknown firmware (no RIM)".to_owned());
        }
        if self.ocsp == Presence::Optional {
            list.push("GPU certificates that may be revoked (no OCSP)".to_owned());
        }
        if self.hold == HoldRule::Warn {
            list.push("GPU certificates on hold".to_owned());
        }
        for digest in &self.pinned_rims {
            list.push(format!("RIM {digest} with certificates out of date"));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_strict() {
        let rules: NvidiaRules = toml::from_str("").expect("parses");
        assert_eq!(rules, NvidiaRules::default());
        assert!(rules.tolerates().is_empty() && rules.is_within_bounds());
        assert!(toml::from_str::<NvidiaRules>("rims = \"required\"").is_err());
        let refused: NvidiaRules = toml::from_str("protected_pcie = \"refused\"").expect("parses");
        assert_eq!(refused.protected_pcie, ProtectedPcieRule::Refused);
        assert!(toml::from_str::<NvidiaRules>("protected_pcie = \"some\"").is_err());
        let lax = "rim = \"optional\"\nocsp = \"optional\"\nhold = \"warn\"";
        assert_eq!(toml::from_str::<NvidiaRules>(lax).expect("parses").tolerates().len(), 3);
    }
}
