//! AMD SEV-SNP: attestation reports, AMD's certificates, launch digests, and how all of it is judged.
//!
//! Sources: AMD "SEV Secure Nested Paging Firmware ABI Specification" (56860), "Versioned Chip Endorsement Key (VCEK)
//! Certificate and KDS Interface Specification" (57230), "APM Volume 2" appendix B; EDK II's OvmfPkg for the firmware's tables.
//! `snp/README.md` has formats, limits and codes.

pub mod appraise;
pub mod certificates;
pub mod codes;
pub mod collateral;
pub mod extensions;
pub mod key_service;
pub mod launch_digest;
pub mod ovmf;
pub mod product;
pub mod report;
pub mod revocation;
pub mod roots;
pub mod rules;
mod signed_der;
mod vmsa;

pub use appraise::{SnpContext, SnpExpectation, SnpJudged, judge};
pub use certificates::{Vek, VerifiedChain, verify_chain};
pub use collateral::SnpCollateral;
pub use key_service::{Addresses, CertificateTable};
pub use launch_digest::{CpuSignature, KernelHashes, LaunchShape};
pub use ovmf::Firmware;
pub use product::{Product, Tcb, TcbVersion};
pub use report::{Report, SigningKey};
pub use revocation::{Crl, CrlNumber};
pub use roots::{Roots, SnpAnchor};
pub use rules::{Rule, SnpRules};

#[cfg(test)]
pub(crate) mod tests;
