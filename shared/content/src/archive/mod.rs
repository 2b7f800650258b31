//! Zip archives from strangers, and our own for results.
//!
//! [`plan`] reads the directory and refuses everything that is not plain files and
//! directories inside one tree; [`Plan::unpack`] inflates into a [`Sink`] and holds each
//! entry to the size and checksum that the directory declared. [`pack`] writes
//! deterministic archives into any writer.

mod error;
mod name;
mod pack;
mod plan;
mod sink;
mod tree;
mod unpack;

#[cfg(test)]
mod tests;

pub use error::{ArchiveCode, ArchiveError};
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
