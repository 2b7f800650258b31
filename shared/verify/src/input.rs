//! Files that the user names, read within bounds.

use std::{fs::File, io::Read as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;
use sealtune_evidence::{
    Anchors, Collateral, Context, Hex32, Hex48, JudgeTime, Policy, ReferenceValues,
    collateral::MAX_COLLATERAL_BYTES, policy::MAX_POLICY_BYTES, reference::MAX_REFERENCE_BYTES,
};

use crate::{cli::JudgeOptions, failure::Failure};

const MAX_CERTIFICATE: usize = 16 * 1024;
/// Firmware and result files are hashed, not held.
const MAX_HASHED: u64 = 1 << 42;

/// At most `limit` bytes of a file; one more is an error.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let limit = limit as u64;
    let mut bytes = Vec::new();
    let read = || -> std::io::Result<Vec<u8>> {
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(Failure::of(path, |path, source| Failure::Read { path, source }))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn hash(path: &Path, algorithm: &'static digest::Algorithm) -> Result<digest::Digest, Failure> {
    let hash = || -> std::io::Result<digest::Digest> {
        let mut file = File::open(path)?.take(MAX_HASHED);
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

/// Everything that [`JudgeOptions`] names.
pub(crate) struct JudgeInput {
    policy: Policy,
    references: Vec<ReferenceValues>,
    anchors: Anchors,
    collateral: Option<Collateral>,
    time: JudgeTime,
}

impl JudgeInput {
    pub(crate) fn read(options: &JudgeOptions, now: u64) -> Result<Self, Failure> {
        let policy = match &options.policy {
            None => Policy::strict(),
            Some(path) => Policy::parse(&read(path, MAX_POLICY_BYTES)?)
                .map_err(Failure::of(path, |path, source| Failure::Policy { path, source }))?,
        };
        let mut references = Vec::new();
        for path in &options.reference {
            let values = ReferenceValues::parse(&read(path, MAX_REFERENCE_BYTES)?)
                .map_err(Failure::of(path, |path, source| Failure::Reference { path, source }))?;
            references.push(values);
        }
        let simulated_root = options.simulated_root.as_deref().map(certificate).transpose()?;
        let collateral =
            match &options.collateral {
                None => None,
                Some(path) => Some(Collateral::parse(&read(path, MAX_COLLATERAL_BYTES)?).map_err(
                    |error| Failure::Collateral { path: path.clone(), reason: error.to_string() },
                )?),
            };
        let time = options.at.map_or(JudgeTime::Now(now), JudgeTime::At);
        Ok(Self {
            policy,
            references,
            anchors: Anchors { simulated_root, ..Anchors::default() },
            collateral,
            time,
        })
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            policy: &self.policy,
            references: &self.references,
            anchors: &self.anchors,
            collateral: self.collateral.as_ref(),
            snp_collateral: None,
            gpu_collateral: None,
            time: self.time,
        }
    }
}

/// A certificate in DER, from a file in DER or PEM.
fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
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
