//! One event of a measured boot, whichever format it came in.
//!
//! Event types: TCG PC Client Platform Firmware Profile 1.06, table 14, and dstack's run-time type.

use std::fmt;

use crate::fixed_hex::Hex48;

/// Where an event was extended. Formats count differently: CCEL from 1 (0 is MRTD), dstack's JSON from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// Fixed when the VM is built; no event extends it.
    Mrtd,
    Rtmr0,
    Rtmr1,
    Rtmr2,
    Rtmr3,
}

impl Register {
    /// The measurement-register index of a CCEL record.
    pub fn from_ccel(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Mrtd),
            1 => Some(Self::Rtmr0),
            2 => Some(Self::Rtmr1),
            3 => Some(Self::Rtmr2),
            4 => Some(Self::Rtmr3),
            _ => None,
        }
    }

    /// The `imr` of a JSON event.
    pub fn from_imr(imr: u32) -> Option<Self> {
        imr.checked_add(1).and_then(Self::from_ccel)
    }

    /// The run-time register's number, where it is one.
    pub fn rtmr(self) -> Option<usize> {
        match self {
            Self::Mrtd => None,
            Self::Rtmr0 => Some(0),
            Self::Rtmr1 => Some(1),
            Self::Rtmr2 => Some(2),
            Self::Rtmr3 => Some(3),
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rtmr() {
            Some(number) => write!(f, "RTMR{number}"),
            None => f.write_str("MRTD"),
        }
    }
}

macro_rules! event_types {
    ($($name:ident = $value:literal,)*) => {
        /// What kind of thing an event measured; decides how its digest relates to its payload.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType {
            $($name,)*
            /// Any number that has no name here.
            Other(u32),
        }

        impl From<u32> for EventType {
            fn from(number: u32) -> Self {
                match number {
                    $($value => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<EventType> for u32 {
            fn from(kind: EventType) -> Self {
                match kind {
                    $(EventType::$name => $value,)*
                    EventType::Other(other) => other,
                }
            }
        }
    };
}

event_types! {
    PostCode = 0x1,
    NoAction = 0x3,
    Separator = 0x4,
    EventTag = 0x6,
    CrtmVersion = 0x8,
    PlatformConfigFlags = 0xa,
    Ipl = 0xd,
    DstackRuntime = 0x0800_0001,
    VariableDriverConfig = 0x8000_0001,
    VariableBoot = 0x8000_0002,
    BootServicesApplication = 0x8000_0003,
    Gpt = 0x8000_0006,
    Action = 0x8000_0007,
    FirmwareBlob2 = 0x8000_000a,
    HandoffTables2 = 0x8000_000b,
    VariableAuthority = 0x8000_00e0,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", u32::from(*self))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    pub register: Register,
    pub event_type: EventType,
    /// SHA-384; zero where nothing was extended.
    pub digest: Hex48,
    /// A comment until [`crate::logs::payload::bind`] ties it to the digest.
    pub payload: Vec<u8>,
}

impl LoggedEvent {
    /// The run-time register that this event was extended into, where it was extended at all.
    pub fn extended_into(&self) -> Option<usize> {
        match self.event_type {
            EventType::NoAction => None,
            _ => self.register.rtmr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 40: one-based in CCEL, zero-based in JSON, and nothing above register 3.
    #[test]
    fn the_two_formats_count_registers_from_different_ends() {
        for (ccel, imr, rtmr) in [(1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 3, 3)] {
            assert_eq!(Register::from_ccel(ccel), Register::from_imr(imr));
            assert_eq!(Register::from_imr(imr).and_then(Register::rtmr), Some(rtmr));
        }
        assert_eq!(Register::from_ccel(0).and_then(Register::rtmr), None);
        for beyond in [5, 6, u32::MAX - 1, u32::MAX] {
            assert_eq!(Register::from_ccel(beyond), None, "{beyond}");
        }
        for beyond in [4, 5, u32::MAX] {
            assert_eq!(Register::from_imr(beyond), None, "{beyond}");
        }
    }

    #[test]
    fn numbers_and_names_of_types_lead_to_each_other() {
        for number in (0..0x20).chain(0x8000_0000..0x8000_0100).chain([0x0800_0001, u32::MAX]) {
            assert_eq!(u32::from(EventType::from(number)), number);
        }
        assert_eq!(EventType::from(4), EventType::Separator);
        assert_eq!(EventType::from(5), EventType::Other(5));
    }
}
