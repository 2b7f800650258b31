//! The one line that is printed. Evidence stands in it as a text, so that whoever passes it on and hashes it has exactly
//! the bytes that were made here.

use serde::Serialize;

use crate::{
    bus::Bus,
    evidence::Evidence,
    failure::Failure,
    switch_evidence::{SwitchEvidence, SwitchMode},
};

const VERSION: u32 = 1;
const MAX_DETAIL: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<Device>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    switches: Option<Vec<Switch>>,
    version: u32,
}

/// Evidence or an error, never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Device {
    bus: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
}

/// Evidence and the mode beside it, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Switch {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<SwitchMode>,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Refusal {
    code: &'static str,
    detail: String,
    fix: &'static str,
}

pub(crate) type TakenFromSwitch = Result<(SwitchEvidence, SwitchMode), Failure>;

impl Answer {
    const EMPTY: Self =
        Self { devices: None, error: None, ready: None, switches: None, version: VERSION };

    pub(crate) fn refused(failure: &Failure) -> Self {
        Self { error: Some(Refusal::of(failure)), ..Self::EMPTY }
    }

    pub(crate) fn ready() -> Self {
        Self { ready: Some(true), ..Self::EMPTY }
    }

    /// In the order of the request.
    pub(crate) fn devices(devices: Vec<(Bus, Result<Evidence, Failure>)>) -> Self {
        let devices = devices.into_iter().map(|(bus, result)| {
            let bus = bus.to_string();
            match result {
                Ok(evidence) => {
                    // Texts and numbers: this does not fail; an empty text would be refused.
                    let text = serde_json::to_string(&evidence).unwrap_or_default();
                    Device { bus, error: None, evidence: Some(text) }
                }
                Err(failure) => Device { bus, error: Some(Refusal::of(&failure)), evidence: None },
            }
        });
        Self { devices: Some(devices.collect()), ..Self::EMPTY }
    }

    /// In the order of the request.
    pub(crate) fn switches(switches: Vec<(String, TakenFromSwitch)>) -> Self {
        let switches = switches.into_iter().map(|(name, result)| match result {
            Ok((evidence, mode)) => {
                // As above.
                let text = serde_json::to_string(&evidence).unwrap_or_default();
                Switch { error: None, evidence: Some(text), mode: Some(mode), name }
            }
            Err(failure) => {
                Switch { error: Some(Refusal::of(&failure)), evidence: None, mode: None, name }
            }
        });
        Self { switches: Some(switches.collect()), ..Self::EMPTY }
    }

    /// And whether everything was done that was asked.
    pub(crate) fn to_line(&self) -> (Vec<u8>, bool) {
        let is_complete = self.error.is_none()
            && !self.devices.iter().flatten().any(|device| device.error.is_some())
            && !self.switches.iter().flatten().any(|switch| switch.error.is_some());
        // The same: an empty line would be refused.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        (line, is_complete)
    }
}

impl Refusal {
    fn of(failure: &Failure) -> Self {
        let mut detail = failure.to_string();
        detail.retain(|c| c == ' ' || c.is_ascii_graphic());
        detail.truncate(MAX_DETAIL);
        Self { code: failure.code().as_str(), detail, fix: failure.code().fix() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_success_are_told_apart() {
        let (line, is_complete) = Answer::ready().to_line();
        assert_eq!(line, b"{\"ready\":true,\"version\":1}\n");
        assert!(is_complete);
        let (line, is_complete) = Answer::refused(&Failure::RequestVersion(2)).to_line();
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.starts_with(
                r#"{"error":{"code":"ST-GPUE-03","detail":"read request version 2, this program"#
            ),
            "{line}"
        );
        assert!(!is_complete);
    }

    #[test]
    fn a_refused_gpu_is_named_and_the_answer_is_not_complete() {
        let bus = Bus::parse("0000:01:00.0").unwrap();
        let (line, is_complete) = Answer::devices(vec![(bus, Err(Failure::CcOff))]).to_line();
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains(r#"{"bus":"0000:01:00.0","error":{"code":"ST-GPUE-30""#), "{line}");
        assert!(!is_complete);
    }

    #[test]
    fn details_are_short_and_plain() {
        let long = Failure::RequestUnreadable(format!("\u{1b}[2J\u{e9}{}", "x".repeat(1000)));
        let (line, _) = Answer::refused(&long).to_line();
        assert!(line.len() < MAX_DETAIL + 200);
        assert!(line.trim_ascii_end().iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic()));
    }
}
