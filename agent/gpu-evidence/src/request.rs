//! What the agent asks: a challenge, and the GPUs of the machine, each with the name that its evidence shall carry.

use serde::Deserialize;

use crate::{bus::Bus, failure::Failure};

pub(crate) const MAX_REQUEST_BYTES: usize = 8 * 1024;
pub(crate) const MAX_DEVICES: usize = 16;
/// Twice those of a machine. With it all evidence of a VM fits into one frame of the agent's.
pub(crate) const MAX_SWITCHES: usize = 8;
const MAX_NAME: usize = 128;
const VERSION: u32 = 1;

/// A request within its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) challenge: [u8; 32],
    /// No address and no name twice, and at least one.
    pub(crate) devices: Vec<Asked>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) bus: Bus,
    pub(crate) name: String,
}

/// The same for switches, which have no address here: the driver lists them, and each gets the name of its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SwitchRequest {
    pub(crate) challenge: [u8; 32],
    /// No name twice, and at least one.
    pub(crate) names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    challenge: String,
    devices: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bus: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchDocument {
    version: u32,
    challenge: String,
    switches: Vec<String>,
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    if bytes.len() > MAX_REQUEST_BYTES {
        return Err(Failure::RequestTooLong);
    }
    serde_json::from_slice(bytes).map_err(|error| Failure::RequestUnreadable(error.to_string()))
}

fn refuse<T>(field: &'static str, reason: &'static str) -> Result<T, Failure> {
    Err(Failure::RequestField { field, reason })
}

/// What both kinds have.
fn challenge(version: u32, text: &str) -> Result<[u8; 32], Failure> {
    if version != VERSION {
        return Err(Failure::RequestVersion(version));
    }
    let mut challenge = [0; 32];
    if text.bytes().any(|byte| byte.is_ascii_uppercase())
        || hex::decode_to_slice(text, &mut challenge).is_err()
    {
        return refuse("challenge", "expected 64 lower-case hexadecimal digits");
    }
    if challenge == [0; 32] {
        return refuse("challenge", "it is zero");
    }
    Ok(challenge)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl SwitchRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let document: SwitchDocument = read(bytes)?;
        let challenge = challenge(document.version, &document.challenge)?;
        if !(1..=MAX_SWITCHES).contains(&document.switches.len()) {
            return refuse("switches", "expected 1 to 8");
        }
        let mut names: Vec<String> = Vec::with_capacity(document.switches.len());
        for name in document.switches {
            if !is_name(&name) {
                return refuse("switches", "expected short texts without spaces");
            }
            if names.contains(&name) {
                return refuse("switches", "a switch is asked for twice");
            }
            names.push(name);
        }
        Ok(Self { challenge, names })
    }
}

impl Request {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let document: Document = read(bytes)?;
        let challenge = challenge(document.version, &document.challenge)?;
        if !(1..=MAX_DEVICES).contains(&document.devices.len()) {
            return refuse("devices", "expected 1 to 16");
        }
        let mut devices: Vec<Asked> = Vec::with_capacity(document.devices.len());
        for Entry { bus, name } in document.devices {
            let Some(bus) = Bus::parse(&bus) else {
                return refuse("devices.bus", "expected a PCI address");
            };
            if !is_name(&name) {
                return refuse("devices.name", "expected a short text without spaces");
            }
            if devices.iter().any(|other| other.bus == bus || other.name == name) {
                return refuse("devices", "a GPU is asked for twice");
            }
            devices.push(Asked { bus, name });
        }
        Ok(Self { challenge, devices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(challenge: &str, devices: &str) -> String {
        format!(r#"{{"version":1,"challenge":"{challenge}","devices":[{devices}]}}"#)
    }

    const ONE: &str = r#"{"bus":"0000:01:00.0","name":"gpu0"}"#;

    #[test]
    fn a_request_is_read() {
        let other = r#"{"bus":"00000000:E1:00.0","name":"gpu:1"}"#;
        let request = text(&"0f".repeat(32), &format!("{ONE},{other}"));
        let request = Request::parse(format!("{request}\n").as_bytes()).unwrap();
        assert_eq!(request.challenge, [0x0f; 32]);
        let devices: Vec<(String, &str)> =
            request.devices.iter().map(|asked| (asked.bus.to_string(), &*asked.name)).collect();
        assert_eq!(devices, [("0000:01:00.0".into(), "gpu0"), ("0000:e1:00.0".into(), "gpu:1")]);
    }

    #[test]
    fn each_limit_has_its_code() {
        let good = "0f".repeat(32);
        let entry = |bus: &str, name: &str| format!(r#"{{"bus":"{bus}","name":"{name}"}}"#);
        let many = |count: usize| {
            let entries: Vec<String> = (0..count)
                .map(|n| entry(&format!("0000:{n:02x}:00.0"), &format!("g{n}")))
                .collect();
            text(&good, &entries.join(","))
        };
        assert!(Request::parse(many(MAX_DEVICES).as_bytes()).is_ok());
        for (request, code) in [
            (" ".repeat(MAX_REQUEST_BYTES + 1), "ST-GPUE-01"),
            (String::new(), "ST-GPUE-02"),
            ("{".into(), "ST-GPUE-02"),
            (text(&good, ONE).replace("}]}", "}],\"more\":1}"), "ST-GPUE-02"),
            (text(&good, &ONE.replace("}", ",\"more\":1}")), "ST-GPUE-02"),
            (
                text(&good, ONE).replace("\"version\":1", "\"version\":1,\"version\":1"),
                "ST-GPUE-02",
            ),
            (text(&good, ONE) + "{}", "ST-GPUE-02"),
            (text(&good, ONE).replace("\"version\":1", "\"version\":2"), "ST-GPUE-03"),
            (text(&"0F".repeat(32), ONE), "ST-GPUE-04"),
            (text(&"0f".repeat(31), ONE), "ST-GPUE-04"),
            (text(&"0f".repeat(33), ONE), "ST-GPUE-04"),
            (text(&"00".repeat(32), ONE), "ST-GPUE-04"),
            (text(&good, ""), "ST-GPUE-04"),
            (many(MAX_DEVICES + 1), "ST-GPUE-04"),
            (text(&good, &entry("01:00.0", "g")), "ST-GPUE-04"),
            (text(&good, &entry("0000:01:00.0", "")), "ST-GPUE-04"),
            (text(&good, &entry("0000:01:00.0", "a b")), "ST-GPUE-04"),
            (text(&good, &entry("0000:01:00.0", &"g".repeat(129))), "ST-GPUE-04"),
            (text(&good, &format!("{ONE},{}", entry("0000:01:00.0", "other"))), "ST-GPUE-04"),
            (text(&good, &format!("{ONE},{}", entry("0000:02:00.0", "gpu0"))), "ST-GPUE-04"),
        ] {
            let failure = Request::parse(request.as_bytes()).unwrap_err();
            assert_eq!(failure.code().as_str(), code, "{request}: {failure}");
        }
    }

    #[test]
    fn a_request_for_switches_has_names_alone() {
        let good = "0f".repeat(32);
        let text = |challenge: &str, names: &str| {
            format!(r#"{{"version":1,"challenge":"{challenge}","switches":[{names}]}}"#)
        };
        let request = SwitchRequest::parse(text(&good, r#""s0","s1""#).as_bytes()).unwrap();
        assert_eq!(
            (request.challenge, request.names),
            ([0x0f; 32], vec!["s0".into(), "s1".into()])
        );
        let many = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!(r#""s{n}""#)).collect();
            text(&good, &names.join(","))
        };
        assert!(SwitchRequest::parse(many(MAX_SWITCHES).as_bytes()).is_ok());
        for (request, code) in [
            (" ".repeat(MAX_REQUEST_BYTES + 1), "ST-GPUE-01"),
            (self::text(&good, ONE), "ST-GPUE-02"),
            (text(&good, "0"), "ST-GPUE-02"),
            (text(&good, r#""s""#).replace("]}", "],\"devices\":[]}"), "ST-GPUE-02"),
            (text(&good, r#""s""#).replace("\"version\":1", "\"version\":2"), "ST-GPUE-03"),
            (text(&"00".repeat(32), r#""s""#), "ST-GPUE-04"),
            (text(&"0f".repeat(31), r#""s""#), "ST-GPUE-04"),
            (text(&good, ""), "ST-GPUE-04"),
            (text(&good, r#""""#), "ST-GPUE-04"),
            (text(&good, r#""a b""#), "ST-GPUE-04"),
            (text(&good, r#""s","s""#), "ST-GPUE-04"),
            (many(MAX_SWITCHES + 1), "ST-GPUE-04"),
        ] {
            let failure = SwitchRequest::parse(request.as_bytes()).unwrap_err();
            assert_eq!(failure.code().as_str(), code, "{request}: {failure}");
        }
        assert!(Request::parse(text(&good, r#""s""#).as_bytes()).is_err());
    }
}
