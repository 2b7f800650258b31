//! Why a launch cannot be measured, or is not the one that was expected.

use super::{codes::Code, recipe::DigestSource};
use crate::{
    fixed_hex::Hex48,
    logs::{EventType, Register},
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    #[error("read the firmware: {0} bytes")]
    FirmwareLength(usize),
    #[error("read the firmware's table: {0}")]
    FirmwareTable(&'static str),
    #[error("read the firmware: it has no TDX metadata")]
    FirmwareNotTdx,
    #[error("read the firmware's TDX metadata: {0}")]
    FirmwareMetadata(&'static str),
    #[error("accept section {index} of the firmware: {reason}")]
    FirmwareSection { index: usize, reason: &'static str },
    #[error("read the {what}: {length} bytes")]
    KernelLength { what: &'static str, length: usize },
    #[error("read the kernel's setup header: {0}")]
    KernelHeader(&'static str),
    #[error("hash the kernel as an EFI program: {0}")]
    KernelPe(&'static str),
    #[error("place an initramfs of {initramfs} bytes below {limit:#x}")]
    KernelFit { initramfs: usize, limit: u64 },
    #[error("accept the command line: {0}")]
    CommandLine(&'static str),
    #[error("lay out {bytes} bytes of memory: {reason}")]
    Memory { bytes: u64, reason: &'static str },
    #[error("read the ACPI tables: {0}")]
    AcpiTables(&'static str),
    #[error("read the recipe: {0}")]
    RecipeUnreadable(String),
    #[error("read the recipe: version {0}")]
    RecipeVersion(u32),
    #[error("accept the recipe: {0}")]
    RecipeField(&'static str),
    #[error("use the recipe: the firmware's {what} is {found}, the recipe's {expected}")]
    RecipeFirmware { what: &'static str, found: String, expected: String },
    #[error("measure the VM: no {0} recorded for its shape")]
    NotRecorded(DigestSource),
    #[error("accept {register}: {found} events, expected {expected}")]
    EventCount { register: Register, found: usize, expected: usize },
    #[error("accept event {index} of {register}: type {found}, expected {expected} (`{name}`)")]
    EventType {
        register: Register,
        index: usize,
        name: String,
        found: EventType,
        expected: EventType,
    },
    #[error(
        "accept event {} of {} (`{}`): digest {}, expected {}",
        .0.index, .0.register, .0.name, .0.found, .0.expected
    )]
    EventDigest(Box<EventDifference>),
    #[error("record the boot: its log does not lead to RTMR{0}")]
    BootReplay(usize),
    #[error("record the boot: its log has no event for the {0} of this image")]
    BootLacks(DigestSource),
}

/// What a VM is started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasuredFile {
    Firmware,
    /// Kernel, initramfs or command line.
    Image,
}

/// Two digests of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDifference {
    pub register: Register,
    /// Counted within its register.
    pub index: usize,
    pub name: String,
    pub found: Hex48,
    pub expected: Hex48,
}

impl MeasureError {
    pub fn entry(&self) -> Code {
        match self {
            Self::FirmwareLength(_) => Code::FirmwareLength,
            Self::FirmwareTable(_) => Code::FirmwareTable,
            Self::FirmwareNotTdx => Code::FirmwareNotTdx,
            Self::FirmwareMetadata(_) => Code::FirmwareMetadata,
            Self::FirmwareSection { .. } => Code::FirmwareSection,
            Self::KernelLength { .. } => Code::KernelLength,
            Self::KernelHeader(_) => Code::KernelHeader,
            Self::KernelPe(_) => Code::KernelPe,
            Self::KernelFit { .. } => Code::KernelFit,
            Self::CommandLine(_) => Code::CommandLine,
            Self::Memory { .. } => Code::Memory,
            Self::AcpiTables(_) => Code::AcpiTables,
            Self::RecipeUnreadable(_) => Code::RecipeUnreadable,
            Self::RecipeVersion(_) => Code::RecipeVersion,
            Self::RecipeField(_) => Code::RecipeField,
            Self::RecipeFirmware { .. } => Code::RecipeFirmware,
            Self::NotRecorded(_) => Code::NotRecorded,
            Self::EventCount { .. } => Code::EventCount,
            Self::EventType { .. } => Code::EventType,
            Self::EventDigest(_) => Code::EventDigest,
            Self::BootReplay(_) => Code::BootReplay,
            Self::BootLacks(_) => Code::BootLacks,
        }
    }

    /// The file that cannot be measured at all, whatever it is held against.
    pub fn file(&self) -> Option<MeasuredFile> {
        match self {
            Self::FirmwareLength(_)
            | Self::FirmwareTable(_)
            | Self::FirmwareNotTdx
            | Self::FirmwareMetadata(_)
            | Self::FirmwareSection { .. } => Some(MeasuredFile::Firmware),
            Self::KernelLength { .. }
            | Self::KernelHeader(_)
            | Self::KernelPe(_)
            | Self::KernelFit { .. }
            | Self::CommandLine(_) => Some(MeasuredFile::Image),
            _ => None,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}
