//! The in-toto Statement v1 around a manifest. Its subjects are the images, by the digests that the manifest gives them.

use sealtune_seal::canonical;
use serde::{Deserialize, Serialize};

use super::{error::ReleaseError, manifest::Manifest};
use crate::fixed_hex::Hex32;

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
pub(super) const PREDICATE_TYPE: &str = "urn:sealtune:release:v1";
pub(super) const MAX_STATEMENT_BYTES: usize = 2 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectDigest {
    sha256: Hex32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Manifest,
}

/// The payload to sign: the same bytes wherever the same manifest is written.
pub(super) fn write(manifest: &Manifest) -> Result<Vec<u8>, ReleaseError> {
    manifest.validate()?;
    let statement = Statement {
        statement_type: STATEMENT_TYPE.to_owned(),
        subject: subjects(manifest),
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: manifest.clone(),
    };
    let bytes = canonical::to_vec(&statement).map_err(ReleaseError::StatementUnreadable)?;
    if bytes.len() > MAX_STATEMENT_BYTES {
        return Err(ReleaseError::Field {
            field: "reference",
            reason: "the manifest is longer than 2 MiB: name reference values by digest",
        });
    }
    Ok(bytes)
}

pub(super) fn read(payload: &[u8]) -> Result<Manifest, ReleaseError> {
    let statement: Statement = canonical::parse(payload, MAX_STATEMENT_BYTES)
        .map_err(ReleaseError::StatementUnreadable)?;
    if statement.statement_type != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(ReleaseError::StatementType);
    }
    statement.predicate.validate()?;
    if statement.subject != subjects(&statement.predicate) {
        return Err(ReleaseError::Field {
            field: "subject",
            reason: "expected the images, in their order",
        });
    }
    Ok(statement.predicate)
}

fn subjects(manifest: &Manifest) -> Vec<Subject> {
    let subject =
        |name: &str, sha256| Subject { name: name.to_owned(), digest: SubjectDigest { sha256 } };
    manifest.images.iter().map(|image| subject(&image.name, image.os_image)).collect()
}
