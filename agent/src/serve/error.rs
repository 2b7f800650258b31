//! Why the serving role refuses or cannot go on. The host learns the code and no more.

use sealtune_evidence::{claims::ClaimsError, dstack::Code, launch::LaunchError};
use sealtune_seal::hpke::HpkeError;

use crate::device::DeviceError;
use crate::gpu::GpuError;
use crate::tee::TeeError;

/// Codes 50 to 72 of the area AGENT, and those of what it uses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("understand the first message of a connection")]
    Hello,
    #[error("serve more than {0} connections at once")]
    TooManyConnections(usize),
    #[error("find a protocol version that both sides speak")]
    Version,
    #[error("accept the connection's token")]
    Token,
    #[error("accept a control connection that is not newer than the one before")]
    Generation,
    #[error("serve a transfer that was not asked for")]
    UnknownStream,
    #[error("take another connection for a transfer that has one waiting")]
    BusyStream,
    #[error("answer before the launch configuration was checked")]
    BeforeLaunch,
    #[error("accept a second, different launch configuration")]
    SecondLaunch,
    #[error("run a job in a VM that is not a worker")]
    NotAWorker,
    #[error("start to listen: {0}")]
    Listen(std::io::Error),
    #[error("understand the launch configuration's encoding")]
    LaunchEncoding,
    #[error("get random numbers: {0}")]
    Randomness(String),
    #[error("make the receipt key")]
    ReceiptKey,
    #[error("accept the disk {0}, which the launch configuration does not list")]
    UnlistedDisk(String),
    #[error("open the layer {0}: its parameters are not supported")]
    LayerParameters(String),
    #[error("wait for the kernel modules")]
    Modules,
    #[error("make an offer after a job was accepted")]
    OfferAfterJob,
    #[error("accept a second job in this VM")]
    SecondJob,
    /// There are no knobs, modules or layers of ours there.
    #[error("start a job: this VM runs an image of dstack")]
    NoJobs,
    #[error("find the job that the request names")]
    OtherJob,
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Tee(#[from] TeeError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl ServeError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Hello => "ST-AGENT-50",
            Self::TooManyConnections(_) => "ST-AGENT-51",
            Self::Version => "ST-AGENT-52",
            Self::Token => "ST-AGENT-53",
            Self::Generation => "ST-AGENT-54",
            Self::UnknownStream => "ST-AGENT-55",
            Self::BusyStream => "ST-AGENT-98",
            Self::Modules => "ST-AGENT-99",
            Self::BeforeLaunch => "ST-AGENT-56",
            Self::SecondLaunch => "ST-AGENT-57",
            Self::NotAWorker => "ST-AGENT-58",
            Self::Listen(_) => "ST-AGENT-59",
            Self::LaunchEncoding => "ST-AGENT-60",
            Self::Randomness(_) => "ST-AGENT-61",
            Self::ReceiptKey => "ST-AGENT-62",
            Self::UnlistedDisk(_) => "ST-AGENT-63",
            Self::LayerParameters(_) => "ST-AGENT-64",
            Self::OfferAfterJob => "ST-AGENT-70",
            Self::SecondJob => "ST-AGENT-71",
            Self::NoJobs => Code::NoJobs.as_str(),
            Self::OtherJob => "ST-AGENT-72",
            Self::Launch(error) => error.code(),
            Self::Claims(error) => error.code(),
            Self::Hpke(error) => error.code(),
            Self::Device(error) => error.code(),
            Self::Tee(error) => error.code(),
            Self::Gpu(error) => error.code(),
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Hello => "connect with a supervisor; nothing else may talk to the agent",
            Self::TooManyConnections(_) => "close connections that are done",
            Self::Version => "run supervisor and guest image of the same release",
            Self::Token => "connect with the token whose hash is in the launch configuration",
            Self::Generation => "raise the generation with every control connection",
            Self::UnknownStream => "open a stream only after its `stream-wanted` event",
            Self::BusyStream => "close the other connection of the stream, or wait",
            Self::Modules => "look at the console of a dev image; rebuild the image",
            Self::BeforeLaunch => "send the launch configuration first",
            Self::SecondLaunch => "start another VM for another launch configuration",
            Self::NotAWorker => "send jobs to VMs of the role worker",
            Self::Listen(_) => "check that the image loads the vsock modules",
            Self::LaunchEncoding => "send the canonical bytes of the configuration as base64",
            Self::Randomness(_) => "use a kernel whose random generator seeds itself",
            Self::ReceiptKey => "report this as a bug",
            Self::UnlistedDisk(_) => "attach only the layers of the launch configuration",
            Self::LayerParameters(_) => "build the layer with blocks of 4096 bytes and sha256",
            Self::OfferAfterJob => "ask a VM that has not accepted a job",
            Self::SecondJob => "start a VM for each job",
            Self::NoJobs => Code::NoJobs.fix(),
            Self::OtherJob => "name the job that this VM runs",
            Self::Launch(error) => error.fix(),
            Self::Claims(error) => error.fix(),
            Self::Hpke(error) => error.fix(),
            Self::Device(error) => error.fix(),
            Self::Tee(error) => error.fix(),
            Self::Gpu(error) => error.fix(),
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        vec![
            Self::Hello,
            Self::TooManyConnections(8),
            Self::Version,
            Self::Token,
            Self::Generation,
            Self::UnknownStream,
            Self::BusyStream,
            Self::Modules,
            Self::BeforeLaunch,
            Self::SecondLaunch,
            Self::NotAWorker,
            Self::Listen(std::io::Error::other("x")),
            Self::LaunchEncoding,
            Self::Randomness("x".into()),
            Self::ReceiptKey,
            Self::UnlistedDisk("x".into()),
            Self::LayerParameters("x".into()),
            Self::OfferAfterJob,
            Self::SecondJob,
            Self::OtherJob,
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::serve::job::JobError;

    /// One code, one cause, one line in the catalogue.
    #[test]
    fn every_code_is_in_the_readme_once() {
        let readme = include_str!("../../README.md");
        let mut rows: Vec<(&str, &str)> = Vec::new();
        rows.extend(ServeError::samples().iter().map(|error| (error.code(), error.fix())));
        rows.extend(TeeError::samples().iter().map(|error| (error.code(), error.fix())));
        rows.extend(JobError::samples().iter().map(|error| (error.code(), error.fix())));
        let codes: BTreeSet<&str> = rows.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.len(), rows.len(), "a code has two causes");
        for (code, fix) in rows {
            let lines: Vec<&str> =
                readme.lines().filter(|line| line.starts_with(&format!("| {code} |"))).collect();
            assert_eq!(lines.len(), 1, "{code}");
            assert!(lines[0].contains(fix), "{code}: {fix}");
        }
    }
}
