//! Why there is no evidence, or none of one GPU.

use crate::{
    codes::Code,
    library::{CallError, LIBRARY},
    request::MAX_REQUEST_BYTES,
    switch_library::SwitchCallError,
    transcript::TranscriptError,
};

/// Each message fits after "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("read the request: it is longer than {MAX_REQUEST_BYTES} bytes")]
    RequestTooLong,
    #[error("read the request: {0}")]
    RequestUnreadable(String),
    #[error("read request version {0}, this program knows version 1")]
    RequestVersion(u32),
    #[error("accept the request: {field}: {reason}")]
    RequestField { field: &'static str, reason: &'static str },
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("read the driver's {0}: expected a short text without spaces")]
    Text(&'static str),
    #[error("read a PCI address that the driver gives")]
    Bus,
    #[error("find this GPU among the driver's {0}")]
    DeviceMissing(usize),
    #[error("accept the GPU {0}, which the driver has and the request does not, or has twice")]
    DeviceUnasked(String),
    #[error("get evidence: confidential computing is off")]
    CcOff,
    #[error("understand the driver's {what} {value}")]
    Value { what: &'static str, value: u32 },
    #[error("understand the GPU's architecture {0}")]
    Architecture(u32),
    #[error("read the device's report: {0}")]
    Report(#[from] TranscriptError),
    #[error("read the device's certificates: {length} bytes, the buffer has {limit}")]
    CertificatesLength { length: u32, limit: usize },
    #[error("read the device's certificates: they are no PEM text")]
    CertificatesForm,
    #[error("set the GPUs ready: they say {0} afterwards")]
    ReadyRefused(u32),
    #[error("{0}")]
    SwitchCall(#[from] SwitchCallError),
    #[error("match the NVSwitches: the driver has {found}, {asked} were asked for")]
    SwitchCount { found: usize, asked: usize },
    #[error("tell the NVSwitches apart: the driver has one twice")]
    SwitchTwice,
    #[error("understand the NVSwitch's architecture {0}")]
    SwitchArchitecture(i8),
    #[error("understand the NVSwitch's mode {0}")]
    SwitchMode(i8),
    #[error("get evidence: the NVSwitch is not in the mode for protected PCIe")]
    SwitchModeOff,
    #[error("read the NVSwitch's BIOS version in its report")]
    SwitchBios,
}

impl Failure {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::RequestTooLong => Code::RequestTooLong,
            Self::RequestUnreadable(_) => Code::RequestUnreadable,
            Self::RequestVersion(_) => Code::RequestVersion,
            Self::RequestField { .. } => Code::RequestField,
            Self::Call(CallError::Load(_)) => Code::LibraryLoad,
            Self::Call(CallError::Function(_)) => Code::LibraryFunction,
            Self::Call(CallError::Status { .. }) => Code::LibraryCall,
            Self::Text(_) => Code::DriverText,
            Self::Bus => Code::DriverBus,
            Self::DeviceMissing(_) => Code::DeviceMissing,
            Self::DeviceUnasked(_) => Code::DeviceUnasked,
            Self::CcOff => Code::CcOff,
            Self::Value { .. } => Code::CcValue,
            Self::Architecture(_) => Code::ArchitectureOther,
            Self::Report(TranscriptError::Length) => Code::ReportLength,
            Self::Report(TranscriptError::Form(_)) => Code::ReportForm,
            Self::Report(TranscriptError::Padding) => Code::ReportPadding,
            Self::Report(TranscriptError::Nonce) => Code::ReportNonce,
            Self::CertificatesLength { .. } => Code::CertificatesLength,
            Self::CertificatesForm => Code::CertificatesForm,
            Self::ReadyRefused(_) => Code::ReadyRefused,
            Self::SwitchCall(SwitchCallError::Load(_)) => Code::SwitchLibraryLoad,
            Self::SwitchCall(SwitchCallError::Function(_)) => Code::SwitchLibraryFunction,
            Self::SwitchCall(SwitchCallError::Generation(_)) => Code::SwitchLibraryGeneration,
            Self::SwitchCall(SwitchCallError::Code { .. }) => Code::SwitchLibraryCall,
            Self::SwitchCall(SwitchCallError::Answer { .. }) => Code::SwitchLibraryAnswer,
            Self::SwitchCount { .. } => Code::SwitchCount,
            Self::SwitchTwice => Code::SwitchTwice,
            Self::SwitchArchitecture(_) => Code::SwitchArchitecture,
            Self::SwitchMode(_) => Code::SwitchMode,
            Self::SwitchModeOff => Code::SwitchModeOff,
            Self::SwitchBios => Code::SwitchBios,
        }
    }
}

impl CallError {
    pub(crate) fn load(error: impl std::fmt::Display) -> Self {
        Self::Load(format!("load {LIBRARY}: {error}"))
    }
}
