//! The events of RTMR0 that a firmware makes, for policies that leave to the host what depends on its machine alone.

use serde::{Deserialize, Serialize};

use crate::{
    fixed_hex::Hex48,
    logs::{EventType, LoggedEvent, Register},
    measure::{
        Comparison, DigestSource, ExpectedEvent, MeasureError, Strictness, compare_register,
    },
};

pub(super) const MAX_LAYOUTS: usize = 256;
pub(super) const MAX_LAYOUT_EVENTS: usize = 64;

/// Type and order of the events of RTMR0, with every digest that does not depend on the host's tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rtmr0Layout {
    /// SHA-384 of the firmware file.
    pub firmware: Hex48,
    pub vcpus: u32,
    pub events: Vec<Rtmr0Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rtmr0Event {
    /// As the log's format numbers it.
    pub event_type: u32,
    /// Absent where the host decides it: the list of memory, the ACPI tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hex48>,
}

impl Rtmr0Layout {
    /// Of a launch whose events are known. `None` where a digest is missing that is not the host's to decide.
    pub fn of(firmware: Hex48, vcpus: u32, events: &[ExpectedEvent]) -> Option<Self> {
        let own = events.iter().filter(|event| event.register == Register::Rtmr0);
        let events = own.map(|event| {
            let digest = if event.source.is_host_layout() { None } else { Some(event.digest?) };
            Some(Rtmr0Event { event_type: event.event_type.into(), digest })
        });
        Some(Self { firmware, vcpus, events: events.collect::<Option<_>>()? })
    }

    /// Holds a log, which was replayed to a quote before, against these events.
    pub fn compare(&self, logged: &[LoggedEvent]) -> Result<Comparison, MeasureError> {
        let expected: Vec<_> = self.events.iter().enumerate().map(expected).collect();
        compare_register(Register::Rtmr0, &expected, logged, Strictness::LayoutFree)
    }

    /// Something must be fixed, or any firmware would fit.
    pub(super) fn is_valid(&self) -> bool {
        self.events.len() <= MAX_LAYOUT_EVENTS
            && self.events.iter().any(|event| event.digest.is_some())
    }
}

fn expected((index, event): (usize, &Rtmr0Event)) -> ExpectedEvent {
    ExpectedEvent {
        register: Register::Rtmr0,
        event_type: EventType::from(event.event_type),
        name: format!("event {index}"),
        source: match event.digest {
            Some(_) => DigestSource::Fixed,
            None => DigestSource::AcpiTables,
        },
        digest: event.digest,
    }
}
