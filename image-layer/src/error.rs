//! Everything that can go wrong, one code for one cause. README.md lists the same codes.

use std::path::{Path, PathBuf};

use sealtune_evidence::reference::ReferenceError;
use sealtune_evidence::release::{Code, ReleaseError};

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("find the Debian archive keyring (looked for {looked_for})")]
    KeyringMissing { looked_for: String },
    #[error("find a Debian mirror in this machine's apt sources")]
    NoMirror,
    #[error("run {program}: {detail}")]
    AptFailed { program: &'static str, detail: String },
    #[error("start {program}: {source}")]
    ProgramMissing { program: String, source: std::io::Error },
    #[error("resolve {packages} in {suite}: {detail}")]
    Unresolved { packages: String, suite: String, detail: String },
    #[error("use package file {file}: {detail}")]
    PackageFile { file: String, detail: String },
    #[error("find {what} in the kernel packages")]
    KernelIncomplete { what: String },
    #[error("read module {module}: {detail}")]
    BadModule { module: String, detail: String },
    #[error("use {} as the agent: {detail}", path.display())]
    BadAgent { path: PathBuf, detail: String },
    #[error("make a prod image: it would hold {what}")]
    ForbiddenInProd { what: String },
    #[error("replace {}: {detail}", path.display())]
    OutputInUse { path: PathBuf, detail: String },
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("read image directory {}: {detail}", path.display())]
    BadImage { path: PathBuf, detail: String },
    #[error("make an erofs image: {detail}")]
    Erofs { detail: String },
    #[error("read argument {argument:?}: {detail}")]
    BadArgument { argument: String, detail: String },
    #[error("encode {what}: {detail}")]
    Encode { what: &'static str, detail: String },
    #[error("run the layer's own python: {detail}")]
    Python { detail: String },
    #[error("unpack {package}: {detail}")]
    Unpack { package: String, detail: String },
    #[error("make key {}: the file is there already", path.display())]
    KeyExists { path: PathBuf },
    #[error("read key {}: it is not an Ed25519 key in PKCS#8 (DER)", path.display())]
    KeyForm { path: PathBuf },
    #[error("use key {}: others may read it (mode {mode:o})", path.display())]
    KeyOpen { path: PathBuf, mode: u32 },
    #[error("read {}: {detail}", path.display())]
    BadJson { path: PathBuf, detail: String },
    #[error("make a manifest: no reference values of image {} were given", path.display())]
    ReferenceLacking { path: PathBuf },
    #[error("make a manifest: {} is of none of the images", path.display())]
    ReferenceOfNone { path: PathBuf },
    #[error("make a key: the system gives no random bytes")]
    NoRandom,
    /// With the code of its cause.
    #[error("use {}: {source}", path.display())]
    Release { path: PathBuf, source: ReleaseError },
    /// With the code of its cause.
    #[error("use {}: {source}", path.display())]
    Reference { path: PathBuf, source: ReferenceError },
}

/// What the exit status says (0 is success).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    AnswerIsNo = 1,
    Usage = 2,
    Environment = 3,
    Bug = 70,
}

impl ImageError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::KeyringMissing { .. } => "ST-IMAGE-01",
            Self::NoMirror => "ST-IMAGE-02",
            Self::AptFailed { .. } => "ST-IMAGE-03",
            Self::ProgramMissing { .. } => "ST-IMAGE-04",
            Self::Unresolved { .. } => "ST-IMAGE-05",
            Self::PackageFile { .. } => "ST-IMAGE-06",
            Self::KernelIncomplete { .. } => "ST-IMAGE-07",
            Self::BadModule { .. } => "ST-IMAGE-08",
            Self::BadAgent { .. } => "ST-IMAGE-09",
            Self::ForbiddenInProd { .. } => "ST-IMAGE-10",
            Self::OutputInUse { .. } => "ST-IMAGE-11",
            Self::Io { .. } => "ST-IMAGE-12",
            Self::BadImage { .. } => "ST-IMAGE-13",
            Self::Erofs { .. } => "ST-IMAGE-14",
            Self::BadArgument { .. } => "ST-IMAGE-15",
            Self::Encode { .. } => "ST-IMAGE-16",
            Self::Python { .. } => "ST-IMAGE-17",
            Self::Unpack { .. } => "ST-IMAGE-18",
            Self::KeyExists { .. } => "ST-IMAGE-19",
            Self::KeyForm { .. } => "ST-IMAGE-20",
            Self::KeyOpen { .. } => "ST-IMAGE-21",
            Self::BadJson { .. } => "ST-IMAGE-22",
            Self::ReferenceLacking { .. } => "ST-IMAGE-23",
            Self::ReferenceOfNone { .. } => "ST-IMAGE-24",
            Self::NoRandom => "ST-IMAGE-25",
            Self::Release { source, .. } => source.code(),
            Self::Reference { source, .. } => source.code(),
        }
    }

    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::KeyringMissing { .. } => {
                "install the package debian-archive-keyring (Debian and Ubuntu have it), or pass --keyring FILE"
            }
            Self::NoMirror => {
                "pass --mirror URL of a Debian archive, for example the one your site mirrors"
            }
            Self::AptFailed { .. } => {
                "read apt's message above; check the network, the mirror and the proxy (http_proxy)"
            }
            Self::ProgramMissing { .. } => "install the packages apt and dpkg",
            Self::Unresolved { .. } => {
                "check the package names and --suite, or run again with --refresh"
            }
            Self::PackageFile { .. } => "run again with --refresh to fetch the packages anew",
            Self::KernelIncomplete { .. } => {
                "try another --suite; the suite's kernel packages have changed shape"
            }
            Self::BadModule { .. } => {
                "run again with --refresh; if it stays, the kernel packages have changed shape"
            }
            Self::BadAgent { .. } => {
                "build it static: cargo build -p sealtune-agent --profile guest --target x86_64-unknown-linux-musl"
            }
            Self::ForbiddenInProd { .. } => {
                "build the agent for prod without the feature simulated-tee, or use --profile dev"
            }
            Self::OutputInUse { .. } => "choose another --out, or remove that path yourself",
            Self::Io { .. } => {
                "check that the path exists, that you may use it and that the disk has room"
            }
            Self::BadImage { .. } => {
                "point to a directory that `sealtune-image build` made, or build it again"
            }
            Self::Erofs { .. } => "run again with --refresh; check that the disk has room",
            Self::BadArgument { .. } => "see --help for the form of this argument",
            Self::Encode { .. } => "this is a bug in sealtune-image: please report it",
            Self::Python { .. } => "leave python out of --packages, or pass --no-precompile",
            Self::Unpack { .. } => "run again with --refresh; check that the disk has room",
            Self::KeyExists { .. } => "choose another --out: a key is never overwritten",
            Self::KeyForm { .. } => {
                "pass the file that `sealtune-image release new-key` made, or its copy"
            }
            Self::KeyOpen { .. } => {
                "chmod 600 it; if others could have read it, make a new key and end this one"
            }
            Self::BadJson { .. } => {
                "take the file as `sealtune-image release make` wrote it; for revocations see README.md"
            }
            Self::ReferenceLacking { .. } => {
                "make them with `sealtune-image measure --reference-values`, then pass --reference"
            }
            Self::ReferenceOfNone { .. } => "leave it out, or pass the image that it is of",
            Self::NoRandom => "check that the kernel offers getrandom",
            Self::Release { source, .. } => source.fix(),
            Self::Reference { source, .. } => source.fix(),
        }
    }

    #[must_use]
    pub fn exit_class(&self) -> ExitClass {
        match self {
            Self::BadArgument { .. } | Self::BadAgent { .. } | Self::ForbiddenInProd { .. } => {
                ExitClass::Usage
            }
            Self::OutputInUse { .. } | Self::NoMirror => ExitClass::Usage,
            Self::KeyExists { .. }
            | Self::KeyForm { .. }
            | Self::KeyOpen { .. }
            | Self::BadJson { .. }
            | Self::ReferenceLacking { .. }
            | Self::ReferenceOfNone { .. }
            | Self::Reference { .. } => ExitClass::Usage,
            Self::Release { source, .. } => match source.entry() {
                Code::KeysUnreadable | Code::KeysField => ExitClass::Usage,
                _ => ExitClass::AnswerIsNo,
            },
            Self::BadImage { .. } => ExitClass::AnswerIsNo,
            Self::Encode { .. } => ExitClass::Bug,
            _ => ExitClass::Environment,
        }
    }

    /// One sample of each variant with a code of ours, so that a test can compare them with the README.
    #[cfg(test)]
    fn samples() -> Vec<Self> {
        let text = String::new;
        let io = || std::io::Error::other("x");
        vec![
            Self::KeyringMissing { looked_for: text() },
            Self::NoMirror,
            Self::AptFailed { program: "apt-get", detail: text() },
            Self::ProgramMissing { program: text(), source: io() },
            Self::Unresolved { packages: text(), suite: text(), detail: text() },
            Self::PackageFile { file: text(), detail: text() },
            Self::KernelIncomplete { what: text() },
            Self::BadModule { module: text(), detail: text() },
            Self::BadAgent { path: PathBuf::new(), detail: text() },
            Self::ForbiddenInProd { what: text() },
            Self::OutputInUse { path: PathBuf::new(), detail: text() },
            Self::Io { action: "read", path: PathBuf::new(), source: io() },
            Self::BadImage { path: PathBuf::new(), detail: text() },
            Self::Erofs { detail: text() },
            Self::BadArgument { argument: text(), detail: text() },
            Self::Encode { what: "x", detail: text() },
            Self::Python { detail: text() },
            Self::Unpack { package: text(), detail: text() },
            Self::KeyExists { path: PathBuf::new() },
            Self::KeyForm { path: PathBuf::new() },
            Self::KeyOpen { path: PathBuf::new(), mode: 0 },
            Self::BadJson { path: PathBuf::new(), detail: text() },
            Self::ReferenceLacking { path: PathBuf::new() },
            Self::ReferenceOfNone { path: PathBuf::new() },
            Self::NoRandom,
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ImageError;

    #[test]
    fn every_code_is_unique_and_in_the_readme_with_its_fix() {
        let readme = include_str!("../README.md");
        let samples = ImageError::samples();
        let codes: BTreeSet<_> = samples.iter().map(ImageError::code).collect();
        assert_eq!(codes.len(), samples.len());
        for sample in &samples {
            assert!(
                readme.contains(&format!("| {} |", sample.code())),
                "{} missing",
                sample.code()
            );
            assert!(!sample.fix().is_empty());
        }
    }
}
