//! What the agent asks: a challenge, and the GPUs of the machine, each with the name that its evidence shall carry.

use serde::Deserialize;

use crate::{bus::Bus, failure::Failure};

pub(crate) const MAX_REQUEST_BYTES: usize = 8 * 1024;
pub(crate) const MAX_DEVICES: usize = 16;
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

impl Request {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(Failure::RequestTooLong);
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| Failure::RequestUnreadable(error.to_string()))?;
        let refuse = |field, reason| Err(Failure::RequestField { field, reason });
        if document.version != VERSION {
            return Err(Failure::RequestVersion(document.version));
        }
        let mut challenge = [0; 32];
        if document.challenge.bytes().any(|byte| byte.is_ascii_uppercase())
            || hex::decode_to_slice(&document.challenge, &mut challenge).is_err()
        {
            return refuse("challenge", "expected 64 lower-case hexadecimal digits");
        }
        if challenge == [0; 32] {
            return refuse("challenge", "it is zero");
        }
        if !(1..=MAX_DEVICES).contains(&document.devices.len()) {
            return refuse("devices", "expected 1 to 16");
        }
        let mut devices: Vec<Asked> = Vec::with_capacity(document.devices.len());
        for Entry { bus, name } in document.devices {
            let Some(bus) = Bus::parse(&bus) else {
                return refuse("devices.bus", "expected a PCI address");
            };
            let is_short = (1..=MAX_NAME).contains(&name.len());
            if !is_short || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
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
}
