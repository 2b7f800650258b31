//! Zip archives from strangers, and our own for results.
//!
//! [`plan`] reads the directory and refuses everything that is not plain files and
//! directories inside one tree; [`Plan::unpack`] inflates into a [`Sink`] and holds each
//! entry to the size and checksum that the directory declared. [`pack`] writes
//! deterministic archives into any writer.

mod name;
mod pack;
mod plan;
mod sink;
mod tree;
mod unpack;

#[cfg(test)]
mod tests;

use std::io;

pub use name::{EntryName, MAX_NAME_BYTES, NameError};
pub use pack::{PackMethod, PackSummary, pack};
pub use plan::{EntryKind, Plan, PlanEntry, plan};
pub use sink::{DirectorySink, NewFile, NullSink, Sink};
pub use tree::{TreeFile, list_tree};
pub use unpack::{UnpackSummary, fuzz_archive};

/// What an archive may cost at most. There is no default for the total: it is the
/// caller's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files and directories, those that only occur in paths included.
    pub max_entries: usize,
    /// Sum of the files' sizes.
    pub max_total_bytes: u64,
    /// Inflated bytes per archived byte, of each entry above [`RATIO_FREE_BYTES`].
    pub max_ratio: u64,
    /// Bytes of directory read before anything is known.
    pub max_directory_bytes: u64,
    /// The archive must have exactly one top-level directory, which gets this name.
    pub single_top_level: Option<String>,
}

/// Entries this small are not measured for their ratio: an empty log compresses well.
pub const RATIO_FREE_BYTES: u64 = 1024 * 1024;

impl Limits {
    pub fn with_total(max_total_bytes: u64) -> Self {
        Self {
            max_entries: 65_536,
            max_total_bytes,
            max_ratio: 200,
            max_directory_bytes: 32 * 1024 * 1024,
            single_top_level: None,
        }
    }

    /// The 0G convention: one top-level directory, of any name, stands for `data` or `model`.
    #[must_use]
    pub fn single_top_level(mut self, name: &str) -> Self {
        self.single_top_level = Some(name.to_owned());
        self
    }
}

/// Entries are named by index: a name is the customer's content and errors travel.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("archive could not be read")]
    Read(#[source] io::Error),
    #[error("archive is not a complete zip file")]
    NotAZip(#[source] zip::result::ZipError),
    #[error("archive's directory takes more than {limit} bytes")]
    DirectoryTooBig { limit: u64 },
    #[error("archive has more than {limit} files and directories")]
    TooManyEntries { limit: usize },
    #[error("archive inflates to more than {limit} bytes")]
    TooBig { limit: u64 },
    #[error("archive entry {index} inflates to more than {limit} times its size")]
    Ratio { index: usize, limit: u64 },
    #[error("archive has one name twice, or a file that is also a directory")]
    DuplicateName,
    #[error("archive entry {index} has an unsafe name")]
    Name { index: usize, source: NameError },
    #[error("archive entry {index} is a link, device or other special file")]
    Special { index: usize },
    #[error("archive entry {index} is encrypted")]
    Encrypted { index: usize },
    #[error("archive entry {index} is neither stored nor deflated")]
    Method { index: usize },
    #[error("archive's entries overlap or contradict its directory")]
    Inconsistent(#[source] zip::result::ZipError),
    #[error("archive does not have exactly one top-level directory")]
    TopLevel,
    #[error("archive entry {index} does not have its declared size and checksum")]
    Corrupt { index: usize },
    #[error("unpacked entry {index} could not be written")]
    Write { index: usize, source: io::Error },
    #[error("name {index} to pack is not greater than the one before")]
    Unsorted { index: usize },
    #[error("archive could not be written")]
    Pack(#[source] io::Error),
    #[error("file {index} to pack could not be read")]
    PackSource { index: usize, source: io::Error },
    #[error("directory to pack could not be listed")]
    List(#[source] io::Error),
    #[error("directory to pack holds a link, device or other special file")]
    SpecialInTree,
}

impl ArchiveError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "ST-CONTENT-40",
            Self::NotAZip(_) => "ST-CONTENT-41",
            Self::DirectoryTooBig { .. } => "ST-CONTENT-42",
            Self::TooManyEntries { .. } => "ST-CONTENT-43",
            Self::TooBig { .. } => "ST-CONTENT-44",
            Self::Ratio { .. } => "ST-CONTENT-45",
            Self::DuplicateName => "ST-CONTENT-46",
            Self::Name { .. } => "ST-CONTENT-47",
            Self::Special { .. } => "ST-CONTENT-48",
            Self::Encrypted { .. } => "ST-CONTENT-49",
            Self::Method { .. } => "ST-CONTENT-50",
            Self::Inconsistent(_) => "ST-CONTENT-51",
            Self::TopLevel => "ST-CONTENT-52",
            Self::Corrupt { .. } => "ST-CONTENT-53",
            Self::Write { .. } => "ST-CONTENT-54",
            Self::Unsorted { .. } => "ST-CONTENT-55",
            Self::Pack(_) => "ST-CONTENT-56",
            Self::PackSource { .. } => "ST-CONTENT-57",
            Self::List(_) => "ST-CONTENT-58",
            Self::SpecialInTree => "ST-CONTENT-59",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Read(_) => "repeat; if it persists, fetch the archive again",
            Self::NotAZip(_) => "make the archive again with zip, and check its content id",
            Self::DirectoryTooBig { .. } | Self::TooManyEntries { .. } => {
                "pack fewer, larger files"
            }
            Self::TooBig { .. } => "ask for a larger volume, or pack less",
            Self::Ratio { .. } => "store this file instead of compressing it",
            Self::DuplicateName => "make the archive from one directory, in one go",
            Self::Name { .. } => {
                "use relative paths with forward slashes, without `..`, of at most 1024 bytes"
            }
            Self::Special { .. } | Self::SpecialInTree => {
                "replace links by the files they point to, and leave out devices and sockets"
            }
            Self::Encrypted { .. } => "make the archive without a password",
            Self::Method { .. } => "make the archive with the deflate or store method",
            Self::Inconsistent(_) => "make the archive again with zip, in one go",
            Self::TopLevel => "zip one directory, and nothing beside it",
            Self::Corrupt { .. } => "make the archive again and check it with `zip -T`",
            Self::Write { .. } => "see that the target is empty and has room",
            Self::Unsorted { .. } => "this is a bug in sealtune: report it",
            Self::Pack(_) => "see that the target has room and stays connected",
            Self::PackSource { .. } => "see that nothing changes the directory while it is packed",
            Self::List(_) => "see that the directory exists and can be read",
        }
    }
}
