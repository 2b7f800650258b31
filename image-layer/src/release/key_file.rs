//! A holder's private key: Ed25519 in PKCS#8 v2 (RFC 8410, RFC 5958), DER, in a file that only its owner may read.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_evidence::Hex32;
use zeroize::Zeroizing;

use crate::error::ImageError;
use crate::output::parent_of;

const MAX_KEY_BYTES: usize = 1024;

/// # Errors
/// Others may read the file, or it is no such key.
pub(super) fn read(path: &Path) -> Result<Ed25519KeyPair, ImageError> {
    let mut file = File::open(path).map_err(ImageError::io("read", path))?;
    let mode = file.metadata().map_err(ImageError::io("read", path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(ImageError::KeyOpen { path: path.to_path_buf(), mode: mode & 0o777 });
    }
    // All of it at once: a growing buffer leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_KEY_BYTES + 1]);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(ImageError::io("read", path))? {
            0 => break,
            count => length += count,
        }
    }
    // Why a key does not parse says nothing that its owner needs, and might say something of the key.
    bytes
        .get(..length)
        .and_then(|der| Ed25519KeyPair::from_pkcs8(der).ok())
        .ok_or_else(|| ImageError::KeyForm { path: path.to_path_buf() })
}

/// Whole or not at all, and never in place of another file.
///
/// # Errors
/// The path is taken, or cannot be written.
pub(super) fn write(path: &Path, der: &[u8]) -> Result<(), ImageError> {
    let parent = parent_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".sealtune-image-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(&parent)
        .map_err(ImageError::io("write in", &parent))?;
    file.write_all(der)
        .and_then(|()| file.as_file().sync_all())
        .map_err(ImageError::io("write", path))?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(ImageError::KeyExists { path: path.to_path_buf() });
        }
        Err(error) => return Err(ImageError::io("write", path)(error.error)),
    }
    // The only copy: its name must be on the disk too.
    File::open(&parent).and_then(|folder| folder.sync_all()).map_err(ImageError::io("write", path))
}

/// # Errors
/// Never: an Ed25519 key has 32 bytes.
pub(super) fn public(key: &Ed25519KeyPair) -> Result<Hex32, ImageError> {
    let bytes: [u8; 32] = key.public_key().as_ref().try_into().map_err(|_| ImageError::Encode {
        what: "the public key",
        detail: "it has not 32 bytes".to_owned(),
    })?;
    Ok(bytes.into())
}
