//! dstack's JSON event log, as its guest agent hands it out beside a quote (0.5 and the current generation).
//!
//! A list of `{imr, event_type, digest, event, event_payload, version?, preimage?}`. Registers count from 0. Events of
//! registers 0 to 2 come from the firmware's log, often with their payload removed; events of register 3 are dstack's own
//! and are recomputed here by the version that they declare, also where the log leaves the digest out.

use serde::{Deserialize, Serialize};

use super::{
    error::LogError,
    event::{EventType, LoggedEvent, Register},
    payload::{Binding, bind},
    replay,
    runtime::{DigestVersion, RUNTIME_EVENT_TYPE, is_event_name},
};
use crate::{
    event_log::Registers,
    fixed_hex::{Hex48, HexBytes},
};

pub const MAX_JSON_BYTES: usize = 1 << 20;
pub const MAX_JSON_EVENTS: usize = 1024;

/// One event as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEvent {
    imr: u32,
    event_type: u32,
    /// Empty for a run-time event of the current generation.
    digest: HexBytes,
    #[serde(default)]
    event: String,
    #[serde(default)]
    event_payload: HexBytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preimage: Option<HexBytes>,
}

/// An event whose register, type and digest fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DstackEvent {
    pub logged: LoggedEvent,
    pub name: String,
    /// Of an event that dstack made itself; its payload is bound to its digest.
    pub version: Option<DigestVersion>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DstackLog {
    pub events: Vec<DstackEvent>,
}

impl DstackLog {
    /// Reads a log and recomputes the digest of every run-time event in it.
    pub fn parse(json: &[u8]) -> Result<Self, LogError> {
        let too_long = |what, found, limit| LogError::TooLong { what, found, limit };
        if json.len() > MAX_JSON_BYTES {
            return Err(too_long("bytes", json.len(), MAX_JSON_BYTES));
        }
        let events: Vec<WireEvent> = serde_json::from_slice(json)
            .map_err(|error| LogError::JsonUnreadable(error.to_string()))?;
        if events.len() > MAX_JSON_EVENTS {
            return Err(too_long("events", events.len(), MAX_JSON_EVENTS));
        }
        let events = events.into_iter().enumerate().map(|(index, event)| event.check(index));
        Ok(Self { events: events.collect::<Result<_, _>>()? })
    }

    /// All events without their names, for the rules that hold in every format.
    pub fn logged(&self) -> Vec<LoggedEvent> {
        self.events.iter().map(|event| event.logged.clone()).collect()
    }

    pub fn replay(&self) -> Registers {
        replay::replay(&self.logged())
    }

    /// That the log explains all four registers of a quote.
    pub fn check_replay(&self, quoted: &Registers) -> Result<(), LogError> {
        replay::check(&self.logged(), quoted)
    }

    pub fn check_separators(&self) -> Result<(), LogError> {
        replay::check_separators(&self.logged())
    }

    /// Says of each event how far its payload can be believed. An empty payload of a boot event was removed on the way: it
    /// says nothing, so there is nothing to refuse.
    pub fn check_payloads(&self) -> Result<Vec<Binding>, LogError> {
        let bind_one = |(index, event): (usize, &DstackEvent)| match event.version {
            Some(_) => Ok(Binding::Payload),
            None if event.logged.payload.is_empty() => Ok(Binding::Comment),
            None => bind(index, &event.logged),
        };
        self.events.iter().enumerate().map(bind_one).collect()
    }
}

impl WireEvent {
    fn check(self, index: usize) -> Result<DstackEvent, LogError> {
        let register = Register::from_imr(self.imr)
            .ok_or(LogError::RegisterOutOfRange { index, register: self.imr })?;
        let event_type = EventType::from(self.event_type);
        let form = |reason| LogError::EventForm { index, event_type, reason };
        match (register, self.event_type == RUNTIME_EVENT_TYPE) {
            (Register::Rtmr3, true) => return self.check_runtime(index),
            (Register::Rtmr3, false) => {
                return Err(form("register 3 holds run-time events only"));
            }
            (_, true) => return Err(form("run-time events go into register 3")),
            (_, false) => {}
        }
        if self.version.is_some() || self.preimage.is_some() {
            return Err(form("only run-time events have a version or a preimage"));
        }
        let digest = fixed(&self.digest).ok_or_else(|| form("its digest is not 48 bytes"))?;
        if event_type == EventType::NoAction && !digest.is_zero() {
            return Err(LogError::NoActionDigest { index });
        }
        let payload = self.event_payload.0;
        let logged = LoggedEvent { register, event_type, digest, payload };
        Ok(DstackEvent { logged, name: self.event, version: None })
    }

    fn check_runtime(self, index: usize) -> Result<DstackEvent, LogError> {
        if !is_event_name(&self.event) {
            return Err(LogError::NameAmbiguous { index });
        }
        let version = DigestVersion::declared(self.version)
            .ok_or(LogError::DigestVersion { index, version: self.version.unwrap_or_default() })?;
        let payload = self.event_payload.0;
        let wrong = || LogError::RuntimeDigest { index, name: self.event.clone() };
        let preimage = version.preimage(&self.event, &payload).ok_or_else(wrong)?;
        match (&self.preimage, version) {
            (Some(given), _) if given.0 == preimage => {}
            (None, DigestVersion::V1) => {}
            _ => return Err(LogError::Preimage { index, name: self.event }),
        }
        let digest = version.digest(&self.event, &payload).ok_or_else(wrong)?;
        if !self.digest.0.is_empty() && fixed(&self.digest) != Some(digest) {
            return Err(wrong());
        }
        let logged = LoggedEvent {
            register: Register::Rtmr3,
            event_type: EventType::DstackRuntime,
            digest,
            payload,
        };
        Ok(DstackEvent { logged, name: self.event, version: Some(version) })
    }
}

fn fixed(bytes: &HexBytes) -> Option<Hex48> {
    <[u8; 48]>::try_from(bytes.0.as_slice()).ok().map(Into::into)
}

/// Fuzz entry: a log that parses binds every run-time payload and replays to its own registers only.
pub fn fuzz_dstack_log(data: &[u8]) {
    let Ok(log) = DstackLog::parse(data) else { return };
    assert!(log.events.len() <= MAX_JSON_EVENTS);
    for event in &log.events {
        assert_eq!(event.version.is_some(), event.logged.register == Register::Rtmr3);
        if let Some(version) = event.version {
            let digest = version.digest(&event.name, &event.logged.payload);
            assert_eq!(digest, Some(event.logged.digest));
            assert!(!event.name.contains(':'));
        }
    }
    let mut registers = log.replay();
    assert_eq!(log.check_replay(&registers), Ok(()));
    registers[3].0[47] ^= 1;
    assert!(log.check_replay(&registers).is_err());
    let _ = (log.check_payloads(), log.check_separators());
    if let Ok(identity) = super::DstackIdentity::read(&log) {
        assert!(identity.boot_register != Hex48::ZERO);
    }
}
