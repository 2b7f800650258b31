//! Inflating a planned archive into a sink.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};

use super::sink::NewFile;
use super::{ArchiveError, EntryKind, Limits, NullSink, Plan, Sink, plan};

const COPY_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackSummary {
    pub files: usize,
    pub directories: usize,
    pub bytes: u64,
}

impl<R: Read + Seek> Plan<R> {
    /// Directories first, parents before children; then the files.
    pub fn unpack(mut self, sink: &mut dyn Sink) -> Result<UnpackSummary, ArchiveError> {
        let directories = self.create_directories(sink)?;
        let mut summary = UnpackSummary { files: 0, directories, bytes: 0 };
        // In the archive's order, so that reading mostly goes forward.
        let mut files = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            if let EntryKind::File { size, is_executable } = entry.kind {
                files.push((entry.index, entry.name, size, is_executable));
            }
        }
        files.sort_unstable_by_key(|(index, ..)| *index);
        let mut buffer = vec![0; COPY_BYTES];
        for (index, name, size, is_executable) in files {
            let new_file = NewFile { name: name.as_str(), size, is_executable };
            let mut target = sink
                .create_file(&new_file)
                .map_err(|source| ArchiveError::Write { index, source })?;
            self.inflate(index, size, &mut buffer, target.as_mut())?;
            summary.files += 1;
            summary.bytes += size;
        }
        Ok(summary)
    }

    fn create_directories(&self, sink: &mut dyn Sink) -> Result<usize, ArchiveError> {
        let mut directories = BTreeMap::new();
        for entry in &self.entries {
            directories.extend(entry.name.parents().map(|parent| (parent, entry.index)));
            if entry.kind == EntryKind::Directory {
                directories.insert(entry.name.as_str(), entry.index);
            }
        }
        // Byte order puts a parent before its children: it is their prefix.
        for (name, index) in &directories {
            sink.create_dir(name)
                .map_err(|source| ArchiveError::Write { index: *index, source })?;
        }
        Ok(directories.len())
    }

    fn inflate(
        &mut self,
        index: usize,
        size: u64,
        buffer: &mut [u8],
        target: &mut dyn Write,
    ) -> Result<(), ArchiveError> {
        let corrupt = |_| ArchiveError::Corrupt { index };
        let write_error = |source| ArchiveError::Write { index, source };
        // The directory was judged under this index; a reader that changed meanwhile
        // shows up as another size.
        let mut entry = self.archive.by_index(index).map_err(corrupt)?;
        if entry.size() != size {
            return Err(ArchiveError::Corrupt { index });
        }
        let mut left = size;
        loop {
            // Reading to the end makes the zip crate compare the checksum.
            let count = match entry.read(buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_failure(index, error)),
            };
            left = left.checked_sub(count as u64).ok_or(ArchiveError::Corrupt { index })?;
            target.write_all(&buffer[..count]).map_err(write_error)?;
        }
        if left > 0 {
            return Err(ArchiveError::Corrupt { index });
        }
        target.flush().map_err(write_error)
    }
}

/// Broken data is the archive's fault, anything else the reader's.
fn read_failure(index: usize, error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => ArchiveError::Corrupt { index },
        _ => ArchiveError::Read(error),
    }
}

/// Whatever passes the plan keeps to its names and sizes.
pub fn fuzz_archive(data: &[u8]) {
    const TOTAL: u64 = 1024 * 1024;
    let limits = Limits { max_entries: 64, ..Limits::with_total(TOTAL) };
    let Ok(planned) = plan(io::Cursor::new(data), &limits) else { return };
    assert!(planned.total_bytes() <= TOTAL);
    assert!(planned.entries().len() <= 64);
    for entry in planned.entries() {
        let name = entry.name.as_str();
        assert!(!name.is_empty() && !name.starts_with('/') && !name.contains('\\'));
        assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
    let total_bytes = planned.total_bytes();
    if let Ok(summary) = planned.unpack(&mut NullSink) {
        assert_eq!(summary.bytes, total_bytes);
    }
}
