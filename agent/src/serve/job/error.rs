//! Why a job was refused or failed. The host learns the code and the kind; the text goes to the owner, sealed.

use sealtune_content::archive::ArchiveError;
use sealtune_content::merkle::MerkleError;
use sealtune_job::{SpecificationError, TermsError, TrainingExit};
use sealtune_seal::envelope::EnvelopeError;
use sealtune_seal::frames::FrameError as SealedFrameError;
use sealtune_seal::hpke::HpkeError;
use sealtune_seal::owner::OwnerError;
use sealtune_seal::release::ReleaseError;
use sealtune_seal::result_object::ResultError;
use sealtune_wire::frame::FrameError;
use sealtune_wire::v1::AgentFailure;

use crate::container::protocol::StartStage;
use crate::device::knobs::KnobError;
use crate::serve::error::ServeError;
use crate::unpack::UnpackFailure;

/// Codes 73 to 99 of the area AGENT, and those of what it uses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("open a release: the key of this VM is erased")]
    KeyErased,
    #[error("understand the release's encoding")]
    ReleaseEncoding,
    #[error("open the release with any offer of the last ten minutes")]
    NoOffer,
    #[error("accept a release of another job than the host names")]
    OtherJob,
    #[error("accept a release of another attempt than the host names")]
    OtherAttempt,
    #[error("accept a specification that names another offer than it was sealed to")]
    OtherOffer,
    #[error("find the job's image among the layers of this VM")]
    UnknownImage,
    #[error("give the job {asked} MiB in a VM of {available} MiB")]
    Memory { asked: u64, available: u64 },
    #[error("run a sealed job in a VM that is shared")]
    SharedVm,
    #[error("run a plain job whose terms name an offer or a sealed dataset")]
    NotPlain,
    #[error("fetch an input: the host says {0}")]
    Transfer(String),
    #[error("accept a transfer that ends at byte {found} of {expected}")]
    TransferLength { found: u64, expected: u64 },
    #[error("fetch an input: nothing came for ten minutes")]
    Stalled,
    #[error("read a transfer: {0}")]
    Framing(FrameError),
    #[error("hold {needed} bytes where {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error("prepare the work folder: {0}")]
    WorkFolder(std::io::Error),
    #[error("open the script in the image: {0}")]
    ScriptMissing(String),
    #[error("accept the image's script: it has another digest than the specification says")]
    ScriptDigest,
    #[error("run the container role: {0}")]
    Runner(String),
    #[error("find a result: the script left nothing in output_model")]
    NoOutput,
    #[error("go on: the job was cancelled")]
    Cancelled,
    #[error("make the receipt: {0}")]
    Receipt(String),
    #[error("finish a step of the job: {0}")]
    Internal(String),
    #[error("accept a message for the host: {0}")]
    Event(FrameError),
    /// The script's own end; the class says all.
    #[error("train: {0:?}")]
    Training(TrainingExit),
    #[error("start the container ({stage:?}): {detail}")]
    Start { stage: StartStage, detail: String },
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Specification(#[from] SpecificationError),
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Content(#[from] sealtune_content::StreamError),
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    #[error(transparent)]
    Sealed(#[from] sealtune_seal::stream::StreamError),
    #[error(transparent)]
    Result(#[from] ResultError),
    #[error(transparent)]
    Frame(#[from] SealedFrameError),
    /// An input that does not unpack.
    #[error(transparent)]
    Unpack(UnpackFailure),
    /// A result that does not pack.
    #[error(transparent)]
    Pack(ArchiveError),
    #[error(transparent)]
    Knob(#[from] KnobError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl JobError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::KeyErased => "ST-AGENT-73",
            Self::ReleaseEncoding => "ST-AGENT-74",
            Self::NoOffer => "ST-AGENT-75",
            Self::OtherJob => "ST-AGENT-76",
            Self::OtherAttempt => "ST-AGENT-77",
            Self::OtherOffer => "ST-AGENT-78",
            Self::UnknownImage => "ST-AGENT-79",
            Self::Memory { .. } => "ST-AGENT-80",
            Self::SharedVm => "ST-AGENT-81",
            Self::NotPlain => "ST-AGENT-82",
            Self::Transfer(_) => "ST-AGENT-83",
            Self::TransferLength { .. } => "ST-AGENT-84",
            Self::Stalled => "ST-AGENT-85",
            Self::Framing(_) => "ST-AGENT-86",
            Self::NoSpace { .. } => "ST-AGENT-87",
            Self::WorkFolder(_) => "ST-AGENT-88",
            Self::ScriptMissing(_) => "ST-AGENT-89",
            Self::ScriptDigest => "ST-AGENT-90",
            Self::Runner(_) => "ST-AGENT-91",
            Self::NoOutput => "ST-AGENT-92",
            Self::Cancelled => "ST-AGENT-93",
            Self::Receipt(_) => "ST-AGENT-94",
            Self::Internal(_) => "ST-AGENT-95",
            Self::Event(_) => "ST-AGENT-96",
            Self::Training(_) => "ST-AGENT-97",
            Self::Start { stage, .. } => stage.code(),
            Self::Release(error) => error.code(),
            Self::Specification(error) => error.code(),
            Self::Terms(error) => error.code(),
            Self::Owner(error) => error.code(),
            Self::Hpke(error) => error.code(),
            Self::Envelope(error) => error.code(),
            Self::Content(error) => error.code(),
            Self::Merkle(error) => error.code(),
            Self::Sealed(error) => error.code(),
            Self::Result(error) => error.code(),
            Self::Frame(error) => error.code(),
            Self::Unpack(UnpackFailure::Archive { code, .. }) => code.code(),
            Self::Unpack(UnpackFailure::NoSpace) => "ST-AGENT-87",
            Self::Unpack(UnpackFailure::Role(_)) => "ST-AGENT-91",
            Self::Pack(error) => error.code(),
            Self::Knob(error) => error.code(),
            Self::Serve(error) => error.code(),
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::KeyErased => "ask a fresh VM for an offer and release to that",
            Self::ReleaseEncoding => "pass the client's release on unchanged",
            Self::NoOffer => "ask for a new offer and release the job to it",
            Self::OtherJob => "pass each release on under its own job",
            Self::OtherAttempt => "release the attempt that is waiting",
            Self::OtherOffer => "name the accepted offer in the specification",
            Self::UnknownImage => "list the image's layer in the VM's launch configuration",
            Self::Memory { .. } => "ask for less memory than the VM has",
            Self::SharedVm => "run sealed jobs in VMs of the mode per-job",
            Self::NotPlain => "send sealed jobs as a release",
            Self::Transfer(_) => "see the supervisor's log for its code",
            Self::TransferLength { .. } => "send exactly the content that was asked for",
            Self::Stalled => "see that the supervisor can reach the content's source",
            Self::Framing(_) => "run supervisor and guest image of the same release",
            Self::NoSpace { .. } => "give the VM more memory",
            Self::WorkFolder(_) => "give the VM more memory",
            Self::ScriptMissing(_) => "name a script that the image has",
            Self::ScriptDigest => "pin the digest of the script that is in the image",
            Self::Runner(_) => "report this as a bug",
            Self::NoOutput => "let the script write its result below --output_dir",
            Self::Cancelled => "submit the job again if it is still wanted",
            Self::Receipt(_) => "report this as a bug",
            Self::Internal(_) => "report this as a bug",
            Self::Event(_) => "report this as a bug: a message is larger than a frame",
            Self::Training(_) => "read the job's logs and correct the script",
            Self::Start { stage, .. } => stage.fix(),
            Self::Release(error) => error.fix(),
            Self::Specification(error) => error.fix(),
            Self::Terms(error) => error.fix(),
            Self::Owner(error) => error.fix(),
            Self::Hpke(error) => error.fix(),
            Self::Envelope(error) => error.fix(),
            Self::Content(error) => error.fix(),
            Self::Merkle(error) => error.fix(),
            Self::Sealed(error) => error.fix(),
            Self::Result(error) => error.fix(),
            Self::Frame(error) => error.fix(),
            Self::Unpack(UnpackFailure::Archive { code, .. }) => code.fix(),
            Self::Unpack(UnpackFailure::NoSpace) => "give the VM more memory",
            Self::Unpack(UnpackFailure::Role(_)) => "report this as a bug",
            Self::Pack(error) => error.fix(),
            Self::Knob(error) => error.fix(),
            Self::Serve(error) => error.fix(),
        }
    }

    /// As the host learns it.
    pub(crate) fn failure(&self) -> AgentFailure {
        let code = self.code().to_owned();
        match self {
            // The host said why it has no such content: its word tells more than ours.
            Self::Transfer(host) if host.starts_with("ST-") => {
                AgentFailure::Input { code: host.clone() }
            }
            Self::Training(exit) => AgentFailure::Training { exit: exit.class() },
            Self::Transfer(_)
            | Self::TransferLength { .. }
            | Self::Stalled
            | Self::Framing(_)
            | Self::Content(_)
            | Self::Merkle(_)
            | Self::Sealed(_)
            | Self::Unpack(UnpackFailure::Archive { .. }) => AgentFailure::Input { code },
            Self::Specification(_)
            | Self::Terms(_)
            | Self::ScriptMissing(_)
            | Self::ScriptDigest
            | Self::Hpke(_) => AgentFailure::Refused { code },
            _ => AgentFailure::Guest { code },
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let text = String::from("x");
        vec![
            Self::KeyErased,
            Self::ReleaseEncoding,
            Self::NoOffer,
            Self::OtherJob,
            Self::OtherAttempt,
            Self::OtherOffer,
            Self::UnknownImage,
            Self::Memory { asked: 2, available: 1 },
            Self::SharedVm,
            Self::NotPlain,
            Self::Transfer(text.clone()),
            Self::TransferLength { found: 1, expected: 2 },
            Self::Stalled,
            Self::Framing(FrameError::Truncated),
            Self::NoSpace { needed: 2, free: 1 },
            Self::WorkFolder(std::io::Error::other("x")),
            Self::ScriptMissing(text.clone()),
            Self::ScriptDigest,
            Self::Runner(text.clone()),
            Self::NoOutput,
            Self::Cancelled,
            Self::Receipt(text.clone()),
            Self::Internal(text),
            Self::Event(FrameError::Truncated),
            Self::Training(TrainingExit::Timeout),
        ]
    }
}

/// A full tmpfs is told apart from a broken one.
impl From<std::io::Error> for JobError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::NoSpace { needed: 1, free: 0 },
            _ => Self::WorkFolder(error),
        }
    }
}
