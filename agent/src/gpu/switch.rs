//! The VM's NVSwitches: how many there are, what they are called, and what must hold before their evidence counts as theirs.
//! Pure, but for a look whether the layer has the library.
//!
//! The host's configuration does not list switches, so they are counted: on the PCI bus, by the library (it must have as many
//! as names were asked for), in the evidence. Which of them is at which address is not asked; a verifier knows a switch by
//! what it signs, and which GPUs it is linked to.

use std::path::Path;

use sealtune_evidence::nvidia::DeviceEvidence;
use serde::Deserialize;

use super::check::{CheckError, piece};
use super::protocol::SwitchAnswer;
use super::{DriverWord, NamedGpu, TakenEvidence};

/// The helper takes no more; all evidence of sixteen GPUs and these fits into one frame.
const MOST: usize = 8;
const NAME: &str = "nvswitch";
/// As the helper looks for it.
const LIBRARIES: [&str; 2] =
    ["usr/lib/x86_64-linux-gnu/libnvidia-nscq.so.2", "usr/lib/x86_64-linux-gnu/libnvidia-nscq.so"];

/// What the driver says of a switch, through the helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SwitchMode {
    Unknown,
    /// Set up for protected PCIe, not locked.
    Enabled,
    Failed,
    Locked,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SwitchError {
    #[error("take evidence of {0} NVSwitches: the nvidia layer has no library for them")]
    NoLibrary(usize),
    #[error("make a machine of {switches} NVSwitches and {gpus} GPUs")]
    Parts { switches: usize, gpus: usize },
    #[error("name the NVSwitches: the launch configuration calls a GPU {0}")]
    NameTaken(String),
    #[error("match the NVSwitches' evidence: {found} pieces for {present} switches")]
    EvidenceCount { found: usize, present: usize },
    #[error(
        "match the NVSwitches' evidence: there are not the names that were asked for, each once"
    )]
    Names,
    #[error("set the GPUs ready: {name} is not locked")]
    Unlocked { name: String },
}

/// Names for as many switches as are on the bus, other than the GPUs'.
pub(super) fn names(present: usize, gpus: &[NamedGpu]) -> Result<Vec<String>, SwitchError> {
    if present > MOST || (present > 0 && gpus.is_empty()) {
        return Err(SwitchError::Parts { switches: present, gpus: gpus.len() });
    }
    let names: Vec<String> = (0..present).map(|number| format!("{NAME}{number}")).collect();
    match gpus.iter().find(|gpu| names.contains(&gpu.name)) {
        Some(gpu) => Err(SwitchError::NameTaken(gpu.name.clone())),
        None => Ok(names),
    }
}

/// Said at the launch, where a provider looks, and not at the first evidence.
pub(super) fn look_for_library(layer: &Path, switches: usize) -> Result<(), SwitchError> {
    let is_there = LIBRARIES.iter().any(|library| layer.join(library).exists());
    if switches > 0 && !is_there { Err(SwitchError::NoLibrary(switches)) } else { Ok(()) }
}

/// One piece of evidence for each switch, under its own name, in the order of the names.
pub(super) fn evidence(
    names: &[String],
    challenge: &[u8; 32],
    answers: Vec<SwitchAnswer>,
) -> Result<Vec<TakenEvidence>, super::GpuError> {
    if answers.len() != names.len() {
        let (found, present) = (answers.len(), names.len());
        return Err(SwitchError::EvidenceCount { found, present }.into());
    }
    let mut taken = Vec::with_capacity(names.len());
    for name in names {
        let mut own = answers.iter().filter(|answer| answer.name == *name);
        let (Some(answer), None) = (own.next(), own.next()) else {
            return Err(SwitchError::Names.into());
        };
        let (document, bytes) =
            piece(name, challenge, answer.evidence.as_deref(), answer.error.as_ref())?;
        let (DeviceEvidence::Switch(_), Some(mode)) = (document, answer.mode) else {
            let reason = "it is none of a switch, or without its mode";
            return Err(CheckError::Evidence { name: name.clone(), reason }.into());
        };
        taken.push(TakenEvidence { device: name.clone(), bytes, word: DriverWord::Switch(mode) });
    }
    Ok(taken)
}

/// Before GPUs may take work: what they say to each other crosses every switch. The lock is asked of the driver; that it is
/// true the switch signs, and verifiers look.
pub(super) fn may_carry<'a>(
    switches: impl Iterator<Item = (&'a str, SwitchMode)>,
) -> Result<(), SwitchError> {
    for (name, mode) in switches {
        match mode {
            SwitchMode::Locked => {}
            SwitchMode::Unknown | SwitchMode::Enabled | SwitchMode::Failed => {
                return Err(SwitchError::Unlocked { name: name.to_owned() });
            }
        }
    }
    Ok(())
}

impl SwitchError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoLibrary(_) => "ST-AGPU-05",
            Self::EvidenceCount { .. } => "ST-AGPU-29",
            Self::Names => "ST-AGPU-30",
            Self::Unlocked { .. } => "ST-AGPU-31",
            Self::Parts { .. } => "ST-AGPU-33",
            Self::NameTaken(_) => "ST-AGPU-34",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::NoLibrary(_) => {
                "put libnvidia-nscq.so.2 of the driver's release into the nvidia layer; or give each VM a single GPU, without switches"
            }
            Self::EvidenceCount { .. } | Self::Names => {
                "run agent and nvidia layer of the same release"
            }
            Self::Unlocked { .. } => {
                "run the driver's Fabric Manager in the VM, which locks the switches; see the kernel log"
            }
            Self::Parts { .. } => "give the VM a whole machine, GPUs and switches, or no switches",
            Self::NameTaken(_) => "call GPUs otherwise than nvswitch0 to nvswitch7",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        vec![
            Self::NoLibrary(4),
            Self::EvidenceCount { found: 1, present: 4 },
            Self::Names,
            Self::Unlocked { name: "x".into() },
            Self::Parts { switches: 4, gpus: 0 },
            Self::NameTaken("x".into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::PciAddress;
    use crate::gpu::protocol::{Answer, Said};
    use crate::gpu::sample::{document, switch_document};

    const CHALLENGE: [u8; 32] = [7; 32];

    fn gpu(name: &str) -> NamedGpu {
        let address = PciAddress::parse("0000:01:00.0").unwrap();
        NamedGpu { address, name: name.into() }
    }

    #[test]
    fn switches_are_counted_beside_gpus() {
        let code = |present, gpus: &[NamedGpu]| {
            names(present, gpus).map(|names| names.len()).map_err(|error| error.code())
        };
        assert_eq!(code(0, &[]), Ok(0));
        assert_eq!(code(0, &[gpu("nvswitch0")]), Ok(0));
        assert_eq!(code(4, &[gpu("gpu0")]), Ok(4));
        assert_eq!(code(8, &[gpu("gpu0")]), Ok(8));
        assert_eq!(code(9, &[gpu("gpu0")]), Err("ST-AGPU-33"));
        assert_eq!(code(4, &[]), Err("ST-AGPU-33"));
        assert_eq!(code(4, &[gpu("gpu0"), gpu("nvswitch3")]), Err("ST-AGPU-34"));
        assert_eq!(code(3, &[gpu("nvswitch3")]), Ok(3));
        assert_eq!(names(2, &[gpu("a")]).unwrap(), ["nvswitch0", "nvswitch1"]);
    }

    fn answered(pieces: &[String]) -> Result<Vec<TakenEvidence>, &'static str> {
        let text = format!(r#"{{"switches":[{}],"version":1}}"#, pieces.join(","));
        let Ok(Said::Switches(answers)) = Answer::parse(text.as_bytes()) else {
            panic!("{text}");
        };
        let names = names(2, &[gpu("gpu0")]).unwrap();
        evidence(&names, &CHALLENGE, answers).map_err(|error| error.code())
    }

    fn answer(name: &str, document: &str) -> String {
        serde_json::json!({ "name": name, "mode": "locked", "evidence": document }).to_string()
    }

    #[test]
    fn evidence_comes_back_in_the_order_of_the_names() {
        let own = |name: &str| answer(name, &switch_document(name, &CHALLENGE));
        let taken = answered(&[own("nvswitch1"), own("nvswitch0")]).unwrap();
        let devices: Vec<&str> = taken.iter().map(|one| one.device.as_str()).collect();
        assert_eq!(devices, ["nvswitch0", "nvswitch1"]);
        assert_eq!(taken[0].bytes, switch_document("nvswitch0", &CHALLENGE).as_bytes());
    }

    #[test]
    fn each_disagreement_has_its_code() {
        let text = switch_document("nvswitch0", &CHALLENGE);
        let good = answer("nvswitch0", &text);
        let other = answer("nvswitch1", &switch_document("nvswitch1", &CHALLENGE));
        let refused =
            r#"{"name":"nvswitch0","error":{"code":"ST-GPUE-69","detail":"d","fix":"f"}}"#;
        for (first, code) in [
            (answer("nvswitch1", &text), "ST-AGPU-30"),
            (answer("gpu0", &text), "ST-AGPU-30"),
            (answer("", &text), "ST-AGPU-30"),
            (refused.to_owned(), "ST-AGPU-23"),
            (answer("nvswitch0", ""), "ST-AGPU-24"),
            (answer("nvswitch0", &text.replace("ls10", "lr10")), "ST-AGPU-24"),
            (answer("nvswitch0", &text.replace('}', r#","more":1}"#)), "ST-AGPU-24"),
            // A GPU's document in a switch's place.
            (answer("nvswitch0", &document("nvswitch0", &CHALLENGE)), "ST-AGPU-24"),
            (answer("nvswitch0", &switch_document("nvswitch1", &CHALLENGE)), "ST-AGPU-25"),
            (answer("nvswitch0", &switch_document("nvswitch0", &[8; 32])), "ST-AGPU-26"),
        ] {
            assert_eq!(answered(&[first, other.clone()]), Err(code));
        }
        assert_eq!(answered(&[]), Err("ST-AGPU-29"));
        assert_eq!(answered(std::slice::from_ref(&good)), Err("ST-AGPU-29"));
        assert_eq!(answered(&[good.clone(), other.clone(), other]), Err("ST-AGPU-29"));
        assert_eq!(answered(&[good.clone(), good]), Err("ST-AGPU-30"));
    }

    #[test]
    fn only_locked_switches_carry_work() {
        let code = |modes: &[SwitchMode]| {
            may_carry(modes.iter().map(|mode| ("s", *mode))).map_err(|error| error.code())
        };
        assert_eq!(code(&[]), Ok(()));
        assert_eq!(code(&[SwitchMode::Locked; 4]), Ok(()));
        for mode in [SwitchMode::Unknown, SwitchMode::Enabled, SwitchMode::Failed] {
            assert_eq!(code(&[SwitchMode::Locked, mode]), Err("ST-AGPU-31"));
        }
    }
}
