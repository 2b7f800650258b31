//! What must bind a VM to its launch configuration.

use serde::{Deserialize, Serialize};

use super::{ImageRule, PolicyError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaunchRule {
    /// The CPU, which measured its digest before the VM ran.
    Measured,
    /// The software in the VM, which a listed compose file names: dstack measures no launch configuration.
    Software,
}

impl LaunchRule {
    /// Sealtune's own images have it measured always: the weaker rule would rule nothing there.
    pub(super) fn check(self, images: ImageRule) -> Result<(), PolicyError> {
        match (self, images) {
            (Self::Software, ImageRule::Sealtune) => {
                let reason = "\"software\" means something with images = \"dstack\" only";
                Err(PolicyError::Field { field: "launch", reason })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn tolerates(self) -> Option<String> {
        let text = "launch configurations that software of a listed compose file binds";
        (self == Self::Software).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FixedHex, Policy, policy::ListedImages};

    #[test]
    fn only_a_policy_for_dstack_images_can_say_software() {
        let listed = ListedImages {
            compose_hashes: vec![FixedHex([1; 32])],
            os_images: vec![FixedHex([2; 32])],
        };
        let rule = |text: &str, listed: &ListedImages| {
            Policy::parse_with(text.as_bytes(), listed).map(|policy| policy.rules.launch)
        };
        let none = ListedImages::default();
        assert_eq!(rule("", &none), Ok(LaunchRule::Measured));
        assert_eq!(rule("images = \"dstack\"", &listed), Ok(LaunchRule::Measured));
        let both = "images = \"dstack\"\nlaunch = \"software\"";
        assert_eq!(rule(both, &listed), Ok(LaunchRule::Software));
        let refused = rule("launch = \"software\"", &none).expect_err("refused");
        assert!(matches!(refused, PolicyError::Field { field: "launch", .. }));
        assert!(rule("launch = \"any\"", &none).is_err());
        let by_name = |name| Policy::by_name(name, &none).expect("exists").expect("parses");
        for name in ["strict", "0g", "dev"] {
            assert_eq!(by_name(name).rules.launch, LaunchRule::Measured, "{name}");
        }
    }
}
