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
    /// The same, of images alone whose release manifest states that the kernel keeps the code in such tables away from private
    /// memory.
    LayoutFreeConfined,
}

impl Rtmr0Rule {
    pub(super) fn tolerates(self) -> Option<String> {
        match self {
            Self::Full => None,
            Self::LayoutFree => Some("ACPI tables of the host's choice".to_owned()),
            Self::LayoutFreeConfined => {
                let text = "ACPI tables of the host's choice, where a release states that its kernel confines their code";
                Some(text.to_owned())
            }
        }
    }

    /// Whether digests that depend on the host's machine alone may differ from the release's.
    pub(crate) fn frees_layout(self) -> bool {
        matches!(self, Self::LayoutFree | Self::LayoutFreeConfined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, policy::ListedImages};

    #[test]
    fn the_host_is_left_nothing_unless_a_file_says_so() {
        let rule = |text: &str| Policy::parse(text.as_bytes()).map(|policy| policy.rules.rtmr0);
        assert_eq!(rule("rtmr0 = \"layout-free\""), Ok(Rtmr0Rule::LayoutFree));
        assert_eq!(rule("rtmr0 = \"layout-free-confined\""), Ok(Rtmr0Rule::LayoutFreeConfined));
        assert!(rule("rtmr0 = \"any\"").is_err());
        for name in ["strict", "0g"] {
            let policy = Policy::by_name(name, &ListedImages::default()).expect("exists");
            let rule = policy.expect("parses").rules.rtmr0;
            assert!(!rule.frees_layout() && rule.tolerates().is_none(), "{name}");
        }
        for rule in [Rtmr0Rule::LayoutFree, Rtmr0Rule::LayoutFreeConfined] {
            assert!(rule.frees_layout() && rule.tolerates().is_some_and(|it| it.contains("ACPI")));
        }
    }
}
