//! What must agree before evidence counts as that of this VM's GPUs: the PCI bus, the launch configuration and the
//! helper's answer. Pure.

use sealtune_evidence::nvidia::DeviceEvidence;
use sealtune_evidence::nvidia::evidence::{CcFeature, CcState, MultiGpuMode};
use sealtune_evidence::nvidia::transcript::request_nonce;

use super::protocol::{DeviceAnswer, Refusal};
use super::{DriverWord, NamedGpu, PciAddress, TakenEvidence};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("match the GPUs: {present} on the PCI bus, {listed} in the launch configuration")]
    Count { present: usize, listed: usize },
    #[error("match the GPUs: the launch configuration names {0} twice")]
    NameTwice(String),
    #[error("match the GPUs' evidence: {found} pieces for {present} GPUs")]
    EvidenceCount { found: usize, present: usize },
    #[error("match the GPUs' evidence: a piece is of {}, none of this VM's GPUs", shown(*.0))]
    Unknown(Option<PciAddress>),
    #[error("match the GPUs' evidence: two pieces are of {0}")]
    Twice(String),
    #[error("get evidence of {name}: {said}")]
    Refused { name: String, said: String },
    #[error("read the evidence of {name}: {reason}")]
    Evidence { name: String, reason: &'static str },
    #[error("accept the evidence of {name}: it names another device")]
    OtherName { name: String },
    #[error("accept the evidence of {name}: it was made for another challenge")]
    OtherChallenge { name: String },
    #[error("set the GPUs ready: {name} is not in confidential computing mode")]
    NotConfidential { name: String },
    #[error("set the GPUs ready: {name} took work before its evidence was made")]
    ReadyEarly { name: String },
    #[error(
        "set the GPUs ready: {name} says that it is behind switches and the VM has none, or not, and it has some"
    )]
    OtherFabric { name: String },
}

/// Gives each GPU its name: the first address, in their order, has the first name. The host says both, so an exchange of
/// two names tells nobody anything false about a GPU; a verifier counts them and tells them apart by what they sign.
pub(super) fn name(
    present: Vec<PciAddress>,
    listed: &[String],
) -> Result<Vec<NamedGpu>, CheckError> {
    if present.len() != listed.len() {
        return Err(CheckError::Count { present: present.len(), listed: listed.len() });
    }
    if let Some(twice) = repeated(listed.iter()) {
        return Err(CheckError::NameTwice(twice.clone()));
    }
    let named = present.into_iter().zip(listed);
    Ok(named.map(|(address, name)| NamedGpu { address, name: name.clone() }).collect())
}

/// One piece of evidence for each GPU, under its own name.
pub(super) fn evidence(
    named: &[NamedGpu],
    challenge: &[u8; 32],
    answers: Vec<DeviceAnswer>,
) -> Result<Vec<TakenEvidence>, CheckError> {
    if answers.len() != named.len() {
        return Err(CheckError::EvidenceCount { found: answers.len(), present: named.len() });
    }
    let mut taken: Vec<(&NamedGpu, TakenEvidence)> = Vec::with_capacity(named.len());
    for answer in answers {
        // An address that does not parse is not shown: it is the helper's text.
        let address = PciAddress::parse(&answer.bus).ok_or(CheckError::Unknown(None))?;
        let gpu = named.iter().find(|gpu| gpu.address == address);
        let gpu = gpu.ok_or(CheckError::Unknown(Some(address)))?;
        if taken.iter().any(|(other, _)| *other == gpu) {
            return Err(CheckError::Twice(gpu.name.clone()));
        }
        taken.push((gpu, of_gpu(gpu, challenge, &answer)?));
    }
    taken.sort_by_key(|(gpu, _)| gpu.address);
    Ok(taken.into_iter().map(|(_, evidence)| evidence).collect())
}

/// The last look before GPUs may take work: what their drivers say of them. Whether that is true, and whether a GPU is
/// genuine, the owner of a sealed job has judged from the offer. In protected PCIe mode drivers do not call confidential
/// computing on; such a GPU is confidential as far as its switches are, so it needs some, and no other GPU may have any.
pub(super) fn may_take_work<'a>(
    gpus: impl Iterator<Item = (&'a str, CcState)>,
    switches: usize,
) -> Result<(), CheckError> {
    for (name, cc) in gpus {
        let name = name.to_owned();
        let is_behind_switches = cc.multi_gpu == MultiGpuMode::ProtectedPcie;
        match cc.feature {
            CcFeature::On => {}
            CcFeature::Off if is_behind_switches => {}
            CcFeature::Devtools | CcFeature::Off => {
                return Err(CheckError::NotConfidential { name });
            }
        }
        if cc.gpus_ready {
            return Err(CheckError::ReadyEarly { name });
        }
        if is_behind_switches != (switches > 0) {
            return Err(CheckError::OtherFabric { name });
        }
    }
    Ok(())
}

fn of_gpu(
    gpu: &NamedGpu,
    challenge: &[u8; 32],
    answer: &DeviceAnswer,
) -> Result<TakenEvidence, CheckError> {
    let (document, bytes) =
        piece(&gpu.name, challenge, answer.evidence.as_deref(), answer.error.as_ref())?;
    match document {
        DeviceEvidence::Gpu(evidence) => {
            let word = DriverWord::Gpu(evidence.cc);
            Ok(TakenEvidence { device: gpu.name.clone(), bytes, word })
        }
        DeviceEvidence::Switch(_) => {
            Err(CheckError::Evidence { name: gpu.name.clone(), reason: "it is a switch's" })
        }
    }
}

/// Reads evidence as a verifier does, so that nothing goes out that none would read.
pub(super) fn piece(
    name: &str,
    challenge: &[u8; 32],
    text: Option<&str>,
    refusal: Option<&Refusal>,
) -> Result<(DeviceEvidence, Vec<u8>), CheckError> {
    let name = || name.to_owned();
    let text = match (text, refusal) {
        (Some(text), None) => text,
        (_, Some(refusal)) => {
            return Err(CheckError::Refused { name: name(), said: refusal.shown() });
        }
        (None, None) => {
            return Err(CheckError::Evidence { name: name(), reason: "there is none" });
        }
    };
    let evidence = DeviceEvidence::parse(text.as_bytes())
        .map_err(|error| CheckError::Evidence { name: name(), reason: error.code() })?;
    if evidence.device() != name() {
        return Err(CheckError::OtherName { name: name() });
    }
    if request_nonce(evidence.transcript()).as_ref() != Some(challenge) {
        return Err(CheckError::OtherChallenge { name: name() });
    }
    Ok((evidence, text.as_bytes().to_vec()))
}

fn shown(address: Option<PciAddress>) -> String {
    address.map_or_else(|| "no address".to_owned(), |address| address.to_string())
}

fn repeated<T: PartialEq>(values: impl Iterator<Item = T> + Clone) -> Option<T> {
    let mut rest = values.enumerate();
    let all = rest.clone();
    rest.find_map(|(at, value)| {
        all.clone().take(at).any(|(_, other)| other == value).then_some(value)
    })
}

impl CheckError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Count { .. } => "ST-AGPU-02",
            Self::NameTwice(_) => "ST-AGPU-04",
            Self::EvidenceCount { .. } => "ST-AGPU-20",
            Self::Unknown(_) => "ST-AGPU-21",
            Self::Twice(_) => "ST-AGPU-22",
            Self::Refused { .. } => "ST-AGPU-23",
            Self::Evidence { .. } => "ST-AGPU-24",
            Self::OtherName { .. } => "ST-AGPU-25",
            Self::OtherChallenge { .. } => "ST-AGPU-26",
            Self::NotConfidential { .. } => "ST-AGPU-27",
            Self::ReadyEarly { .. } => "ST-AGPU-28",
            Self::OtherFabric { .. } => "ST-AGPU-32",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Count { .. } => {
                "pass exactly the GPUs through that the launch configuration lists"
            }
            Self::NameTwice(_) => "give each GPU a name of its own in the launch configuration",
            Self::EvidenceCount { .. } => "run agent and nvidia layer of the same release",
            Self::Unknown(_) => "run agent and nvidia layer of the same release",
            Self::Twice(_) => "run agent and nvidia layer of the same release",
            Self::Refused { .. } => "see the code ST-GPUE that it names",
            Self::Evidence { .. } => "run agent and nvidia layer of the same release",
            Self::OtherName { .. } => "run agent and nvidia layer of the same release",
            Self::OtherChallenge { .. } => "run agent and nvidia layer of the same release",
            Self::NotConfidential { .. } => "the provider must switch the GPUs to CC mode",
            Self::ReadyEarly { .. } => "start another VM; reset the GPUs in between",
            Self::OtherFabric { .. } => {
                "the provider must give the VM a whole machine in protected PCIe mode, or no switches"
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let name = || "x".to_owned();
        vec![
            Self::Count { present: 1, listed: 2 },
            Self::NameTwice(name()),
            Self::EvidenceCount { found: 1, present: 2 },
            Self::Unknown(None),
            Self::Twice(name()),
            Self::Refused { name: name(), said: name() },
            Self::Evidence { name: name(), reason: "x" },
            Self::OtherName { name: name() },
            Self::OtherChallenge { name: name() },
            Self::NotConfidential { name: name() },
            Self::ReadyEarly { name: name() },
            Self::OtherFabric { name: name() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use sealtune_evidence::nvidia::evidence::MAX_EVIDENCE_BYTES;

    use super::*;
    use crate::gpu::protocol::{Answer, Said};
    use crate::gpu::sample::{document, switch_document};

    const CHALLENGE: [u8; 32] = [7; 32];

    fn addresses(texts: &[&str]) -> Vec<PciAddress> {
        texts.iter().map(|text| PciAddress::parse(text).unwrap()).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const ONE: &str = "0000:01:00.0";
    const TWO: &str = "0000:02:00.0";

    fn two() -> Vec<NamedGpu> {
        name(addresses(&[ONE, TWO]), &names(&["a", "b"])).unwrap()
    }

    /// Pieces as `(bus, JSON of the rest)`.
    fn answers(pieces: &[(&str, &str)]) -> Vec<DeviceAnswer> {
        let devices: Vec<String> =
            pieces.iter().map(|(bus, rest)| format!(r#"{{"bus":"{bus}",{rest}}}"#)).collect();
        let text = format!(r#"{{"devices":[{}],"version":1}}"#, devices.join(","));
        match Answer::parse(text.as_bytes()) {
            Ok(Said::Devices(devices)) => devices,
            other => panic!("{other:?}"),
        }
    }

    fn rest(text: &str) -> String {
        format!(r#""evidence":{}"#, serde_json::Value::from(text))
    }

    fn good(name: &str) -> String {
        rest(&document(name, &CHALLENGE))
    }

    #[test]
    fn names_go_by_the_order_of_addresses() {
        let named = two();
        assert_eq!((named[0].address.to_string().as_str(), named[0].name.as_str()), (ONE, "a"));
        assert_eq!((named[1].address.to_string().as_str(), named[1].name.as_str()), (TWO, "b"));
        assert_eq!(name(vec![], &[]), Ok(vec![]));
    }

    #[test]
    fn bus_and_launch_configuration_must_agree() {
        for (present, listed, code) in [
            (&[][..], &["a"][..], "ST-AGPU-02"),
            (&[ONE], &[], "ST-AGPU-02"),
            (&[ONE, TWO], &["a"], "ST-AGPU-02"),
            (&[ONE, TWO], &["a", "a"], "ST-AGPU-04"),
        ] {
            let error = name(addresses(present), &names(listed)).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
    }

    #[test]
    fn evidence_comes_back_in_order_and_byte_for_byte() {
        let (a, b) = (good("a"), good("b"));
        let taken = evidence(&two(), &CHALLENGE, answers(&[(TWO, &b), (ONE, &a)])).unwrap();
        let devices: Vec<&str> = taken.iter().map(|one| one.device.as_str()).collect();
        assert_eq!(devices, ["a", "b"]);
        assert_eq!(taken[0].bytes, document("a", &CHALLENGE).as_bytes());
        let claim = taken[0].claim();
        assert_eq!(claim.device, "a");
        assert_eq!(
            claim.digest.as_bytes(),
            ring::digest::digest(&ring::digest::SHA256, &taken[0].bytes).as_ref()
        );
    }

    #[test]
    fn each_disagreement_has_its_code() {
        let (a, b) = (good("a"), good("b"));
        let refusal = r#""error":{"code":"ST-GPUE-30","detail":"d","fix":"f"}"#;
        let text = document("a", &CHALLENGE);
        let long = rest(&(text.clone() + &" ".repeat(MAX_EVIDENCE_BYTES)));
        let version = rest(&text.replace(r#""version":1"#, r#""version":2"#));
        let more = rest(&text.replace('}', r#","more":1}"#));
        let old = rest(&document("a", &[8; 32]));
        let switch = rest(&switch_document("a", &CHALLENGE));
        let none = rest(&text.replace(r#""transcript":""#, r#""transcript":"AAAA"#));
        for (pieces, code) in [
            (&[][..], "ST-AGPU-20"),
            (&[(ONE, a.as_str())], "ST-AGPU-20"),
            (&[(ONE, &a), (TWO, &b), (TWO, &b)], "ST-AGPU-20"),
            (&[(ONE, &a), ("0000:03:00.0", &b)], "ST-AGPU-21"),
            (&[(ONE, &a), ("00000000:02:00.0", &b)], "ST-AGPU-21"),
            (&[(ONE, &a), ("", &b)], "ST-AGPU-21"),
            (&[(ONE, &a), (ONE, &a)], "ST-AGPU-22"),
            (&[(ONE, &a), (TWO, refusal)], "ST-AGPU-23"),
            (&[(ONE, r#""evidence":"""#), (TWO, &b)], "ST-AGPU-24"),
            (&[(ONE, r#""evidence":"[]""#), (TWO, &b)], "ST-AGPU-24"),
            (&[(ONE, &long), (TWO, &b)], "ST-AGPU-24"),
            (&[(ONE, &version), (TWO, &b)], "ST-AGPU-24"),
            (&[(ONE, &more), (TWO, &b)], "ST-AGPU-24"),
            (&[(ONE, &old), (TWO, &b)], "ST-AGPU-26"),
            (&[(ONE, &none), (TWO, &b)], "ST-AGPU-26"),
            (&[(ONE, &switch), (TWO, &b)], "ST-AGPU-24"),
            // Both names are this VM's, and each is at the other's place.
            (&[(ONE, &b), (TWO, &a)], "ST-AGPU-25"),
            (&[(ONE, &a), (TWO, &a)], "ST-AGPU-25"),
        ] {
            let error = evidence(&two(), &CHALLENGE, answers(pieces)).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
    }

    /// One byte of an answer changed: refused, or the change is inside of evidence, which a verifier judges.
    #[test]
    fn every_byte_of_an_answer_counts() {
        let (a, b) = (good("a"), good("b"));
        let answer =
            format!(r#"{{"devices":[{{"bus":"{ONE}",{a}}},{{"bus":"{TWO}",{b}}}],"version":1}}"#);
        let (mut refused, mut accepted) = (0, 0);
        for at in 0..answer.len() {
            for bit in 0..8 {
                let mut flipped = answer.clone().into_bytes();
                flipped[at] ^= 1 << bit;
                let taken = match Answer::parse(&flipped) {
                    Ok(Said::Devices(devices)) => evidence(&two(), &CHALLENGE, devices),
                    _ => {
                        refused += 1;
                        continue;
                    }
                };
                let Ok(taken) = taken else {
                    refused += 1;
                    continue;
                };
                accepted += 1;
                let devices: Vec<&str> = taken.iter().map(|one| one.device.as_str()).collect();
                assert_eq!(devices, ["a", "b"]);
                let originals = ["a", "b"].map(|name| document(name, &CHALLENGE).into_bytes());
                assert!(taken.iter().zip(&originals).any(|(one, original)| one.bytes != *original));
            }
        }
        assert!(accepted < 500 && refused > 5000, "{accepted} accepted, {refused} refused");
    }
}
