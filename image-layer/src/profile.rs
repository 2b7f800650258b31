//! What a profile fixes: the kernel command line and what may be in the initramfs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `prod` for customers, `dev` for laptops and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    Dev,
    Prod,
}

/// The release that this builder makes; also the version in `metadata.json`.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

// One line per release and profile, for ever: RTMR2 is compared as a whole register.
// `no_timer_check`: on a busy host an emulated timer may be too late for the kernel's test of it, which then panics. KVM
// guests leave that test out by themselves.
const DEV_LINE: &str = "console=ttyS0 sealtune.profile=dev ia32_emulation=0 no-kvmclock tsc=reliable \
                        random.trust_bootloader=off panic=-1 oops=panic no_timer_check loglevel=4";
const PROD_LINE: &str = "sealtune.profile=prod ia32_emulation=0 no-kvmclock tsc=reliable \
                         random.trust_bootloader=off panic=-1 oops=panic loglevel=0";

impl Profile {
    #[must_use]
    pub fn command_line(self) -> &'static str {
        match self {
            Self::Dev => DEV_LINE,
            Self::Prod => PROD_LINE,
        }
    }
}

impl From<Profile> for sealtune_evidence::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Dev => Self::Dev,
            Profile::Prod => Self::Prod,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dev => "dev",
            Self::Prod => "prod",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn the_lines_of_this_release() {
        assert_eq!(
            Profile::Dev.command_line(),
            "console=ttyS0 sealtune.profile=dev ia32_emulation=0 no-kvmclock tsc=reliable random.trust_bootloader=off panic=-1 oops=panic no_timer_check loglevel=4"
        );
        assert_eq!(
            Profile::Prod.command_line(),
            "sealtune.profile=prod ia32_emulation=0 no-kvmclock tsc=reliable random.trust_bootloader=off panic=-1 oops=panic loglevel=0"
        );
    }
}
