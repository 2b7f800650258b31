//! Deterministic zip archives into a writer that cannot seek.
//!
//! Same names and bytes, same archive: names in order, one fixed time, one mode, no
//! platform fields. Sizes are not known beforehand, so entries carry data descriptors.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use super::{ArchiveError, EntryName};

const COPY_BYTES: usize = 64 * 1024;
const FILE_MODE: u32 = 0o644;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackMethod {
    Deflate,
    /// For what does not shrink: model weights, ciphertext.
    Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSummary {
    pub files: usize,
    /// Before compression.
    pub bytes: u64,
}

/// Packs `files` (full names inside the archive, in ascending byte order) into `out`.
/// `max_total_bytes` bounds what is read.
pub fn pack<N, R, W>(
    files: impl IntoIterator<Item = Result<(N, R), ArchiveError>>,
    method: PackMethod,
    max_total_bytes: u64,
    out: W,
) -> Result<PackSummary, ArchiveError>
where
    N: AsRef<str>,
    R: Read,
    W: Write,
{
    let gate = Rc::new(Cell::new(Gate::Open));
    let mut writer = ZipWriter::new_stream(Gated { inner: out, gate: Rc::clone(&gate) });
    let packed = pack_files(files, method, max_total_bytes, &mut writer);
    if packed.is_err() {
        // A dropped writer would complete the archive, as if nothing were missing.
        gate.set(Gate::Closed);
        return packed;
    }
    let finished = writer.finish().map_err(pack_error);
    if finished.is_err() {
        gate.set(Gate::Closed);
    }
    finished?.flush().map_err(ArchiveError::Pack)?;
    packed
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

/// Passes bytes on until its gate closes, then swallows them.
struct Gated<W> {
    inner: W,
    gate: Rc<Cell<Gate>>,
}

impl<W: Write> Write for Gated<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.gate.get() {
            Gate::Open => self.inner.write(bytes),
            Gate::Closed => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.gate.get() {
            Gate::Open => self.inner.flush(),
            Gate::Closed => Ok(()),
        }
    }
}

fn pack_files<N, R, W>(
    files: impl IntoIterator<Item = Result<(N, R), ArchiveError>>,
    method: PackMethod,
    max_total_bytes: u64,
    writer: &mut ZipWriter<StreamWriter<W>>,
) -> Result<PackSummary, ArchiveError>
where
    N: AsRef<str>,
    R: Read,
    W: Write,
{
    let options = SimpleFileOptions::default()
        .compression_method(match method {
            PackMethod::Deflate => CompressionMethod::Deflated,
            PackMethod::Store => CompressionMethod::Stored,
        })
        .last_modified_time(DateTime::default())
        .system(System::Unix)
        .unix_permissions(FILE_MODE)
        .large_file(true);
    let mut summary = PackSummary { files: 0, bytes: 0 };
    let mut buffer = vec![0; COPY_BYTES];
    let mut last: Option<String> = None;
    for (index, file) in files.into_iter().enumerate() {
        let (name, mut reader) = file?;
        let name = EntryName::parse(name.as_ref().as_bytes())
            .map_err(|source| ArchiveError::Name { index, source })?;
        if last.as_deref().is_some_and(|last| last >= name.as_str()) {
            return Err(ArchiveError::Unsorted { index });
        }
        writer.start_file(name.as_str(), options).map_err(pack_error)?;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ArchiveError::PackSource { index, source }),
            };
            summary.bytes = summary.bytes.saturating_add(count as u64);
            if summary.bytes > max_total_bytes {
                return Err(ArchiveError::TooBig { limit: max_total_bytes });
            }
            writer.write_all(&buffer[..count]).map_err(ArchiveError::Pack)?;
        }
        summary.files += 1;
        last = Some(name.as_str().to_owned());
    }
    Ok(summary)
}

fn pack_error(error: zip::result::ZipError) -> ArchiveError {
    ArchiveError::Pack(error.into())
}
