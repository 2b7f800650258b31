//! Openings of a receipt's commitments: what the owner may show to others, one value at a time.
//!
//! The values come from the job's record and from the fetched result; a value that the receipt does not commit to is
//! never written.

use sealtune_job::Script;
use sealtune_receipt::Statement;
use sealtune_seal::{canonical, commitment::Opening};

use super::{CliError, ClientError, JobRecord, fetch::Destination, files};

const MAX_METRICS: u64 = 64 << 10;
const MAX_EVENTS: u64 = 64 << 20;
const MAX_OPENING: u64 = 4 << 20;

/// What only the fetched result tells.
#[derive(Debug, Default)]
pub(crate) struct FromResult {
    /// `output_model/metrics.json`, else the last event.
    pub(crate) metrics: Option<Vec<u8>>,
    /// SHA-256 of the archive before it was sealed.
    pub(crate) plain: Option<[u8; 32]>,
}

impl FromResult {
    pub(crate) fn read(destination: &Destination, plain: Option<[u8; 32]>) -> Self {
        let metrics = files::read(&destination.output().join("metrics.json"), MAX_METRICS).ok();
        let events = || files::read_text(&destination.metrics(), MAX_EVENTS).ok();
        let last = || events()?.lines().next_back().map(|line| line.as_bytes().to_vec());
        Self { metrics: metrics.or_else(last), plain }
    }
}

/// Openings for every commitment of the statement whose value is known here, in the order of their names.
pub(crate) fn all(
    record: &JobRecord,
    statement: &Statement,
    from_result: &FromResult,
) -> Result<Vec<Opening>, CliError> {
    let mut openings = Vec::new();
    for (name, commitment) in &statement.predicate.commitments {
        let Some(value) = value(record, from_result, name)? else { continue };
        let opening = Opening::new(&record.commitment_key, name, &value);
        if opening.verify(&commitment.0).is_ok() {
            openings.push(opening);
        }
    }
    Ok(openings)
}

fn value(
    record: &JobRecord,
    from_result: &FromResult,
    name: &str,
) -> Result<Option<Vec<u8>>, CliError> {
    let terms = &record.terms;
    Ok(match name {
        "dataset" => Some(terms.dataset.id.to_string().into_bytes()),
        "model" => Some(terms.model.id.to_string().into_bytes()),
        "parameters" => Some(terms.parameters.clone().into_bytes()),
        "environment" => Some(canonical::to_vec(&terms.environment)?),
        "script" => Some(match &terms.script {
            Script::Inline { text, .. } => text.clone().into_bytes(),
            Script::Image { sha256, .. } => sha256.to_string().into_bytes(),
        }),
        "metrics" => from_result.metrics.clone(),
        "result" => from_result.plain.map(|digest| hex::encode(digest).into_bytes()),
        _ => None,
    })
}

/// One file an opening, so that each can be shown alone.
pub(crate) fn save(destination: &Destination, openings: &[Opening]) -> Result<(), CliError> {
    for opening in openings {
        let bytes = serde_json::to_vec_pretty(opening)
            .map_err(|error| ClientError::Bug(format!("write an opening: {error}")))?;
        files::replace_private(&file(destination, &opening.name)?, &bytes)?;
    }
    Ok(())
}

/// Reads an opening that an earlier fetch wrote.
pub(crate) fn load(destination: &Destination, name: &str) -> Result<Option<Opening>, CliError> {
    let path = file(destination, name)?;
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read(&path, MAX_OPENING)?;
    let bad = |reason: String| ClientError::BadFile { path, reason };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(error.to_string()).into())
}

/// Names come from a statement: one that could leave the directory is refused.
fn file(destination: &Destination, name: &str) -> Result<std::path::PathBuf, ClientError> {
    let is_plain = !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain {
        Ok(destination.openings().join(format!("{name}.json")))
    } else {
        Err(ClientError::NoOpening { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::records::tests::sample_record;

    #[test]
    fn an_opening_is_read_back_and_no_name_leaves_the_directory() {
        let directory = tempfile::tempdir().expect("directory");
        let destination = Destination { directory: directory.path().to_owned() };
        let record = sample_record();
        let opening = Opening::new(&record.commitment_key, "dataset", b"value");
        save(&destination, std::slice::from_ref(&opening)).expect("saved");
        assert!(load(&destination, "dataset").expect("read") == Some(opening));
        assert!(load(&destination, "script").expect("none").is_none());
        for name in ["../x", "", ".hidden", "a/b"] {
            assert_eq!(load(&destination, name).expect_err("refused").code, "ST-CLI-55");
        }
    }

    #[test]
    fn values_of_the_record_need_no_result() {
        let (record, nothing) = (sample_record(), FromResult::default());
        for name in ["dataset", "model", "parameters", "environment", "script"] {
            assert!(value(&record, &nothing, name).expect(name).is_some(), "{name}");
        }
        for name in ["metrics", "result", "unknown"] {
            assert!(value(&record, &nothing, name).expect(name).is_none(), "{name}");
        }
    }
}
