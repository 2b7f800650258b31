//! Files of the customer: read with a bound, written whole or not at all, secrets for their owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::ClientError;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ClientError> {
    let failed = |source| ClientError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(ClientError::FileTooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, ClientError> {
    String::from_utf8(read(path, limit)?).map_err(|_| ClientError::BadFile {
        path: path.to_owned(),
        reason: "it is not UTF-8 text".into(),
    })
}

/// Writes a new file with mode 0600; what stands there already stays.
pub(crate) fn write_new_private(path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => ClientError::Exists { path: path.to_owned() },
        _ => ClientError::Write { path: path.to_owned(), source },
    };
    make_parent(path)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Replaces a file in one step (temporary file, fsync, rename); mode 0600.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
    make_parent(path)?;
    let directory = directory_of(path);
    let written = (|| {
        let mut file = tempfile::Builder::new().prefix(".sealtune-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The name is on disk only when its directory is.
        File::open(directory)?.sync_all()
    })();
    written.map_err(|source| ClientError::Write { path: path.to_owned(), source })
}

pub(crate) fn make_parent(path: &Path) -> Result<(), ClientError> {
    make_private_directory(directory_of(path))
}

/// Where a file is or will be; a bare name is in the current directory.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Missing directories are made with mode 0700; those that exist keep theirs.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), ClientError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ClientError::Write { path: path.to_owned(), source })
}

/// Whether only the file's owner may read it.
pub(crate) fn private_mode(path: &Path) -> Result<(), ClientError> {
    let metadata =
        fs::metadata(path).map_err(|source| ClientError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(ClientError::KeyReadable { path: path.to_owned(), mode })
    }
}

/// `$XDG_CONFIG_HOME/sealtune` or `~/.config/sealtune`.
pub(crate) fn config_directory() -> Result<PathBuf, ClientError> {
    user_directory("XDG_CONFIG_HOME", ".config")
}

/// `$XDG_DATA_HOME/sealtune` or `~/.local/share/sealtune`.
pub(crate) fn data_directory() -> Result<PathBuf, ClientError> {
    user_directory("XDG_DATA_HOME", ".local/share")
}

fn user_directory(variable: &str, below_home: &str) -> Result<PathBuf, ClientError> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .map(|directory| directory.join("sealtune"))
        .ok_or(ClientError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_private_file_is_never_overwritten() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("below/owner.key");
        write_new_private(&path, b"one").expect("new");
        assert_eq!(write_new_private(&path, b"two").expect_err("exists").code(), "ST-CLI-13");
        assert_eq!(read(&path, 3).expect("read"), b"one");
        assert!(private_mode(&path).is_ok());
        assert_eq!(read(&path, 2).expect_err("bound").code(), "ST-CLI-12");
    }

    #[test]
    fn replacing_leaves_one_private_file() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("record.json");
        replace_private(&path, b"one").expect("first");
        replace_private(&path, b"two").expect("second");
        assert_eq!(read(&path, 10).expect("read"), b"two");
        assert!(private_mode(&path).is_ok());
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_bare_name_is_in_the_current_directory() {
        for (path, directory) in [("a", "."), ("./a", "."), ("b/a", "b"), ("/a", "/"), ("", ".")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory), "{path}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("owner.key");
        write_new_private(&path, b"key").expect("new");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        assert_eq!(private_mode(&path).expect_err("readable").code(), "ST-CLI-21");
    }
}
