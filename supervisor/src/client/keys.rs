//! The owner's key file.

use std::path::{Path, PathBuf};

use sealtune_seal::{OwnerKey, Secret, key_file::MAX_KEY_FILE};
use zeroize::Zeroizing;

use super::{CliError, ClientError, files};

/// `~/.config/sealtune/owner.key`
pub(crate) fn default_path() -> Result<PathBuf, ClientError> {
    Ok(files::config_directory()?.join("owner.key"))
}

/// Reads an owner key; a file that others may read is refused.
pub(crate) fn load(path: &Path) -> Result<OwnerKey, CliError> {
    if !path.exists() {
        return Err(ClientError::NoKey { path: path.to_owned() }.into());
    }
    let text = read_private(path)?;
    Ok(OwnerKey::from_file_text(&text)?)
}

/// Writes a new key file, mode 0600.
pub(crate) fn save(path: &Path, key: &OwnerKey) -> Result<(), CliError> {
    let text: Secret<String> = key.to_file_text();
    Ok(files::write_new_private(path, text.expose().as_bytes())?)
}

/// A wallet's private key in hex, from its own file.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, CliError> {
    files::private_mode(path)?;
    Ok(Zeroizing::new(files::read_text(path, MAX_KEY_FILE as u64)?))
}
