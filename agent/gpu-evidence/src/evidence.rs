//! One GPU's evidence, as a verifier reads it (`sealtune-evidence`, module `nvidia`), from what the driver gave. The text is
//! canonical JSON: fields stand in alphabetical order and every text in it is plain ASCII.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};
use serde::{Serialize, Serializer};

use crate::{
    failure::Failure,
    library::{Filled, MAX_CHAIN_BYTES, Settings},
    transcript,
};

const VERSION: u32 = 1;
const MAX_TEXT: usize = 128;
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const PEM_END: &str = "-----END CERTIFICATE-----";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Evidence {
    architecture: Architecture,
    cc: CcState,
    #[serde(serialize_with = "base64")]
    certificates: Vec<u8>,
    device: String,
    driver_version: String,
    mig: MigMode,
    #[serde(serialize_with = "base64")]
    transcript: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid_digest: Option<String>,
    vbios_version: String,
    version: u32,
    virtualization: Virtualization,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Architecture {
    Hopper,
    Blackwell,
}

/// What is the same for all GPUs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct CcState {
    environment: CcEnvironment,
    feature: CcFeature,
    gpus_ready: bool,
    multi_gpu: MultiGpuMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CcFeature {
    On,
    Devtools,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CcEnvironment {
    Prod,
    Sim,
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum MultiGpuMode {
    None,
    ProtectedPcie,
    NvlinkEncryption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MigMode {
    Off,
    On,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Virtualization {
    PassThrough,
    None,
    Vgpu,
    HostVgpu,
    HostVsga,
    Unknown,
}

/// What the driver gave of one GPU, as it gave it.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) architecture: u32,
    pub(crate) uuid: Option<Vec<u8>>,
    pub(crate) report: Filled,
    pub(crate) certificates: Filled,
    pub(crate) driver_version: Vec<u8>,
    pub(crate) vbios_version: Vec<u8>,
    pub(crate) mig: Option<u32>,
    pub(crate) virtualization: Option<u32>,
}

impl Evidence {
    pub(crate) fn of(
        raw: &Raw,
        cc: CcState,
        device: &str,
        challenge: &[u8; 32],
    ) -> Result<Self, Failure> {
        let uuid = raw.uuid.as_deref().map(|uuid| text(uuid, "UUID")).transpose()?;
        Ok(Self {
            architecture: Architecture::of(raw.architecture)?,
            cc,
            certificates: pem(&raw.certificates)?,
            device: device.to_owned(),
            driver_version: text(&raw.driver_version, "driver version")?,
            mig: MigMode::of(raw.mig)?,
            transcript: transcript::cut(&raw.report, challenge)?,
            uuid_digest: uuid.map(|uuid| hex::encode(digest(&SHA256, uuid.as_bytes()))),
            vbios_version: text(&raw.vbios_version, "VBIOS version")?,
            version: VERSION,
            virtualization: Virtualization::of(raw.virtualization),
        })
    }
}

impl Architecture {
    fn of(number: u32) -> Result<Self, Failure> {
        match number {
            9 => Ok(Self::Hopper),
            10 => Ok(Self::Blackwell),
            other => Err(Failure::Architecture(other)),
        }
    }
}

impl CcState {
    /// Confidential computing that is off altogether is an error: no GPU has evidence then.
    pub(crate) fn of(settings: Settings, gpus_ready: bool) -> Result<Self, Failure> {
        let environment = match settings.environment {
            0 => CcEnvironment::Unavailable,
            1 => CcEnvironment::Sim,
            2 => CcEnvironment::Prod,
            value => return Err(Failure::Value { what: "CC environment", value }),
        };
        let feature = match (settings.feature, settings.devtools) {
            (0, 0) => CcFeature::Off,
            (1, 0) => CcFeature::On,
            // Also where the feature is not advertised.
            (0 | 1, 1) => CcFeature::Devtools,
            (0 | 1, value) => return Err(Failure::Value { what: "devtools mode", value }),
            (value, _) => return Err(Failure::Value { what: "CC feature", value }),
        };
        let multi_gpu = match settings.multi_gpu {
            0 => MultiGpuMode::None,
            1 => MultiGpuMode::ProtectedPcie,
            2 => MultiGpuMode::NvlinkEncryption,
            value => return Err(Failure::Value { what: "multi-GPU mode", value }),
        };
        // In protected PCIe mode the driver does not advertise the feature, and there are reports all the same.
        if settings.feature == 0 && multi_gpu == MultiGpuMode::None {
            return Err(Failure::CcOff);
        }
        Ok(Self { environment, feature, gpus_ready, multi_gpu })
    }
}

pub(crate) fn is_ready(state: u32) -> Result<bool, Failure> {
    match state {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(Failure::Value { what: "ready state", value }),
    }
}

impl MigMode {
    fn of(mode: Option<u32>) -> Result<Self, Failure> {
        match mode {
            None => Ok(Self::Unknown),
            Some(0) => Ok(Self::Off),
            Some(1) => Ok(Self::On),
            Some(value) => Err(Failure::Value { what: "MIG mode", value }),
        }
    }
}

impl Virtualization {
    /// A mode of a later driver is unknown to the verifier too, which refuses it.
    fn of(mode: Option<u32>) -> Self {
        match mode {
            Some(0) => Self::None,
            Some(1) => Self::PassThrough,
            Some(2) => Self::Vgpu,
            Some(3) => Self::HostVgpu,
            Some(4) => Self::HostVsga,
            _ => Self::Unknown,
        }
    }
}

/// A text that C ended with a zero byte.
pub(crate) fn text(buffer: &[u8], what: &'static str) -> Result<String, Failure> {
    let end = buffer.iter().position(|byte| *byte == 0).ok_or(Failure::Text(what))?;
    let bytes = buffer.get(..end).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text)
            if (1..=MAX_TEXT).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Failure::Text(what)),
    }
}

/// The PEM text without the zero bytes after it. What the certificates say is the verifier's matter.
pub(crate) fn pem(filled: &Filled) -> Result<Vec<u8>, Failure> {
    let length = Failure::CertificatesLength { length: filled.length, limit: MAX_CHAIN_BYTES };
    let counted = usize::try_from(filled.length).ok().filter(|length| *length <= MAX_CHAIN_BYTES);
    let bytes = counted.and_then(|counted| filled.buffer.get(..counted)).ok_or(length)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bytes = bytes.get(..end).unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(|_| Failure::CertificatesForm)?;
    let is_pem = text.starts_with(PEM_BEGIN)
        && text.trim_end_matches(['\r', '\n']).ends_with(PEM_END)
        && text.bytes().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r' | b'\n'));
    if is_pem { Ok(bytes.to_vec()) } else { Err(Failure::CertificatesForm) }
}

pub(crate) fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::{self, CHAIN, transcript};

    const CHALLENGE: [u8; 32] = [7; 32];

    fn raw() -> Raw {
        simulated::raw(&CHALLENGE)
    }

    fn on() -> Settings {
        Settings { environment: 2, feature: 1, devtools: 0, multi_gpu: 0 }
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> &'static str {
        result.unwrap_err().code().as_str()
    }

    /// The whole text, written out: what a verifier of any release must read.
    #[test]
    fn the_text_is_the_documented_one() {
        let cc = CcState::of(on(), false).unwrap();
        let evidence = Evidence::of(&raw(), cc, "gpu0", &CHALLENGE).unwrap();
        let uuid = hex::encode(digest(&SHA256, simulated::UUID.as_bytes()));
        let expected = format!(
            concat!(
                r#"{{"architecture":"hopper","cc":{{"environment":"prod","feature":"on","#,
                r#""gpus_ready":false,"multi_gpu":"none"}},"certificates":"{certificates}","#,
                r#""device":"gpu0","driver_version":"550.163.01","mig":"off","#,
                r#""transcript":"{transcript}","uuid_digest":"{uuid}","#,
                r#""vbios_version":"96.00.9F.00.01","version":1,"virtualization":"pass-through"}}"#,
            ),
            certificates = STANDARD.encode(CHAIN),
            transcript = STANDARD.encode(transcript(&CHALLENGE, 3, 40)),
            uuid = uuid,
        );
        assert_eq!(serde_json::to_string(&evidence).unwrap(), expected);
    }

    /// Every number of NVML with its word, and one more.
    #[test]
    fn states_have_their_words_and_unknown_ones_are_refused() {
        let word = |settings, ready| {
            CcState::of(settings, ready).map(|state| serde_json::to_string(&state).unwrap())
        };
        let state = |environment: &str, feature: &str, multi_gpu: &str| {
            format!(
                r#"{{"environment":"{environment}","feature":"{feature}","gpus_ready":true,"multi_gpu":"{multi_gpu}"}}"#
            )
        };
        for (settings, expected) in [
            (on(), state("prod", "on", "none")),
            (Settings { environment: 1, ..on() }, state("sim", "on", "none")),
            (Settings { environment: 0, ..on() }, state("unavailable", "on", "none")),
            (Settings { devtools: 1, ..on() }, state("prod", "devtools", "none")),
            (Settings { multi_gpu: 1, ..on() }, state("prod", "on", "protected-pcie")),
            (Settings { multi_gpu: 2, ..on() }, state("prod", "on", "nvlink-encryption")),
            (Settings { feature: 0, multi_gpu: 1, ..on() }, state("prod", "off", "protected-pcie")),
            (
                Settings { feature: 0, devtools: 1, multi_gpu: 1, environment: 1 },
                state("sim", "devtools", "protected-pcie"),
            ),
        ] {
            assert_eq!(word(settings, true), Ok(expected), "{settings:?}");
        }
        for (settings, expected) in [
            (Settings { feature: 0, ..on() }, "ST-GPUE-30"),
            (Settings { feature: 0, devtools: 1, ..on() }, "ST-GPUE-30"),
            (Settings { environment: 3, ..on() }, "ST-GPUE-31"),
            (Settings { feature: 2, ..on() }, "ST-GPUE-31"),
            (Settings { devtools: 2, ..on() }, "ST-GPUE-31"),
            (Settings { multi_gpu: 3, ..on() }, "ST-GPUE-31"),
        ] {
            assert_eq!(code(word(settings, false)), expected, "{settings:?}");
        }
        assert_eq!(code(is_ready(2)), "ST-GPUE-31");
        assert_eq!((is_ready(0), is_ready(1)), (Ok(false), Ok(true)));
    }

    #[test]
    fn words_of_a_gpu() {
        let json = |value: &dyn erased::Json| value.text();
        for (mode, word) in [(None, "unknown"), (Some(0), "off"), (Some(1), "on")] {
            assert_eq!(json(&MigMode::of(mode).unwrap()), format!("\"{word}\""));
        }
        assert_eq!(code(MigMode::of(Some(2))), "ST-GPUE-31");
        for (mode, word) in [
            (None, "unknown"),
            (Some(0), "none"),
            (Some(1), "pass-through"),
            (Some(2), "vgpu"),
            (Some(3), "host-vgpu"),
            (Some(4), "host-vsga"),
            (Some(5), "unknown"),
        ] {
            assert_eq!(json(&Virtualization::of(mode)), format!("\"{word}\""));
        }
        for (number, word) in [(9, "hopper"), (10, "blackwell")] {
            assert_eq!(json(&Architecture::of(number).unwrap()), format!("\"{word}\""));
        }
        for number in [0, 8, 11, u32::MAX] {
            assert_eq!(code(Architecture::of(number)), "ST-GPUE-32");
        }
    }

    mod erased {
        pub(super) trait Json {
            fn text(&self) -> String;
        }

        impl<T: serde::Serialize> Json for T {
            fn text(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }

    #[test]
    fn texts_end_and_are_short_and_plain() {
        assert_eq!(text(b"550.163.01\0garbage", "x"), Ok("550.163.01".into()));
        let long = [vec![b'a'; MAX_TEXT + 1], vec![0]].concat();
        for bad in [&b""[..], b"\0", b"no end", b"a b\0", b"a\n\0", b"\xc3\xa9\0", &long] {
            assert_eq!(code(text(bad, "x")), "ST-GPUE-13", "{bad:?}");
        }
    }

    #[test]
    fn certificates_are_cut_and_bounded() {
        let filled = |text: &str, more: usize| Filled {
            length: u32::try_from(text.len() + more).unwrap(),
            buffer: [text.as_bytes(), &vec![0; MAX_CHAIN_BYTES]].concat(),
        };
        for more in [0, 1, 200] {
            assert_eq!(pem(&filled(CHAIN, more)), Ok(CHAIN.as_bytes().to_vec()));
        }
        let without_line_end = CHAIN.trim_end();
        assert_eq!(pem(&filled(without_line_end, 1)), Ok(without_line_end.as_bytes().to_vec()));
        for (text, more, expected) in [
            (CHAIN, MAX_CHAIN_BYTES, "ST-GPUE-44"),
            ("", 0, "ST-GPUE-45"),
            ("", 100, "ST-GPUE-45"),
            (&CHAIN[1..], 0, "ST-GPUE-45"),
            (&CHAIN[..CHAIN.len() - 3], 0, "ST-GPUE-45"),
            (&CHAIN.replace("QQ", "Q\0"), 0, "ST-GPUE-45"),
            (&CHAIN.replace("QQ", "\u{e9}"), 0, "ST-GPUE-45"),
        ] {
            assert_eq!(code(pem(&filled(text, more))), expected, "{text}");
        }
        assert_eq!(code(pem(&Filled { length: 5, buffer: vec![0; 4] })), "ST-GPUE-44");
    }

    #[test]
    fn what_a_gpu_does_not_have_is_left_out() {
        let raw = Raw { uuid: None, mig: None, virtualization: None, ..raw() };
        let cc = CcState::of(on(), false).unwrap();
        let evidence = Evidence::of(&raw, cc, "gpu0", &CHALLENGE).unwrap();
        let text = serde_json::to_string(&evidence).unwrap();
        assert!(!text.contains("uuid"));
        assert!(text.contains(r#""mig":"unknown""#));
        assert!(text.contains(r#""virtualization":"unknown""#));
    }
}
