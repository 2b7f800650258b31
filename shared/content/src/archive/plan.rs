//! Reading an archive's directory and deciding, before a byte is inflated, whether and
//! how it is unpacked.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::{ArchiveError, EntryName, Limits, RATIO_FREE_BYTES};

const MODE_TYPE: u32 = 0o170_000;
const MODE_REGULAR: u32 = 0o100_000;
const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_EXECUTABLE: u32 = 0o000_111;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File { size: u64, is_executable: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanEntry {
    /// Position in the archive's directory.
    pub(super) index: usize,
    /// Where the entry goes, after renaming.
    pub name: EntryName,
    pub kind: EntryKind,
}

/// An archive whose directory passed all checks, with the reader it was read from: what
/// is unpacked is what was planned.
pub struct Plan<R> {
    pub(super) archive: ZipArchive<Budgeted<R>>,
    pub(super) entries: Vec<PlanEntry>,
    total_bytes: u64,
}

impl<R> std::fmt::Debug for Plan<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("entries", &self.entries.len())
            .field("total_bytes", &self.total_bytes)
            .finish_non_exhaustive()
    }
}

impl<R> Plan<R> {
    /// In the order of their names.
    pub fn entries(&self) -> &[PlanEntry] {
        &self.entries
    }

    /// What unpacking will write, at most and at least.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

pub fn plan<R: Read + Seek>(reader: R, limits: &Limits) -> Result<Plan<R>, ArchiveError> {
    let budget = Arc::new(AtomicU64::new(limits.max_directory_bytes));
    let reader = Budgeted { inner: reader, budget: Arc::clone(&budget) };
    let read_error = |error| match error {
        ZipError::Io(io) if is_over_budget(&io) => {
            ArchiveError::DirectoryTooBig { limit: limits.max_directory_bytes }
        }
        ZipError::Io(io) if io.kind() != io::ErrorKind::UnexpectedEof => ArchiveError::Read(io),
        other => ArchiveError::NotAZip(other),
    };
    let mut archive = ZipArchive::new(reader).map_err(read_error)?;
    if archive.has_duplicate_names() {
        return Err(ArchiveError::DuplicateName);
    }
    if archive.len() > limits.max_entries {
        return Err(ArchiveError::TooManyEntries { limit: limits.max_entries });
    }
    let mut entries = Vec::with_capacity(archive.len());
    let mut total_bytes = 0_u64;
    for index in 0..archive.len() {
        let entry = judge(&archive, index, limits)?;
        if let EntryKind::File { size, .. } = entry.kind {
            total_bytes = total_bytes.saturating_add(size);
        }
        if total_bytes > limits.max_total_bytes {
            return Err(ArchiveError::TooBig { limit: limits.max_total_bytes });
        }
        entries.push(entry);
    }
    if let Some(name) = &limits.single_top_level {
        entries = rename_top_level(entries, name)?;
    }
    entries.sort_unstable_by(|a, b| a.name.components().cmp(b.name.components()));
    refuse_conflicts(&entries)?;
    count_directories(&entries, limits)?;

    // Local headers are read and compared now: overlaps, hidden and contradicting entries.
    archive.validate_header_consistency().map_err(|error| match error {
        ZipError::Io(io) if is_over_budget(&io) => {
            ArchiveError::DirectoryTooBig { limit: limits.max_directory_bytes }
        }
        other => ArchiveError::Inconsistent(other),
    })?;
    budget.store(u64::MAX, Ordering::Relaxed);
    Ok(Plan { archive, entries, total_bytes })
}

fn judge<R: Read + Seek>(
    archive: &ZipArchive<Budgeted<R>>,
    index: usize,
    limits: &Limits,
) -> Result<PlanEntry, ArchiveError> {
    let entry = archive.by_index_data(index).map_err(ArchiveError::NotAZip)?;
    let name = EntryName::parse(entry.name_raw())
        .map_err(|source| ArchiveError::Name { index, source })?;
    if entry.encrypted() {
        return Err(ArchiveError::Encrypted { index });
    }
    let is_supported =
        matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated);
    if !is_supported {
        return Err(ArchiveError::Method { index });
    }
    // The upper half is the Unix mode. It is read whatever system the entry names, as
    // other unpackers do not look at the system either.
    let mode = entry.external_attributes() >> 16;
    let ends_in_slash = entry.name_raw().ends_with(b"/");
    let kind = match (mode & MODE_TYPE, ends_in_slash) {
        (0 | MODE_DIRECTORY, true) if entry.size() == 0 => EntryKind::Directory,
        (0 | MODE_REGULAR, false) => {
            EntryKind::File { size: entry.size(), is_executable: mode & MODE_EXECUTABLE != 0 }
        }
        _ => return Err(ArchiveError::Special { index }),
    };
    let allowed = entry.compressed_size().saturating_mul(limits.max_ratio);
    if entry.size() > RATIO_FREE_BYTES && entry.size() > allowed {
        return Err(ArchiveError::Ratio { index, limit: limits.max_ratio });
    }
    Ok(PlanEntry { index, name, kind })
}

fn rename_top_level(entries: Vec<PlanEntry>, to: &str) -> Result<Vec<PlanEntry>, ArchiveError> {
    let top = entries.first().map(|entry| entry.name.split_top().0.to_owned());
    let Some(top) = top else { return Err(ArchiveError::TopLevel) };
    entries
        .into_iter()
        .map(|entry| {
            let (own_top, rest) = entry.name.split_top();
            let is_inside =
                own_top == top && (rest.is_some() || entry.kind == EntryKind::Directory);
            if !is_inside {
                return Err(ArchiveError::TopLevel);
            }
            let renamed = match rest {
                Some(rest) => format!("{to}/{rest}"),
                None => to.to_owned(),
            };
            let name = EntryName::parse(renamed.as_bytes())
                .map_err(|source| ArchiveError::Name { index: entry.index, source })?;
            Ok(PlanEntry { name, ..entry })
        })
        .collect()
}

/// In order of components, a name's double and what lies inside it come right after it.
fn refuse_conflicts(sorted: &[PlanEntry]) -> Result<(), ArchiveError> {
    let has_conflict = sorted.windows(2).any(|pair| match pair {
        [a, b] => a.name == b.name || (a.kind != EntryKind::Directory && a.name.contains(&b.name)),
        _ => false,
    });
    if has_conflict { Err(ArchiveError::DuplicateName) } else { Ok(()) }
}

/// Directories that only occur in paths cost an inode too.
fn count_directories(entries: &[PlanEntry], limits: &Limits) -> Result<(), ArchiveError> {
    let files = entries.iter().filter(|entry| entry.kind != EntryKind::Directory).count();
    let mut directories = HashSet::new();
    for entry in entries {
        directories.extend(entry.name.parents());
        if entry.kind == EntryKind::Directory {
            directories.insert(entry.name.as_str());
        }
        if files + directories.len() > limits.max_entries {
            return Err(ArchiveError::TooManyEntries { limit: limits.max_entries });
        }
    }
    Ok(())
}

/// A reader that stops after a number of bytes, so that a hostile directory costs no
/// more memory than was allowed.
pub(super) struct Budgeted<R> {
    inner: R,
    /// Bytes left; shared, because the archive keeps the reader to itself.
    budget: Arc<AtomicU64>,
}

#[derive(Debug, thiserror::Error)]
#[error("directory budget used up")]
struct OverBudget;

fn is_over_budget(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<OverBudget>())
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.budget.load(Ordering::Relaxed);
        if left != u64::MAX {
            let left = left
                .checked_sub(count as u64)
                .ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, OverBudget))?;
            self.budget.store(left, Ordering::Relaxed);
        }
        Ok(count)
    }
}

impl<R: Seek> Seek for Budgeted<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
