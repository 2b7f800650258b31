//! Where unpacked entries go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Performs the effects of unpacking. Names are checked; parents come before children.
pub trait Sink {
    fn create_dir(&mut self, name: &str) -> io::Result<()>;

    fn create_file(&mut self, file: &NewFile<'_>) -> io::Result<Box<dyn Write + '_>>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFile<'a> {
    pub name: &'a str,
    /// Exactly as many bytes will be written, or unpacking fails.
    pub size: u64,
    pub is_executable: bool,
}

/// Drops everything: for checking an archive.
#[derive(Debug, Default, Clone, Copy)]
pub struct NullSink;

impl Sink for NullSink {
    fn create_dir(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn create_file(&mut self, _file: &NewFile<'_>) -> io::Result<Box<dyn Write + '_>> {
        Ok(Box::new(io::sink()))
    }
}

/// Writes below an existing directory. Everything is created new, never opened, so no
/// link that stands there already is followed.
#[derive(Debug)]
pub struct DirectorySink {
    root: PathBuf,
}

impl DirectorySink {
    pub fn new(root: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(root)?.is_dir() {
            Ok(Self { root: root.to_owned() })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }
}

impl Sink for DirectorySink {
    fn create_dir(&mut self, name: &str) -> io::Result<()> {
        // Fails on anything that exists, a link to a directory included.
        fs::create_dir(self.root.join(name))
    }

    fn create_file(&mut self, file: &NewFile<'_>) -> io::Result<Box<dyn Write + '_>> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        set_mode(&mut options, file.is_executable);
        let file: File = options.open(self.root.join(file.name))?;
        Ok(Box::new(file))
    }
}

#[cfg(unix)]
fn set_mode(options: &mut OpenOptions, is_executable: bool) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(if is_executable { 0o755 } else { 0o644 });
}

#[cfg(not(unix))]
fn set_mode(_options: &mut OpenOptions, _is_executable: bool) {}
