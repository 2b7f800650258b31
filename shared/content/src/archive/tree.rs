//! Listing a directory tree for packing. Who filled the directory is not trusted: links
//! and special files are refused, and a file must still be the listed one when opened.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::{ArchiveError, EntryName, NameError};

#[derive(Debug, Clone)]
pub struct TreeFile {
    /// Name inside the archive.
    pub name: EntryName,
    pub size: u64,
    path: PathBuf,
    identity: Identity,
}

impl TreeFile {
    pub fn open(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && Identity::of(&metadata) == self.identity {
            Ok(file)
        } else {
            Err(io::Error::other("the file was replaced after it was listed"))
        }
    }
}

/// All regular files below `root`, named `<prefix>/<path below root>`, in the order that
/// [`super::pack`] wants. Empty directories do not occur in an archive.
pub fn list_tree(
    root: &Path,
    prefix: &str,
    max_entries: usize,
) -> Result<Vec<TreeFile>, ArchiveError> {
    let mut files = Vec::new();
    let mut seen = 0;
    let mut directories = vec![(root.to_owned(), prefix.to_owned())];
    while let Some((directory, name)) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(ArchiveError::List)? {
            let entry = entry.map_err(ArchiveError::List)?;
            let index = seen;
            seen += 1;
            if seen > max_entries {
                return Err(ArchiveError::TooManyEntries { limit: max_entries });
            }
            let path = entry.path();
            // Of the entry itself, not of what a link points to.
            let metadata = fs::symlink_metadata(&path).map_err(ArchiveError::List)?;
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                return Err(ArchiveError::Name { index, source: NameError::NotUtf8 });
            };
            let full = format!("{name}/{file_name}");
            if metadata.is_dir() {
                directories.push((path, full));
            } else if metadata.is_file() {
                let name = EntryName::parse(full.as_bytes())
                    .map_err(|source| ArchiveError::Name { index, source })?;
                let (size, identity) = (metadata.len(), Identity::of(&metadata));
                files.push(TreeFile { name, size, path, identity });
            } else {
                return Err(ArchiveError::SpecialInTree);
            }
        }
    }
    files.sort_unstable_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    Ok(files)
}

#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

#[cfg(unix)]
impl Identity {
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

#[cfg(not(unix))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity;

#[cfg(not(unix))]
impl Identity {
    fn of(_metadata: &Metadata) -> Self {
        Self
    }
}
