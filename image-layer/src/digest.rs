//! Hashing files and reading them with a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ring::digest::{Algorithm, Context, SHA256, SHA384, digest};

use crate::error::ImageError;

#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[must_use]
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    let mut context = Context::new(&SHA384);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 48];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, ImageError> {
    hash_file(path, &SHA256).map(hex::encode)
}

/// # Errors
/// The file cannot be read.
pub fn sha384_file(path: &Path) -> Result<[u8; 48], ImageError> {
    let mut out = [0; 48];
    out.copy_from_slice(&hash_file(path, &SHA384)?);
    Ok(out)
}

fn hash_file(path: &Path, algorithm: &'static Algorithm) -> Result<Vec<u8>, ImageError> {
    let mut file = File::open(path).map_err(ImageError::io("read", path))?;
    let mut context = Context::new(algorithm);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let got = file.read(&mut buffer).map_err(ImageError::io("read", path))?;
        if got == 0 {
            return Ok(context.finish().as_ref().to_vec());
        }
        context.update(&buffer[..got]);
    }
}

/// # Errors
/// The file cannot be read, or is longer than `max`.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, ImageError> {
    let file = File::open(path).map_err(ImageError::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(ImageError::io("read", path))?;
    if bytes.len() as u64 > max {
        return Err(ImageError::io("read", path)(std::io::Error::other(format!(
            "longer than {max} bytes"
        ))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_and_bounds() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(sha384(&[b"a", b"bc"]), sha384(&[b"abc"]));
        assert!(hex::encode(sha384(&[b"abc"])).starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(sha256_file(&path).unwrap(), sha256_hex(b"abc"));
        assert_eq!(sha384_file(&path).unwrap(), sha384(&[b"abc"]));
        assert_eq!(read_bounded(&path, 3).unwrap(), b"abc");
        assert!(read_bounded(&path, 2).is_err());
    }
}
