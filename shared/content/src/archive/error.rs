//! What is wrong with an archive: causes with their stable codes, and errors that carry the details.

use std::io;

use super::NameError;

/// A cause. It says nothing of the archive's content, so it may travel where the error may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveCode {
    Read,
    NotAZip,
    DirectoryTooBig,
    TooManyEntries,
    TooBig,
    Ratio,
    DuplicateName,
    Name,
    Special,
    Encrypted,
    Method,
    Inconsistent,
    TopLevel,
    Corrupt,
    Write,
    Unsorted,
    Pack,
    PackSource,
    List,
    SpecialInTree,
}

impl ArchiveCode {
    pub const ALL: &'static [Self] = &[
        Self::Read,
        Self::NotAZip,
        Self::DirectoryTooBig,
        Self::TooManyEntries,
        Self::TooBig,
        Self::Ratio,
        Self::DuplicateName,
        Self::Name,
        Self::Special,
        Self::Encrypted,
        Self::Method,
        Self::Inconsistent,
        Self::TopLevel,
        Self::Corrupt,
        Self::Write,
        Self::Unsorted,
        Self::Pack,
        Self::PackSource,
        Self::List,
        Self::SpecialInTree,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Self::Read => "ST-CONTENT-40",
            Self::NotAZip => "ST-CONTENT-41",
            Self::DirectoryTooBig => "ST-CONTENT-42",
            Self::TooManyEntries => "ST-CONTENT-43",
            Self::TooBig => "ST-CONTENT-44",
            Self::Ratio => "ST-CONTENT-45",
            Self::DuplicateName => "ST-CONTENT-46",
            Self::Name => "ST-CONTENT-47",
            Self::Special => "ST-CONTENT-48",
            Self::Encrypted => "ST-CONTENT-49",
            Self::Method => "ST-CONTENT-50",
            Self::Inconsistent => "ST-CONTENT-51",
            Self::TopLevel => "ST-CONTENT-52",
            Self::Corrupt => "ST-CONTENT-53",
            Self::Write => "ST-CONTENT-54",
            Self::Unsorted => "ST-CONTENT-55",
            Self::Pack => "ST-CONTENT-56",
            Self::PackSource => "ST-CONTENT-57",
            Self::List => "ST-CONTENT-58",
            Self::SpecialInTree => "ST-CONTENT-59",
        }
    }

    pub fn fix(self) -> &'static str {
        match self {
            Self::Read => "repeat; if it persists, fetch the archive again",
            Self::NotAZip => "make the archive again with zip, and check its content id",
            Self::DirectoryTooBig | Self::TooManyEntries => "pack fewer, larger files",
            Self::TooBig => "ask for a larger volume, or pack less",
            Self::Ratio => "store this file instead of compressing it",
            Self::DuplicateName => "make the archive from one directory, in one go",
            Self::Name => {
                "use relative paths with forward slashes, without `..`, of at most 1024 bytes"
            }
            Self::Special | Self::SpecialInTree => {
                "replace links by the files they point to, and leave out devices and sockets"
            }
            Self::Encrypted => "make the archive without a password",
            Self::Method => "make the archive with the deflate or store method",
            Self::Inconsistent => "make the archive again with zip, in one go",
            Self::TopLevel => "zip one directory, and nothing beside it",
            Self::Corrupt => "make the archive again and check it with `zip -T`",
            Self::Write => "see that the target is empty and has room",
            Self::Unsorted => "this is a bug in sealtune: report it",
            Self::Pack => "see that the target has room and stays connected",
            Self::PackSource => "see that nothing changes the directory while it is packed",
            Self::List => "see that the directory exists and can be read",
        }
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
    pub fn entry(&self) -> ArchiveCode {
        match self {
            Self::Read(_) => ArchiveCode::Read,
            Self::NotAZip(_) => ArchiveCode::NotAZip,
            Self::DirectoryTooBig { .. } => ArchiveCode::DirectoryTooBig,
            Self::TooManyEntries { .. } => ArchiveCode::TooManyEntries,
            Self::TooBig { .. } => ArchiveCode::TooBig,
            Self::Ratio { .. } => ArchiveCode::Ratio,
            Self::DuplicateName => ArchiveCode::DuplicateName,
            Self::Name { .. } => ArchiveCode::Name,
            Self::Special { .. } => ArchiveCode::Special,
            Self::Encrypted { .. } => ArchiveCode::Encrypted,
            Self::Method { .. } => ArchiveCode::Method,
            Self::Inconsistent(_) => ArchiveCode::Inconsistent,
            Self::TopLevel => ArchiveCode::TopLevel,
            Self::Corrupt { .. } => ArchiveCode::Corrupt,
            Self::Write { .. } => ArchiveCode::Write,
            Self::Unsorted { .. } => ArchiveCode::Unsorted,
            Self::Pack(_) => ArchiveCode::Pack,
            Self::PackSource { .. } => ArchiveCode::PackSource,
            Self::List(_) => ArchiveCode::List,
            Self::SpecialInTree => ArchiveCode::SpecialInTree,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().code()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}
