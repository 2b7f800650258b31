//! One switch's evidence, as a verifier reads it (`sealtune-evidence`, module `nvidia`), from what the library gave. Canonical
//! JSON, like a GPU's.

use serde::Serialize;

use crate::{
    evidence::{base64, pem},
    failure::Failure,
    library::Filled,
    switch_library::LS10,
    transcript,
};

const VERSION: u32 = 1;
/// The field of a switch's opaque data that has its BIOS version, as text.
const BIOS_VERSION: u16 = 6;
const MAX_BIOS_VERSION: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SwitchEvidence {
    architecture: SwitchArchitecture,
    bios_version: String,
    #[serde(serialize_with = "base64")]
    certificates: Vec<u8>,
    device: String,
    #[serde(serialize_with = "base64")]
    transcript: Vec<u8>,
    version: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum SwitchArchitecture {
    Ls10,
}

/// What the driver says of a switch. It is no part of the evidence: the switch signs whether it is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SwitchMode {
    /// Set up for protected PCIe, and the driver does not know whether it is locked.
    Unknown,
    /// Not locked yet: its routes may still be changed.
    Enabled,
    /// It could not be locked.
    Failed,
    Locked,
}

/// What the library gave of one switch, as it gave it.
#[derive(Debug, Clone)]
pub(crate) struct RawSwitch {
    pub(crate) architecture: i8,
    pub(crate) report: Filled,
    pub(crate) certificates: Filled,
}

impl SwitchEvidence {
    pub(crate) fn of(raw: &RawSwitch, device: &str, challenge: &[u8; 32]) -> Result<Self, Failure> {
        if raw.architecture != LS10 {
            return Err(Failure::SwitchArchitecture(raw.architecture));
        }
        let transcript = transcript::cut(&raw.report, challenge)?;
        Ok(Self {
            architecture: SwitchArchitecture::Ls10,
            bios_version: bios_version(&transcript).ok_or(Failure::SwitchBios)?,
            certificates: pem(&raw.certificates)?,
            device: device.to_owned(),
            transcript,
            version: VERSION,
        })
    }
}

impl SwitchMode {
    /// A switch that is not in this mode at all has no evidence.
    pub(crate) fn of(number: i8) -> Result<Self, Failure> {
        match number {
            -1 => Ok(Self::Unknown),
            0 => Err(Failure::SwitchModeOff),
            1 => Ok(Self::Enabled),
            2 => Ok(Self::Failed),
            3 => Ok(Self::Locked),
            other => Err(Failure::SwitchMode(other)),
        }
    }
}

/// As the switch signs it; no driver is asked for it, in NVIDIA's tools neither.
fn bios_version(transcript: &[u8]) -> Option<String> {
    let field = transcript::opaque_field(transcript, BIOS_VERSION)?;
    let end = field.iter().rposition(|byte| *byte != 0)?.checked_add(1)?;
    let text = field.get(..end).filter(|text| text.len() <= MAX_BIOS_VERSION)?;
    let is_version =
        text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    String::from_utf8(text.to_vec()).ok().filter(|_| is_version)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::simulated::CHAIN;
    use crate::simulated_switches::{self, BIOS, report_with};

    const CHALLENGE: [u8; 32] = [7; 32];

    /// The whole text, written out: what a verifier of any release must read.
    #[test]
    fn the_text_is_the_documented_one() {
        let evidence =
            SwitchEvidence::of(&simulated_switches::raw(&CHALLENGE), "s0", &CHALLENGE).unwrap();
        let expected = format!(
            concat!(
                r#"{{"architecture":"ls10","bios_version":"96.10.73.00.01","certificates":"{}","#,
                r#""device":"s0","transcript":"{}","version":1}}"#,
            ),
            STANDARD.encode(CHAIN),
            STANDARD.encode(report_with(&CHALLENGE, BIOS)),
        );
        assert_eq!(serde_json::to_string(&evidence).unwrap(), expected);
    }

    #[test]
    fn modes_have_their_words_and_unknown_ones_are_refused() {
        for (number, word) in [(-1, "unknown"), (1, "enabled"), (2, "failed"), (3, "locked")] {
            let mode = SwitchMode::of(number).unwrap();
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{word}\""));
        }
        for (number, code) in [
            (0, "ST-GPUE-69"),
            (4, "ST-GPUE-68"),
            (-2, "ST-GPUE-68"),
            (i8::MIN, "ST-GPUE-68"),
            (i8::MAX, "ST-GPUE-68"),
        ] {
            assert_eq!(SwitchMode::of(number).unwrap_err().code().as_str(), code, "{number}");
        }
    }

    #[test]
    fn the_bios_version_is_the_reports_own() {
        let version = |field: &[u8]| bios_version(&report_with(&CHALLENGE, field));
        assert_eq!(version(b"96.10.73.00.01"), Some("96.10.73.00.01".into()));
        assert_eq!(version(b"96.10.73.00.01\0\0"), Some("96.10.73.00.01".into()));
        let long = [b'9'; MAX_BIOS_VERSION + 1];
        for none in [&b""[..], b"\0", b"96.10\0.73", b"96 10", b"96\"10", b"\xc3\xa9", &long] {
            assert_eq!(version(none), None, "{none:?}");
        }
        let report = report_with(&CHALLENGE, BIOS);
        for length in 0..report.len() {
            bios_version(&report[..length]);
        }
    }

    #[test]
    fn every_part_counts() {
        let good = simulated_switches::raw(&CHALLENGE);
        let code = |raw: &RawSwitch| {
            SwitchEvidence::of(raw, "s0", &CHALLENGE).unwrap_err().code().as_str()
        };
        for architecture in [-1, 0, 1, 3] {
            assert_eq!(code(&RawSwitch { architecture, ..good.clone() }), "ST-GPUE-67");
        }
        let mut other = good.clone();
        other.report.buffer[10] ^= 1;
        assert_eq!(code(&other), "ST-GPUE-43");
        let mut long = good.clone();
        long.report.length = 8193;
        assert_eq!(code(&long), "ST-GPUE-40");
        let mut empty = good.clone();
        empty.certificates.length = 0;
        assert_eq!(code(&empty), "ST-GPUE-45");
        let mut long = good;
        long.certificates.length = 5121;
        assert_eq!(code(&long), "ST-GPUE-44");
    }
}
