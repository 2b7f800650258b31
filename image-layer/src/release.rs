//! `sealtune-image release`: keys of holders, and manifests that several of them sign.
//!
//! Formats and rules are those of `sealtune_evidence::release`; here are files and people. A private key is in a file of its
//! own, never on the command line and never in what is printed.

mod key_file;
mod make;
mod merge;
mod new_key;
mod report;
mod sign;
mod verify;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use sealtune_evidence::time::{Timestamp, parse_rfc3339};

use crate::cli::{Answer, show};
use crate::error::ImageError;

pub use make::MakeArgs;
pub use new_key::NewKeyArgs;

const MAX_MANIFEST_BYTES: u64 = sealtune_evidence::release::MAX_MANIFEST_BYTES as u64;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a key that signs releases, and print its entry for the key set
    #[command(
        after_help = "Example:\n  sealtune-image release new-key --holder ada --out ada.key > ada.json\n\n\
        The key is an Ed25519 key in PKCS#8 (DER) that only you may read. It is never overwritten: keep a copy where no\n\
        network reaches it. Its entry goes into the list `keys` of the key set."
    )]
    NewKey(NewKeyArgs),
    /// Make a manifest from image directories and their reference values
    #[command(
        after_help = "Examples:\n  sealtune-image release make --image image --reference reference.json \\\n    \
        --number 7 --edition 1 --min-release 5 --not-after 2027-06-01T00:00:00Z --out release.json\n\n  \
        # Two images, their reference values in files beside the manifest, signed at once:\n  \
        sealtune-image release make --image prod=image --image gpu=image-gpu \\\n    \
        --reference prod.json --reference gpu.json --by-digest --number 7 --edition 1 --min-release 5 \\\n    \
        --not-after 2027-06-01T00:00:00Z --key ada.key --out release.json"
    )]
    Make(MakeArgs),
    /// Sign a manifest; without --key, only show what it says
    #[command(after_help = "Examples:\n  sealtune-image release sign release.json\n  \
        sealtune-image release sign release.json --key grace.key\n  \
        sealtune-image release sign release.json --key grace.key --out release-grace.json")]
    Sign {
        /// The manifest: unsigned, or signed by others
        file: PathBuf,
        /// Your key, as new-key made it
        #[arg(long, value_name = "KEY")]
        key: Option<PathBuf>,
        /// Where to write it [default: in place of FILE]
        #[arg(long, value_name = "FILE", requires = "key")]
        out: Option<PathBuf>,
    },
    /// Put the signatures of two files of the same manifest into one
    #[command(
        after_help = "Example:\n  sealtune-image release merge release-ada.json release-grace.json --out release.json"
    )]
    Merge {
        a: PathBuf,
        b: PathBuf,
        /// The file with the signatures of both; an older file there is replaced
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check signatures, rules and time of a manifest, as its users will
    #[command(
        after_help = "Example:\n  sealtune-image release verify release.json --keys keys.json --at 2027-01-01T00:00:00Z\n\n\
        What was revoked or replaced by other manifests is for the verifier's memory to say."
    )]
    Verify {
        file: PathBuf,
        /// The key set: who may release, and how many must have signed
        #[arg(long, value_name = "KEYS")]
        keys: PathBuf,
        /// At this time [default: now]
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        at: Option<Timestamp>,
    },
}

/// # Errors
/// See [`ImageError`].
pub(crate) fn run(verb: Verb, json: bool) -> Result<Answer, ImageError> {
    match verb {
        Verb::NewKey(order) => {
            let entry = new_key::new_key(&order)?;
            // People paste it into the key set: JSON either way.
            show(true, &entry, String::new)?;
        }
        Verb::Make(order) => {
            let report = make::make(order, now())?;
            show(json, &report, || report.text())?;
        }
        Verb::Sign { file, key, out } => {
            let out = out.as_deref().unwrap_or(&file);
            let report = sign::sign(&file, key.as_deref(), out)?;
            show(json, &report, || report.text())?;
        }
        Verb::Merge { a, b, out } => {
            let report = merge::merge(&a, &b, &out)?;
            show(json, &report, || report.text())?;
        }
        Verb::Verify { file, keys, at } => {
            let report = verify::verify(&file, &keys, at.map_or_else(now, Timestamp::seconds))?;
            show(json, &report, || report.text())?;
        }
    }
    Ok(Answer::Yes)
}

/// A clock before 1970 is before every manifest.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_rfc3339(text)
        .and_then(Timestamp::new)
        .ok_or_else(|| "expected a time like 2027-06-01T00:00:00Z".to_owned())
}
