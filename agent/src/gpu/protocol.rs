//! What is written to the helper program and read from it: `sealtune-gpu-evidence`, version 1 of both. The answer comes
//! from a process that a driver's bug may have taken over: closed, and bounded before it is read.

use serde::{Deserialize, Serialize};

use super::NamedGpu;
use super::switch::SwitchMode;

/// The largest that is possible, of sixteen GPUs, has about 290 KB.
pub(super) const MAX_ANSWER_BYTES: usize = 512 * 1024;
const VERSION: u32 = 1;
const MAX_TEXT: usize = 256;
const CODES: &str = "ST-GPUE-";

#[derive(Serialize)]
struct Request<'a> {
    version: u32,
    challenge: String,
    devices: Vec<Asked<'a>>,
}

#[derive(Serialize)]
struct Asked<'a> {
    bus: String,
    name: &'a str,
}

#[derive(Serialize)]
struct SwitchRequest<'a> {
    version: u32,
    challenge: String,
    switches: &'a [String],
}

pub(super) fn request(challenge: &[u8; 32], gpus: &[NamedGpu]) -> Vec<u8> {
    let devices =
        gpus.iter().map(|gpu| Asked { bus: gpu.address.to_string(), name: &gpu.name }).collect();
    line(&Request { version: VERSION, challenge: hex::encode(challenge), devices })
}

pub(super) fn switch_request(challenge: &[u8; 32], switches: &[String]) -> Vec<u8> {
    line(&SwitchRequest { version: VERSION, challenge: hex::encode(challenge), switches })
}

fn line(request: &impl Serialize) -> Vec<u8> {
    // Texts and numbers: this does not fail; the helper refuses an empty request.
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    line
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    version: u32,
    devices: Option<Vec<DeviceAnswer>>,
    error: Option<Refusal>,
    ready: Option<bool>,
    switches: Option<Vec<SwitchAnswer>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceAnswer {
    pub(super) bus: String,
    /// A document of its own, passed on and hashed as it is.
    pub(super) evidence: Option<String>,
    pub(super) error: Option<Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchAnswer {
    pub(super) name: String,
    pub(super) mode: Option<SwitchMode>,
    pub(super) evidence: Option<String>,
    pub(super) error: Option<Refusal>,
}

/// The helper's code and words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    code: String,
    detail: String,
    fix: String,
}

/// What an answer can be; anything else is [`Malformed`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Devices(Vec<DeviceAnswer>),
    Switches(Vec<SwitchAnswer>),
    Ready,
    Refused(Refusal),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    Form(&'static str),
    Version(u32),
}

impl Answer {
    pub(super) fn parse(line: &[u8]) -> Result<Said, Malformed> {
        let answer: Self =
            serde_json::from_slice(line).map_err(|_| Malformed::Form("not JSON of its form"))?;
        if answer.version != VERSION {
            return Err(Malformed::Version(answer.version));
        }
        match (answer.devices, answer.switches, answer.error, answer.ready) {
            (None, None, Some(refusal), None) => Ok(Said::Refused(refusal)),
            (None, None, None, Some(true)) => Ok(Said::Ready),
            (None, Some(switches), None, None) => {
                let is_either = |one: &SwitchAnswer| {
                    one.evidence.is_some() != one.error.is_some()
                        && one.evidence.is_some() == one.mode.is_some()
                };
                if switches.iter().all(is_either) {
                    Ok(Said::Switches(switches))
                } else {
                    Err(Malformed::Form("a switch with evidence and an error, or without its mode"))
                }
            }
            (Some(devices), None, None, None) => {
                let is_either = |one: &DeviceAnswer| one.evidence.is_some() != one.error.is_some();
                if devices.iter().all(is_either) {
                    Ok(Said::Devices(devices))
                } else {
                    Err(Malformed::Form("a device with evidence and an error, or neither"))
                }
            }
            _ => Err(Malformed::Form("not exactly one of devices, switches, error and ready")),
        }
    }
}

impl Refusal {
    /// The code if it is one of the helper's, and the words without what a console would act on.
    pub(super) fn shown(&self) -> String {
        let number = self.code.strip_prefix(CODES).unwrap_or_default();
        let is_code = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
        let code = if is_code { self.code.as_str() } else { "no code of the helper's" };
        let mut text = format!("{code}: failed to {}; {}", self.detail, self.fix);
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.retain(|c| !c.is_control());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::PciAddress;

    /// Written out: the helper's tests read the same text.
    #[test]
    fn the_request_is_the_documented_one() {
        let gpu = NamedGpu {
            address: PciAddress::parse("0000:01:00.0").unwrap(),
            name: "gpu0".to_owned(),
        };
        let expected = format!(
            "{{\"version\":1,\"challenge\":\"{}\",\"devices\":[{{\"bus\":\"0000:01:00.0\",\"name\":\"gpu0\"}}]}}\n",
            "0f".repeat(32)
        );
        assert_eq!(request(&[0x0f; 32], &[gpu]), expected.as_bytes());
        let names = ["nvswitch0".to_owned(), "nvswitch1".to_owned()];
        let expected = format!(
            "{{\"version\":1,\"challenge\":\"{}\",\"switches\":[\"nvswitch0\",\"nvswitch1\"]}}\n",
            "0f".repeat(32)
        );
        assert_eq!(switch_request(&[0x0f; 32], &names), expected.as_bytes());
    }

    /// Sixteen GPUs with the longest names are within what the helper takes.
    #[test]
    fn the_longest_request_fits() {
        let gpus: Vec<NamedGpu> = (0..16)
            .map(|number| NamedGpu {
                address: PciAddress::parse(&format!("ffffffff:{number:02x}:1f.7")).unwrap(),
                name: format!("{number:0128}"),
            })
            .collect();
        assert!(request(&[1; 32], &gpus).len() <= 8 * 1024);
    }

    #[test]
    fn answers_are_one_thing_each() {
        let refusal = r#"{"code":"ST-GPUE-30","detail":"get evidence","fix":"switch it on"}"#;
        let said = Answer::parse(format!(r#"{{"error":{refusal},"version":1}}"#).as_bytes());
        let Ok(Said::Refused(refused)) = said else { panic!("{said:?}") };
        assert_eq!(refused.shown(), "ST-GPUE-30: failed to get evidence; switch it on");
        assert_eq!(Answer::parse(b"{\"ready\":true,\"version\":1}\n"), Ok(Said::Ready));
        let device = r#"{"bus":"0000:01:00.0","evidence":"{}"}"#;
        let said = Answer::parse(format!(r#"{{"devices":[{device}],"version":1}}"#).as_bytes());
        assert!(matches!(said, Ok(Said::Devices(devices)) if devices.len() == 1));
        let switch = r#"{"evidence":"{}","mode":"locked","name":"s"}"#;
        let said = Answer::parse(format!(r#"{{"switches":[{switch}],"version":1}}"#).as_bytes());
        assert!(matches!(said, Ok(Said::Switches(switches)) if switches.len() == 1));
    }

    #[test]
    fn anything_else_is_malformed() {
        let refusal = r#"{"code":"c","detail":"d","fix":"f"}"#;
        for text in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"version":1}"#,
            r#"{"ready":false,"version":1}"#,
            r#"{"ready":true,"version":1,"more":1}"#,
            r#"{"ready":true,"ready":true,"version":1}"#,
            r#"{"ready":true,"version":1}{}"#,
            r#"{"ready":true,"devices":[],"version":1}"#,
            r#"{"ready":true,"version":"1"}"#,
            r#"{"devices":[{"bus":"b"}],"version":1}"#,
            r#"{"devices":[{"bus":"b","evidence":{}}],"version":1}"#,
            r#"{"devices":[{"bus":"b","evidence":"","more":1}],"version":1}"#,
            &format!(
                r#"{{"devices":[{{"bus":"b","evidence":"","error":{refusal}}}],"version":1}}"#
            ),
            &format!(r#"{{"error":{refusal},"ready":true,"version":1}}"#),
            r#"{"error":{"code":"c","detail":"d"},"version":1}"#,
            r#"{"switches":[{"name":"s"}],"version":1}"#,
            r#"{"switches":[{"name":"s","mode":"locked"}],"version":1}"#,
            r#"{"switches":[{"name":"s","evidence":""}],"version":1}"#,
            r#"{"switches":[{"name":"s","evidence":"","mode":"open"}],"version":1}"#,
            r#"{"switches":[{"name":"s","evidence":"","mode":"locked","more":1}],"version":1}"#,
            r#"{"switches":[],"devices":[],"version":1}"#,
            r#"{"switches":[],"ready":true,"version":1}"#,
            &format!(
                r#"{{"switches":[{{"name":"s","mode":"locked","error":{refusal}}}],"version":1}}"#
            ),
        ] {
            let said = Answer::parse(text.as_bytes());
            assert!(matches!(said, Err(Malformed::Form(_))), "{text}: {said:?}");
        }
        let later = Answer::parse(br#"{"ready":true,"version":2}"#);
        assert_eq!(later, Err(Malformed::Version(2)));
    }

    #[test]
    fn a_taken_over_helper_cannot_say_what_it_likes() {
        for code in ["ST-AGENT-01", "ST-GPUE-1", "ST-GPUE-123", "ST-GPUE-1x", ""] {
            let refusal =
                Refusal { code: code.into(), detail: "\u{1b}[2J".into(), fix: "y".repeat(1000) };
            let shown = refusal.shown();
            assert!(shown.starts_with("no code of the helper's: failed to [2J"), "{shown}");
            assert!(shown.len() <= MAX_TEXT);
        }
    }
}
