//! What is used of NSCQ, NVIDIA's library for NVSwitches, as plain numbers and buffers. The library stands behind it; in tests
//! a simulated one.

use crate::library::Filled;

/// The first that loads. Programs of NVIDIA's name the first.
pub(crate) const LIBRARIES: [&str; 2] = ["libnvidia-nscq.so.2", "libnvidia-nscq.so"];
/// The generation of the interface that is spoken here; callbacks of another one have other arguments.
pub(crate) const GENERATION: u32 = 2;
pub(crate) const LS10: i8 = 2;

/// What a switch is called by the driver. The order of these is the order of the switches.
pub(crate) type Uuid = [u8; 16];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SwitchCallError {
    #[error("{0}")]
    Load(String),
    #[error("find {0} in the library for NVSwitches")]
    Function(&'static str),
    #[error("use generation {0} of the library for NVSwitches, this program knows {GENERATION}")]
    Generation(u32),
    #[error("{call}: code {code} ({meaning})", meaning = meaning(*code))]
    Code { call: &'static str, code: i8 },
    #[error("read the {what} from the library for NVSwitches: {fault}")]
    Answer { what: &'static str, fault: AnswerFault },
}

/// How the library may answer otherwise than once for each switch that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerFault {
    #[error("it gave none")]
    None,
    #[error("it gave more than one")]
    Repeated,
    #[error("it gave that of another switch")]
    Other,
    #[error("it did not say of which switch")]
    Unnamed,
    #[error("it gave nothing where a value must be")]
    Empty,
    #[error("it did not stop")]
    TooMany,
}

/// NSCQ's words for its numbers: above zero it did what it was told, with a caveat. NVIDIA's programs stop there too.
fn meaning(code: i8) -> &'static str {
    match code {
        1 => "library and driver do not fit together",
        -1 => "not implemented",
        -2 => "invalid UUID",
        -3 => "cannot be mounted",
        -4 => "overflow",
        -5 => "unexpected value",
        -6 => "unsupported driver",
        -7 => "driver error; or no permission",
        -8 => "timeout",
        -127 => "external error",
        -128 => "unspecified error",
        2.. => "unknown warning",
        _ => "unknown error",
    }
}

pub(crate) type SwitchCalled<T> = Result<T, SwitchCallError>;

pub(crate) trait SwitchLibrary {
    /// Of every switch that the driver has, as they come.
    fn uuids(&self) -> SwitchCalled<Vec<Uuid>>;
    /// Of every switch.
    fn architectures(&self) -> SwitchCalled<Vec<(Uuid, i8)>>;
    /// Whether it is in the mode for protected PCIe, and locked in it.
    fn state(&self, switch: &Uuid) -> SwitchCalled<i8>;
    fn certificates(&self, switch: &Uuid) -> SwitchCalled<Filled>;
    fn report(&self, switch: &Uuid, challenge: &[u8; 32]) -> SwitchCalled<Filled>;
}
