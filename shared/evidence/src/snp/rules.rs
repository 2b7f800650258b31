//! What a verifier accepts of an SNP platform and VM. The defaults are `strict`.
//!
//! Rules choose among things that hardware vouches for. Debug mode, migration and signatures are not for rules to say.

use serde::{Deserialize, Serialize};

use super::{
    codes::Code,
    product::{Product, Tcb},
};
use crate::fixed_hex::{Hex32, Hex48};

const MAX_LIST: usize = 1024;
const MAX_CSP_ID: usize = 64;

/// How much a verifier wants something to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Without it the verdict is no.
    Required,
    /// Without it there is a warning.
    Wished,
    /// It is shown, whatever it is.
    Ignored,
}

/// The lowest TCB of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumTcb {
    pub product: Product,
    /// What the signing key was derived from.
    pub reported: Tcb,
    /// Below which the platform cannot be rolled back.
    pub committed: Tcb,
    /// Under which the VM was launched.
    pub launch: Tcb,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnpRules {
    /// From version 3 on a report says on which processor it was made.
    pub min_report_version: u32,
    /// One row a product. A product without a row is not accepted: AMD signs no statement on which TCB is good.
    pub minimum_tcb: Vec<MinimumTcb>,
    /// Lowest firmware ABI that the VM's policy may allow: major, minor.
    pub min_policy_abi: (u8, u8),
    /// Lowest committed firmware: major, minor, build.
    pub min_firmware: (u8, u8, u8),
    /// Privilege level that asked for the report; not 0 with an SVSM or paravisor below the guest.
    pub vmpl: u32,
    /// Key digests of identity blocks that may be used besides none.
    pub id_keys: Vec<Hex48>,
    pub author_keys: Vec<Hex48>,
    /// SHA-256 of the chip ids of the machines that may run; empty: any, with a warning.
    pub chips: Vec<Hex32>,
    /// Cloud providers whose VLEK may sign; empty: none, chips sign for themselves.
    pub cloud_providers: Vec<String>,
    /// AMD's revocation list.
    pub revocation_list: Rule,
    /// The VM may not share cores with other VMs.
    pub no_smt: Rule,
    /// Two addresses never lead to the same memory.
    pub alias_check: Rule,
    pub ciphertext_hiding: Rule,
    /// The report shows its chip's id.
    pub chip_id: Rule,
    /// Never holds on SNP: the host's ACPI tables are not measured.
    pub measured_acpi: Rule,
    /// Never holds on SNP: there are no run-time registers.
    pub measured_job_start: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("accept the policy: snp.{field}: {reason}")]
pub struct RulesError {
    pub field: &'static str,
    pub reason: &'static str,
}

impl RulesError {
    pub fn entry(&self) -> Code {
        Code::RulesField
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Default for SnpRules {
    fn default() -> Self {
        Self {
            min_report_version: 3,
            minimum_tcb: vec![],
            min_policy_abi: (0, 0),
            min_firmware: (0, 0, 0),
            vmpl: 0,
            id_keys: vec![],
            author_keys: vec![],
            chips: vec![],
            cloud_providers: vec![],
            revocation_list: Rule::Required,
            no_smt: Rule::Required,
            alias_check: Rule::Required,
            ciphertext_hiding: Rule::Wished,
            chip_id: Rule::Required,
            measured_acpi: Rule::Required,
            measured_job_start: Rule::Required,
        }
    }
}

impl SnpRules {
    pub fn validate(&self) -> Result<(), RulesError> {
        let refuse = |field, reason| Err(RulesError { field, reason });
        if !(2..=5).contains(&self.min_report_version) {
            return refuse("min_report_version", "expected 2 to 5");
        }
        if self.vmpl > 3 {
            return refuse("vmpl", "expected 0 to 3");
        }
        if self.minimum_tcb.len() > Product::ALL.len() {
            return refuse("minimum_tcb", "expected one row a product");
        }
        for (at, row) in self.minimum_tcb.iter().enumerate() {
            let before = self.minimum_tcb.get(..at).unwrap_or_default();
            if before.iter().any(|other| other.product == row.product) {
                return refuse("minimum_tcb", "a product twice");
            }
            let on_turin = row.product == Product::Turin;
            if [row.reported, row.committed, row.launch]
                .iter()
                .any(|tcb| tcb.fmc.is_some() != on_turin)
            {
                return refuse("minimum_tcb", "`fmc` is for turin, and turin needs it");
            }
        }
        let keys = self.id_keys.len() + self.author_keys.len();
        if keys > MAX_LIST || self.chips.len() > MAX_LIST {
            return refuse("chips, id_keys, author_keys", "expected at most 1024 digests");
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.len() <= MAX_CSP_ID
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if self.cloud_providers.len() > MAX_LIST || !self.cloud_providers.iter().all(is_name) {
            return refuse("cloud_providers", "expected at most 1024 short names");
        }
        Ok(())
    }

    pub(super) fn minimum_of(&self, product: Product) -> Option<&MinimumTcb> {
        self.minimum_tcb.iter().find(|row| row.product == product)
    }

    /// What a reader must know before he relies on a verdict under these rules.
    pub fn tolerates(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.min_report_version < 3 {
            list.push("SNP reports that do not name their processor".to_owned());
        }
        if self.vmpl != 0 {
            list.push(format!("SNP reports asked for at VMPL {}", self.vmpl));
        }
        if !self.id_keys.is_empty() || !self.author_keys.is_empty() {
            list.push("SNP identity blocks of the listed keys".to_owned());
        }
        for provider in &self.cloud_providers {
            list.push(format!("SNP reports signed with the key of {provider}"));
        }
        for (rule, text) in [
            (self.revocation_list, "SNP certificates that may be revoked"),
            (self.no_smt, "SNP VMs on cores that other VMs use"),
            (self.alias_check, "SNP platforms that may have memory aliases"),
            (self.chip_id, "SNP chips that hide their id"),
            (self.measured_acpi, "SNP VMs whose ACPI tables the host may choose"),
            (self.measured_job_start, "SNP VMs whose job start is the agent's word"),
        ] {
            if rule != Rule::Required {
                list.push(text.to_owned());
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcb(fmc: Option<u8>) -> Tcb {
        Tcb { fmc, boot_loader: 1, tee: 1, snp: 1, microcode: 1 }
    }

    fn row(product: Product, fmc: Option<u8>) -> MinimumTcb {
        MinimumTcb { product, reported: tcb(fmc), committed: tcb(fmc), launch: tcb(fmc) }
    }

    #[test]
    fn strict_tolerates_nothing_and_an_empty_file_is_strict() {
        assert_eq!(SnpRules::default().tolerates(), Vec::<String>::new());
        assert_eq!(toml::from_str::<SnpRules>("").expect("empty"), SnpRules::default());
        assert_eq!(SnpRules::default().validate(), Ok(()));
    }

    #[test]
    fn reads_a_file_and_refuses_unknown_fields() {
        let text = "no_smt = \"wished\"\nvmpl = 1\nmin_policy_abi = [1, 55]\n[[minimum_tcb]]\nproduct = \"turin\"\n\
            reported = { fmc = 1, boot_loader = 1, tee = 1, snp = 4, microcode = 68 }\n\
            committed = { fmc = 1, boot_loader = 1, tee = 1, snp = 4, microcode = 68 }\n\
            launch = { fmc = 1, boot_loader = 1, tee = 1, snp = 4, microcode = 68 }\n";
        let rules: SnpRules = toml::from_str(text).expect("rules");
        assert_eq!(rules.validate(), Ok(()));
        assert_eq!(rules.minimum_of(Product::Turin).map(|row| row.reported.microcode), Some(68));
        assert_eq!(rules.min_policy_abi, (1, 55));
        assert_eq!(rules.tolerates().len(), 2);
        for other in ["debug = true", "migration = \"ignored\"", "no_smt = \"never\"", "roots = []"]
        {
            assert!(toml::from_str::<SnpRules>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn refuses_values_out_of_their_limits() {
        let strict = SnpRules::default;
        for rules in [
            SnpRules { min_report_version: 1, ..strict() },
            SnpRules { min_report_version: 6, ..strict() },
            SnpRules { vmpl: 4, ..strict() },
            SnpRules { minimum_tcb: vec![row(Product::Milan, None); 2], ..strict() },
            SnpRules { minimum_tcb: vec![row(Product::Milan, Some(1))], ..strict() },
            SnpRules { minimum_tcb: vec![row(Product::Turin, None)], ..strict() },
            SnpRules { cloud_providers: vec![String::new()], ..strict() },
            SnpRules { chips: vec![Hex32::ZERO; MAX_LIST + 1], ..strict() },
        ] {
            assert_eq!(rules.validate().map_err(|error| error.entry()), Err(Code::RulesField));
        }
    }
}
