//! The log behind the four run-time registers: what was extended into which register, in which order.
//!
//! A digest counts only because replaying all of them gives the registers of the quote; a payload counts only because its
//! digest is recomputed here. Own events hash as `SHA-384(name ‖ 0x00 ‖ payload)`.

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::{
    claims::Purpose,
    codes::Code,
    fixed_hex::{FixedHex, Hex32, Hex48, HexBytes},
    launch::LaunchDigest,
};

/// The agent's first event in register 3; its payload is `H`.
pub const LAUNCH_EVENT: &str = "sealtune-launch";
/// Written right before untrusted code starts; its payload is the digest of the job specification.
pub const JOB_START_EVENT: &str = "job-start";
/// The register that software in the guest extends.
pub const RUNTIME_REGISTER: usize = 3;

pub const MAX_EVENTS: usize = 512;
const MAX_EVENT_NAME: usize = 64;
const MAX_EVENT_PAYLOAD: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Register 0 to 3.
    pub imr: u8,
    pub name: String,
    pub digest: Hex48,
    pub payload: HexBytes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventLog {
    pub events: Vec<Event>,
}

/// The four run-time registers.
pub type Registers = [Hex48; 4];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    #[error("accept the event log: event {index}: {reason}")]
    Malformed { index: usize, reason: &'static str },
    #[error("accept the event log: {found} events, the limit is {MAX_EVENTS}")]
    TooMany { found: usize },
    #[error(
        "accept the event log: the digest of event {index} (`{name}`) is not that of its payload"
    )]
    Digest { index: usize, name: String },
    #[error(
        "replay the event log: register {register} comes out as {replayed}, the quote says {quoted}"
    )]
    Replay { register: usize, replayed: Hex48, quoted: Hex48 },
    #[error("accept register 3: no `sealtune-launch` event")]
    LaunchMissing,
    #[error("accept register 3: `sealtune-launch` is not the first event")]
    LaunchNotFirst,
    #[error("accept register 3: `sealtune-launch` occurs {0} times")]
    LaunchRepeated(usize),
    #[error("accept register 3: `sealtune-launch` names another launch configuration")]
    LaunchPayload,
    #[error("accept register 3: a `job-start` in evidence for {0}: this VM has already run a job")]
    JobStartEarly(Purpose),
    #[error("accept register 3: no `job-start` in evidence for {0}")]
    JobStartMissing(Purpose),
    #[error("accept register 3: `job-start` occurs {0} times")]
    JobStartRepeated(usize),
    #[error("accept register 3: `job-start` names another job specification")]
    JobStartPayload,
    #[error("accept register 3: unknown event `{0}`")]
    UnknownEvent(String),
}

impl EventLogError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Malformed { .. } | Self::TooMany { .. } => Code::LogMalformed,
            Self::Digest { .. } => Code::LogDigest,
            Self::Replay { .. } => Code::LogReplay,
            Self::LaunchMissing | Self::LaunchNotFirst => Code::LogLaunchMissing,
            Self::LaunchRepeated(_) => Code::LogLaunchRepeated,
            Self::LaunchPayload => Code::LogLaunchPayload,
            Self::JobStartEarly(_) => Code::LogJobStartEarly,
            Self::JobStartMissing(_) => Code::LogJobStartMissing,
            Self::JobStartRepeated(_) => Code::LogJobStartRepeated,
            Self::JobStartPayload => Code::LogJobStartPayload,
            Self::UnknownEvent(_) => Code::LogUnknownEvent,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Event {
    pub fn new(imr: u8, name: impl Into<String>, payload: Vec<u8>) -> Self {
        let name = name.into();
        let digest = event_digest(&name, &payload);
        Self { imr, name, digest, payload: HexBytes(payload) }
    }

    pub fn launch(digest: &LaunchDigest) -> Self {
        Self::new(3, LAUNCH_EVENT, digest.0.0.to_vec())
    }

    pub fn job_start(spec: &Hex32) -> Self {
        Self::new(3, JOB_START_EVENT, spec.0.to_vec())
    }
}

impl EventLog {
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Bounds, names, and that each digest is that of its payload.
    pub fn check_events(&self) -> Result<(), EventLogError> {
        if self.events.len() > MAX_EVENTS {
            return Err(EventLogError::TooMany { found: self.events.len() });
        }
        for (index, event) in self.events.iter().enumerate() {
            let malformed = |reason| Err(EventLogError::Malformed { index, reason });
            if event.imr > 3 {
                return malformed("there are registers 0 to 3");
            }
            if !is_event_name(&event.name) {
                return malformed("expected a name of lower-case letters, digits and -");
            }
            if event.payload.0.len() > MAX_EVENT_PAYLOAD {
                return malformed("the payload is longer than 4096 bytes");
            }
            if event_digest(&event.name, &event.payload.0) != event.digest {
                return Err(EventLogError::Digest { index, name: event.name.clone() });
            }
        }
        Ok(())
    }

    /// The registers that these events lead to, from all zero.
    pub fn replay(&self) -> Registers {
        let mut registers = [Hex48::ZERO; 4];
        for event in &self.events {
            if let Some(register) = registers.get_mut(usize::from(event.imr)) {
                *register = extend(register, &event.digest);
            }
        }
        registers
    }

    /// Whether the boot is in this log. The firmware of a real machine keeps a log of its own, in another form.
    pub fn has_boot_events(&self) -> bool {
        self.events.iter().any(|event| usize::from(event.imr) != RUNTIME_REGISTER)
    }

    /// That the log explains all four registers of a quote.
    pub fn check_replay(&self, quoted: &Registers) -> Result<(), EventLogError> {
        check_registers(&self.replay(), quoted)
    }

    /// The rules of register 3, where nothing else may stand; see [`check_own_events`].
    pub fn check_runtime(
        &self,
        purpose: Purpose,
        launch: &LaunchDigest,
        spec: Option<&Hex32>,
    ) -> Result<(), EventLogError> {
        let runtime: Vec<OwnEvent<'_>> = self
            .events
            .iter()
            .filter(|event| usize::from(event.imr) == RUNTIME_REGISTER)
            .map(|event| OwnEvent { name: &event.name, payload: &event.payload.0 })
            .collect();
        check_own_events(&runtime, purpose, launch, spec)
    }
}

/// An event of Sealtune's agent, whichever log it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnEvent<'a> {
    pub(crate) name: &'a str,
    pub(crate) payload: &'a [u8],
}

/// Whether Sealtune's agent writes events of this name.
pub(crate) fn is_own_event(name: &str) -> bool {
    name == LAUNCH_EVENT || name == JOB_START_EVENT
}

/// What the agent may have written: first and once `sealtune-launch` with this `H`; `job-start` never before a job, and
/// exactly once, with this specification, after.
pub(crate) fn check_own_events(
    events: &[OwnEvent<'_>],
    purpose: Purpose,
    launch: &LaunchDigest,
    spec: Option<&Hex32>,
) -> Result<(), EventLogError> {
    if let Some(other) = events.iter().find(|event| !is_own_event(event.name)) {
        return Err(EventLogError::UnknownEvent(other.name.to_owned()));
    }
    let named = |name: &'static str| events.iter().filter(move |event| event.name == name);
    let first = events.first().ok_or(EventLogError::LaunchMissing)?;
    match named(LAUNCH_EVENT).count() {
        0 => return Err(EventLogError::LaunchMissing),
        1 => {}
        count => return Err(EventLogError::LaunchRepeated(count)),
    }
    if first.name != LAUNCH_EVENT {
        return Err(EventLogError::LaunchNotFirst);
    }
    if first.payload != launch.0.0 {
        return Err(EventLogError::LaunchPayload);
    }
    match (purpose.follows_job_start(), named(JOB_START_EVENT).count()) {
        (false, 0) => return Ok(()),
        (false, _) => return Err(EventLogError::JobStartEarly(purpose)),
        (true, 0) => return Err(EventLogError::JobStartMissing(purpose)),
        (true, 1) => {}
        (true, count) => return Err(EventLogError::JobStartRepeated(count)),
    }
    let started = named(JOB_START_EVENT).next();
    let agrees = started.zip(spec).is_some_and(|(event, spec)| event.payload == spec.0);
    if agrees { Ok(()) } else { Err(EventLogError::JobStartPayload) }
}

/// That the registers which events lead to are those of a quote.
pub fn check_registers(replayed: &Registers, quoted: &Registers) -> Result<(), EventLogError> {
    for (register, (replayed, quoted)) in replayed.iter().zip(quoted).enumerate() {
        if replayed != quoted {
            let (replayed, quoted) = (*replayed, *quoted);
            return Err(EventLogError::Replay { register, replayed, quoted });
        }
    }
    Ok(())
}

/// `SHA-384(name ‖ 0x00 ‖ payload)`.
pub fn event_digest(name: &str, payload: &[u8]) -> Hex48 {
    let mut context = digest::Context::new(&digest::SHA384);
    context.update(name.as_bytes());
    context.update(&[0]);
    context.update(payload);
    sha384_of(context)
}

/// `SHA-384(register ‖ digest)`, what the CPU does on an extend.
pub fn extend(register: &Hex48, event: &Hex48) -> Hex48 {
    let mut context = digest::Context::new(&digest::SHA384);
    context.update(register.as_bytes());
    context.update(event.as_bytes());
    sha384_of(context)
}

fn sha384_of(context: digest::Context) -> Hex48 {
    let mut bytes = [0; 48];
    bytes.copy_from_slice(context.finish().as_ref());
    FixedHex(bytes)
}

fn is_event_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_EVENT_NAME
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Fuzz entry: a log that passes replays to registers that it also matches, and to no others.
pub fn fuzz_event_log(data: &[u8]) {
    if data.len() > 1 << 20 {
        return;
    }
    let Ok(log) = serde_json::from_slice::<EventLog>(data) else { return };
    if log.check_events().is_ok() {
        let mut registers = log.replay();
        assert!(log.check_replay(&registers).is_ok());
        registers[RUNTIME_REGISTER].0[0] ^= 1;
        assert!(log.check_replay(&registers).is_err());
    }
    for purpose in Purpose::ALL {
        let launch = LaunchDigest(FixedHex([1; 32]));
        let _ = log.check_runtime(purpose, &launch, Some(&FixedHex([2; 32])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> LaunchDigest {
        LaunchDigest(FixedHex([1; 32]))
    }

    fn spec() -> Hex32 {
        FixedHex([2; 32])
    }

    fn log(events: &[Event]) -> EventLog {
        EventLog { events: events.to_vec() }
    }

    #[test]
    fn extending_chains_digests() {
        let one = Event::new(1, "kernel", vec![1]);
        let two = Event::new(1, "kernel", vec![2]);
        let registers = log(&[one.clone(), two.clone()]).replay();
        assert_eq!(registers[1], extend(&extend(&Hex48::ZERO, &one.digest), &two.digest));
        assert_eq!(registers[0], Hex48::ZERO);
        assert_ne!(log(&[two, one]).replay()[1], registers[1], "order counts");
    }

    #[test]
    fn register_three_has_one_order_of_events_for_each_purpose() {
        let l = Event::launch(&launch());
        let j = Event::job_start(&spec());
        let other_launch = Event::launch(&LaunchDigest(FixedHex([9; 32])));
        let other_job = Event::job_start(&FixedHex([9; 32]));
        let stray = Event::new(3, "extra", vec![]);
        use Purpose::{Identity, Offer, Receipt, Start};
        let before = [Identity, Offer];
        let after = [Start, Receipt];
        let cases: Vec<(&[Purpose], Vec<Event>, Option<Code>)> = vec![
            (&before, vec![l.clone()], None),
            (&after, vec![l.clone(), j.clone()], None),
            (&before, vec![l.clone(), j.clone()], Some(Code::LogJobStartEarly)),
            (&after, vec![l.clone()], Some(Code::LogJobStartMissing)),
            (&after, vec![l.clone(), j.clone(), j.clone()], Some(Code::LogJobStartRepeated)),
            (&after, vec![l.clone(), other_job], Some(Code::LogJobStartPayload)),
            (&after, vec![j.clone(), l.clone()], Some(Code::LogLaunchMissing)),
            (&after, vec![j.clone()], Some(Code::LogLaunchMissing)),
            (&before, vec![], Some(Code::LogLaunchMissing)),
            (&before, vec![l.clone(), l.clone()], Some(Code::LogLaunchRepeated)),
            (&before, vec![other_launch], Some(Code::LogLaunchPayload)),
            (&before, vec![l, stray], Some(Code::LogUnknownEvent)),
        ];
        for (purposes, events, expected) in cases {
            for purpose in purposes {
                let found = log(&events).check_runtime(*purpose, &launch(), Some(&spec()));
                assert_eq!(
                    found.err().map(|error| error.entry()),
                    expected,
                    "{purpose} {events:?}"
                );
            }
        }
    }

    #[test]
    fn a_payload_that_its_digest_does_not_cover_is_refused() {
        let mut event = Event::new(2, "cmdline", b"quiet".to_vec());
        event.payload.0 = b"debug".to_vec();
        assert_eq!(log(&[event]).check_events().expect_err("digest").entry(), Code::LogDigest);
    }

    #[test]
    fn refuses_registers_names_and_sizes_out_of_bounds() {
        let long = Event::new(0, "x", vec![0; MAX_EVENT_PAYLOAD + 1]);
        let upper = Event::new(0, "Kernel", vec![]);
        let fifth = Event::new(4, "kernel", vec![]);
        for event in [long, upper, fifth] {
            let error = log(&[event]).check_events().expect_err("malformed");
            assert_eq!(error.entry(), Code::LogMalformed);
        }
        let many = log(&vec![Event::new(0, "x", vec![]); MAX_EVENTS + 1]);
        assert_eq!(many.check_events().expect_err("too many").entry(), Code::LogMalformed);
    }
}
