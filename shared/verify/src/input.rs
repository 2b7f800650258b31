//! Files that the user names, read within bounds.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;
use sealtune_evidence::{
    Collateral, Hex32, Hex48, Policy,
    collateral::MAX_COLLATERAL_BYTES,
    nvidia::collateral::{MAX_NVIDIA_COLLATERAL_BYTES, NvidiaCollateral},
    policy::{ListedImages, MAX_POLICY_BYTES},
    snp::collateral::{MAX_SNP_COLLATERAL_BYTES, SnpCollateral},
};

use crate::failure::Failure;

const STRICT: &str = "strict";
const MAX_CERTIFICATE: usize = 16 * 1024;
/// Firmware and result files are hashed, not held.
const MAX_HASHED: u64 = 1 << 42;

/// A file whose end comes: a pipe may never begin, and a device never end.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    let refused = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
    // Opening a pipe waits for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(refused());
    }
    let file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused()) }
}

/// At most `limit` bytes of a file of the user's; one more is an error.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let bytes = judged(path, limit)?;
    if bytes.len() > limit {
        return Err(Failure::TooLong { path: path.to_owned(), limit: limit as u64 });
    }
    Ok(bytes)
}

/// What is to be judged, and a byte more than it may have: its own decoder says that it is too long.
pub(crate) fn judged(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = || -> std::io::Result<Vec<u8>> {
        open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(Failure::of(path, |path, source| Failure::Read { path, source }))
}

fn hash(path: &Path, algorithm: &'static digest::Algorithm) -> Result<digest::Digest, Failure> {
    let hash = || -> std::io::Result<digest::Digest> {
        let mut file = open(path)?.take(MAX_HASHED);
        let mut context = digest::Context::new(algorithm);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(context.finish()),
                count => context.update(&buffer[..count]),
            }
        }
    };
    hash().map_err(Failure::of(path, |path, source| Failure::Read { path, source }))
}

pub(crate) fn sha256(path: &Path) -> Result<Hex32, Failure> {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash(path, &digest::SHA256)?.as_ref());
    Ok(bytes.into())
}

pub(crate) fn sha384(path: &Path) -> Result<Hex48, Failure> {
    let mut bytes = [0; 48];
    bytes.copy_from_slice(hash(path, &digest::SHA384)?.as_ref());
    Ok(bytes.into())
}

/// A ready-made policy by its name (without one: `strict`), or a file, with what the user lists besides. A file of one of these
/// names is `./strict`.
pub fn policy(name_or_file: Option<&Path>, listed: &ListedImages) -> Result<Policy, Failure> {
    let path = name_or_file.unwrap_or(Path::new(STRICT));
    let ready_made = path.to_str().and_then(|name| Policy::by_name(name, listed));
    let policy = match ready_made {
        Some(policy) => policy,
        None => match read(path, MAX_POLICY_BYTES) {
            Err(Failure::Read { path, source })
                if source.kind() == ErrorKind::NotFound && path.components().count() == 1 =>
            {
                return Err(Failure::PolicyUnknown { path });
            }
            bytes => Policy::parse_with(&bytes?, listed),
        },
    };
    policy.map_err(Failure::of(path, |path, source| Failure::Policy { path, source }))
}

pub(crate) fn collateral(path: &Path) -> Result<Collateral, Failure> {
    Collateral::parse(&read(path, MAX_COLLATERAL_BYTES)?)
        .map_err(|error| Failure::Collateral { path: path.to_owned(), reason: error.to_string() })
}

pub(crate) fn snp_collateral(path: &Path) -> Result<SnpCollateral, Failure> {
    SnpCollateral::parse(&read(path, MAX_SNP_COLLATERAL_BYTES)?)
        .map_err(Failure::of(path, |path, source| Failure::SnpCollateral { path, source }))
}

pub(crate) fn gpu_collateral(path: &Path) -> Result<NvidiaCollateral, Failure> {
    NvidiaCollateral::parse(&read(path, MAX_NVIDIA_COLLATERAL_BYTES)?)
        .map_err(Failure::of(path, |path, source| Failure::GpuCollateral { path, source }))
}

/// The root certificate of a simulated platform in DER, from a file of one in DER or PEM.
pub fn root_certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read(path, MAX_CERTIFICATE)?;
    let refused = || Failure::Root { path: path.to_owned() };
    if bytes.first() == Some(&0x30) {
        return Ok(bytes);
    }
    let text = String::from_utf8(bytes).map_err(|_| refused())?;
    let body = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"))
        .map(|(body, _)| body.split_whitespace().collect::<String>())
        .ok_or_else(refused)?;
    STANDARD.decode(body).map_err(|_| refused())
}
