//! Where the registers of a VM leave those of a release.

use crate::{
    codes::{Code, CodeEntry},
    measure,
    verdict::Cause,
};

/// The first register at which measured values leave the reference values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    Firmware,
    Shape,
    /// No row says what register 0 is: the host's tables were not recorded.
    Unrecorded,
    Kernel,
    Boot,
}

impl Departure {
    fn entry(self) -> CodeEntry {
        match self {
            Self::Firmware => Code::FirmwareUnknown.entry(),
            Self::Shape => Code::ShapeUnknown.entry(),
            Self::Unrecorded => measure::Code::NotRecorded.entry(),
            Self::Kernel => Code::KernelUnknown.entry(),
            Self::Boot => Code::BootUnknown.entry(),
        }
    }
}

impl Cause for Departure {
    fn code(self) -> &'static str {
        self.entry().code
    }

    fn text(self) -> &'static str {
        self.entry().cause
    }
}
