//! The key `rtmr0`.

use serde::{Deserialize, Serialize};

/// What RTMR0 must be. The host's ACPI tables are measured there, and hold code for the guest's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rtmr0Rule {
    /// A reference value, in full.
    Full,
    /// The right number, types and order of events; the digests of memory list and ACPI tables are left to the host.
    LayoutFree,
}

impl Rtmr0Rule {
    pub(super) fn tolerates(self) -> Option<String> {
        match self {
            Self::Full => None,
            Self::LayoutFree => Some("ACPI tables of the host's choice".to_owned()),
        }
    }
}
