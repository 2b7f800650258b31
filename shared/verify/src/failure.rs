//! Why the program could not judge.

use std::path::{Path, PathBuf};

#[cfg(test)]
use sealtune_evidence::codes::CodeEntry;
use sealtune_evidence::{
    Hex32,
    appraise::DstackReportError,
    bundle::BundleError,
    collateral::{self, CollateralError},
    measure::{MeasureError, WitnessError},
    nvidia::collateral::NvidiaCollateralError,
    policy::PolicyError,
    reference::ReferenceError,
    release::{self, ReleaseError},
    snp::collateral::SnpCollateralError,
};
use sealtune_receipt::PackageError;

use crate::{catalogue::explain, terminal};

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("read {}: longer than {limit} bytes", path.display())]
    TooLong { path: PathBuf, limit: u64 },
    #[error("use {}: {source}", path.display())]
    Evidence { path: PathBuf, source: BundleError },
    #[error("use {}: {source}", path.display())]
    Dstack { path: PathBuf, source: DstackReportError },
    #[error("use {}: {source}", path.display())]
    Receipt { path: PathBuf, source: PackageError },
    #[error("use {}: {source}", path.display())]
    Policy { path: PathBuf, source: PolicyError },
    #[error("use the policy {}: there is neither one of this name nor such a file", path.display())]
    PolicyUnknown { path: PathBuf },
    #[error("use {}: {source}", path.display())]
    Manifest { path: PathBuf, source: ReleaseError },
    #[error("{0}")]
    Releases(#[source] ReleaseError),
    #[error("use {}: it names a file of reference values that was not given", path.display())]
    ReferenceMissing { path: PathBuf },
    #[error("use {digest}: it was revoked: {reason}")]
    PinnedRevoked { digest: Hex32, reason: String },
    #[error("use {}: {source}", path.display())]
    SnpCollateral { path: PathBuf, source: SnpCollateralError },
    #[error("use {}: {source}", path.display())]
    GpuCollateral { path: PathBuf, source: NvidiaCollateralError },
    #[error("use {}: {source}", path.display())]
    Reference { path: PathBuf, source: ReferenceError },
    #[error("use {}: {reason}", path.display())]
    Collateral { path: PathBuf, reason: String },
    #[error("{0}")]
    Fetch(CollateralError),
    #[error("fetch {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("fetch collateral: this program was built without a client")]
    NoClient,
    #[error("use {}: {source}", path.display())]
    Memory { path: PathBuf, source: CollateralError },
    #[error("use {}: {source}", path.display())]
    MemoryFile { path: PathBuf, source: std::io::Error },
    #[error("use {}: not a certificate in DER or PEM", path.display())]
    Root { path: PathBuf },
    #[error("use {}: {reason}", path.display())]
    Opening { path: PathBuf, reason: String },
    #[error("use {}: {reason}", path.display())]
    Layer { path: PathBuf, reason: String },
    #[error("use {}: {source}", path.display())]
    Measure { path: PathBuf, source: Box<MeasureError> },
    #[error("use {}: {source}", path.display())]
    Witness { path: PathBuf, source: Box<WitnessError> },
    #[error("use the image {}: {reason}", path.display())]
    Image { path: PathBuf, reason: String },
    #[error("explain {0}: there is no such code")]
    UnknownCode(String),
    #[error("understand the command line: {0}")]
    Usage(String),
    #[error("write the answer: {0}")]
    Write(#[source] serde_json::Error),
}

/// Codes of this program's own.
#[cfg(test)]
const OWN: &[CodeEntry] = &[
    CodeEntry {
        code: "ST-VRFY-01",
        cause: "a file cannot be read",
        fix: "check the path and its permissions",
    },
    CodeEntry {
        code: "ST-VRFY-02",
        cause: "a file is longer than such a file can be",
        fix: "check that you passed the right file",
    },
    CodeEntry {
        code: "ST-VRFY-03",
        cause: "the simulated root is not a certificate",
        fix: "pass the root certificate of the simulated platform, DER or PEM",
    },
    CodeEntry {
        code: "ST-VRFY-04",
        cause: "an opening does not parse",
        fix: "pass an opening as the owner's program wrote it",
    },
    CodeEntry {
        code: "ST-VRFY-05",
        cause: "a layer's description does not parse",
        fix: "pass the NAME.layer.json that was built with the layer",
    },
    CodeEntry {
        code: "ST-VRFY-06",
        cause: "there is no such code",
        fix: "run `sealtune-verify explain` without a code for all of them",
    },
    CodeEntry {
        code: "ST-VRFY-07",
        cause: "the answer could not be written",
        fix: "report this as a bug",
    },
    CodeEntry {
        code: "ST-VRFY-08",
        cause: "the memory of collateral or of releases cannot be read or written",
        fix: "check its permissions; or name another file with --memory",
    },
    CodeEntry {
        code: "ST-VRFY-10",
        cause: "the image directory lacks what its measurement needs",
        fix: "pass a directory as `sealtune-image build` makes it",
    },
    CodeEntry {
        code: "ST-VRFY-09",
        cause: "this program was built without a client for collateral services",
        fix: "pass collateral as a file; or build with the feature `fetch`",
    },
    CodeEntry {
        code: "ST-VRFY-11",
        cause: "a manifest names reference values in a file, and no such file was given",
        fix: "pass the file that was published with the manifest with --reference",
    },
    CodeEntry {
        code: "ST-VRFY-12",
        cause: "there is no ready-made policy of this name, and no such file",
        fix: "name one of strict, dstack, 0g and dev, or pass the path of a policy file",
    },
    CodeEntry {
        code: "ST-VRFY-19",
        cause: "the command line cannot be understood",
        fix: "see `sealtune-verify --help`, and the help of its commands",
    },
];

impl Failure {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ST-VRFY-01",
            Self::TooLong { .. } => "ST-VRFY-02",
            Self::Evidence { source, .. } => source.code(),
            Self::Dstack { source, .. } => source.code(),
            Self::Receipt { source, .. } => source.code(),
            Self::Policy { source, .. } => source.code(),
            Self::PolicyUnknown { .. } => "ST-VRFY-12",
            Self::Reference { source, .. } => source.code(),
            Self::Measure { source, .. } => source.code(),
            Self::Witness { source, .. } => source.code(),
            Self::Image { .. } => "ST-VRFY-10",
            Self::Manifest { source, .. } | Self::Releases(source) => source.code(),
            Self::ReferenceMissing { .. } => "ST-VRFY-11",
            Self::PinnedRevoked { .. } => release::Code::Revoked.as_str(),
            Self::SnpCollateral { source, .. } => source.code(),
            Self::GpuCollateral { source, .. } => source.code(),
            Self::Collateral { .. } => sealtune_evidence::Code::CollateralUnreadable.as_str(),
            Self::Fetch(error) => error.code(),
            Self::Unreachable { .. } => collateral::Code::Unreachable.as_str(),
            Self::NoClient => "ST-VRFY-09",
            Self::Memory { source, .. } => source.code(),
            Self::MemoryFile { .. } => "ST-VRFY-08",
            Self::Root { .. } => "ST-VRFY-03",
            Self::Opening { .. } => "ST-VRFY-04",
            Self::Layer { .. } => "ST-VRFY-05",
            Self::UnknownCode(_) => "ST-VRFY-06",
            Self::Write(_) => "ST-VRFY-07",
            Self::Usage(_) => "ST-VRFY-19",
        }
    }

    pub fn fix(&self) -> &'static str {
        let code = self.code();
        explain(code).map_or("", |entry| entry.fix)
    }

    /// 1: what was judged is not acceptable; 2: something of the user's is wrong; 3: a file cannot be read, or a service
    /// not be asked.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Evidence { .. }
            | Self::Dstack { .. }
            | Self::Receipt { .. }
            | Self::Witness { .. }
            | Self::Fetch(
                CollateralError::Subject(_)
                | CollateralError::Amd(_)
                | CollateralError::Product
                | CollateralError::Gpu(_),
            ) => 1,
            Self::Read { .. }
            | Self::Fetch(_)
            | Self::Unreachable { .. }
            | Self::MemoryFile { .. } => 3,
            Self::Write(_) => 70,
            _ => 2,
        }
    }

    pub fn to_json(&self) -> String {
        serde_json::json!({
            "error": { "code": self.code(), "message": self.message(), "fix": self.fix() }
        })
        .to_string()
    }

    /// What failed, fit for a terminal: parsers quote what they did not understand.
    pub fn message(&self) -> String {
        terminal::line(&self.to_string())
    }

    /// An error that names its file.
    pub(crate) fn of<E, F: FnOnce(PathBuf, E) -> Self>(
        path: &Path,
        make: F,
    ) -> impl FnOnce(E) -> Self + use<E, F> {
        let path = path.to_owned();
        move |error| make(path, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_of_an_unknown_policy_lists_the_known_ones() {
        let fix = Failure::PolicyUnknown { path: "x".into() }.fix();
        let named = sealtune_evidence::Policy::names().all(|name| fix.contains(name));
        assert!(named && sealtune_evidence::Policy::names().count() == 4, "{fix}");
    }

    #[test]
    fn the_own_codes_are_in_the_readme() {
        let readme = include_str!("../README.md");
        for entry in OWN {
            let row = format!("| {} | {} | {} |", entry.code, entry.cause, entry.fix);
            assert!(readme.contains(&row), "the README lacks: {row}");
        }
    }
}
