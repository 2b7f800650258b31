//! The events of RTMR0 that a firmware makes, for policies that leave to the host what depends on its machine alone.

use serde::{Deserialize, Serialize};

use super::{Layout, ReferenceValues, RegisterRow};
use crate::{
    fixed_hex::Hex48,
    launch::Shape,
    layout1::BootRegisters,
    logs::{EventType, LoggedEvent, Register},
    measure::{
        Comparison, DigestSource, ExpectedEvent, MeasureError, Strictness, compare_register,
        register,
    },
};

pub(super) const MAX_LAYOUTS: usize = 256;
pub(super) const MAX_LAYOUT_EVENTS: usize = 64;

/// What is stated of the host's ACPI code in the kernel that reference values describe. A signed release manifest states it;
/// no file of reference values can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostCode {
    #[default]
    Unstated,
    /// Kept away from private memory.
    Confined,
}

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
    /// Of a launch whose events are known. Fails where a digest is missing that is not the host's to decide.
    pub fn of(firmware: Hex48, vcpus: u32, events: &[ExpectedEvent]) -> Result<Self, MeasureError> {
        let own = events.iter().filter(|event| event.register == Register::Rtmr0);
        let events = own.map(|event| {
            let digest = match (event.source.is_host_layout(), event.digest) {
                (true, _) => None,
                (false, Some(digest)) => Some(digest),
                (false, None) => return Err(MeasureError::NotRecorded(event.source)),
            };
            Ok(Rtmr0Event { event_type: event.event_type.into(), digest })
        });
        Ok(Self { firmware, vcpus, events: events.collect::<Result<_, _>>()? })
    }

    /// Holds a log, which was replayed to a quote before, against these events.
    pub fn compare(&self, logged: &[LoggedEvent]) -> Result<Comparison, MeasureError> {
        let expected: Vec<_> = self.events.iter().enumerate().map(expected).collect();
        compare_register(Register::Rtmr0, &expected, logged, Strictness::LayoutFree)
    }

    pub(super) fn is_of(&self, row: &RegisterRow) -> bool {
        self.firmware == row.firmware && self.vcpus == row.vcpus
    }

    /// Something must be fixed, or any firmware would fit.
    pub(super) fn is_valid(&self) -> bool {
        self.events.len() <= MAX_LAYOUT_EVENTS
            && self.events.iter().any(|event| event.digest.is_some())
    }
}

impl RegisterRow {
    /// What a recipe gives for one firmware and shape: without register 0 where the host's tables were not recorded.
    pub fn by_events(
        firmware: Hex48,
        shape: Shape,
        mrtd: Hex48,
        events: &[ExpectedEvent],
    ) -> Result<Self, MeasureError> {
        let rtmr0 = match register(Register::Rtmr0, events) {
            Ok(value) => Some(value),
            Err(MeasureError::NotRecorded(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            layout: Layout::Recorded,
            firmware,
            vcpus: shape.vcpus,
            memory_mib: Some(shape.memory_mib),
            mrtd,
            rtmr0,
            rtmr1: register(Register::Rtmr1, events)?,
            rtmr2: register(Register::Rtmr2, events)?,
        })
    }
}

impl ReferenceValues {
    /// The row whose other registers these are, and whose RTMR0 is made of the right events with nothing but the host's own
    /// tables free. The log must have been replayed to the quote before. `Err`: why the last row that could be meant is not.
    pub fn find_by_events(
        &self,
        measured: &BootRegisters,
        vcpus: u32,
        logged: &[LoggedEvent],
    ) -> Option<Result<(&RegisterRow, Comparison), MeasureError>> {
        let mut found = None;
        for row in self.registers.iter().filter(|row| row.vcpus == vcpus) {
            let known = (row.mrtd, row.rtmr1, row.rtmr2);
            if known != (measured.mrtd, measured.rtmr1, measured.rtmr2) {
                continue;
            }
            for layout in self.rtmr0.iter().filter(|layout| layout.is_of(row)) {
                match layout.compare(logged) {
                    Ok(comparison) => return Some(Ok((row, comparison))),
                    Err(error) => found = Some(Err(error)),
                }
            }
        }
        found
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
