//! The pure steps of a submission: from what the user asked for to the terms of a job.

use std::collections::BTreeMap;

use sealtune_job::{
    DatasetInput, Disclosure, Hex, ImageReference, InputFormat, JobId, JobKind, JobTerms, Limits,
    ModelInput, Recipient, Script, TERMS_VERSION,
};
use sealtune_seal::OwnerPublic;

use super::{ClientError, JobRecord};
use crate::api::types::{ImageView, Submission};

/// Everything that the user said, already read from its files.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) job: JobId,
    pub(crate) nonce: Hex<32>,
    pub(crate) time: u64,
    pub(crate) model: ModelInput,
    pub(crate) dataset: DatasetInput,
    pub(crate) image: Hex<32>,
    pub(crate) script: Script,
    pub(crate) parameters: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) disclosure: Disclosure,
}

/// The terms of the first attempt, without an offer.
pub(crate) fn terms(owner: &OwnerPublic, wanted: Wanted) -> JobTerms {
    JobTerms {
        version: TERMS_VERSION,
        job: wanted.job,
        attempt: 1,
        owner: Hex(*owner.signing.as_bytes()),
        recipient: Recipient {
            suite: owner.recipient.suite().name().to_owned(),
            key: owner.recipient.to_hex(),
        },
        model: wanted.model,
        dataset: wanted.dataset,
        image: ImageReference { verity_root: wanted.image },
        script: wanted.script,
        parameters: wanted.parameters,
        environment: wanted.environment,
        limits: wanted.limits,
        disclosure: wanted.disclosure,
        nonce: wanted.nonce,
        time: wanted.time,
        offer: None,
    }
}

/// What the host is told. A sealed job's dataset goes by the id of its sealed object; the id of the plaintext would let
/// the host recognise it.
pub(crate) fn submission(record: &JobRecord) -> Result<Submission, ClientError> {
    let terms = &record.terms;
    let dataset = match record.kind {
        JobKind::Plain => terms.dataset.id,
        JobKind::Sealed => terms
            .dataset
            .sealed
            .ok_or_else(|| ClientError::Bug("a sealed job without its sealed dataset".into()))?,
    };
    Ok(Submission {
        job: terms.job,
        idempotency_key: record.idempotency_key.clone(),
        kind: record.kind,
        owner: terms.owner,
        model: terms.model.id,
        image: terms.image.verity_root,
        dataset,
        limits: terms.limits,
        terms: (record.kind == JobKind::Plain).then(|| Box::new(terms.clone())),
    })
}

/// `K=V`, each name once.
pub(crate) fn environment(pairs: &[String]) -> Result<BTreeMap<String, String>, ClientError> {
    let usage = |reason: String| ClientError::Usage { option: "--env", reason };
    let mut map = BTreeMap::new();
    for pair in pairs {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| usage(format!("{pair:?} is not NAME=VALUE")))?;
        if map.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(usage(format!("{name} is given twice")));
        }
    }
    Ok(map)
}

/// Archives are told by their name, as everywhere.
pub(crate) fn format_of(name: &str, chosen: Option<InputFormat>) -> InputFormat {
    let is_zip = name.to_ascii_lowercase().ends_with(".zip");
    chosen.unwrap_or(if is_zip { InputFormat::Archive } else { InputFormat::File })
}

/// A verity root as it was given, or none if `text` is a name.
pub(crate) fn image_root(text: &str) -> Option<Hex<32>> {
    text.parse().ok()
}

/// The root in a layer description (`NAME.layer.json`), whose name must be the one asked for, if one was.
pub(crate) fn image_of_layer_file(text: &str, name: Option<&str>) -> Result<Hex<32>, String> {
    let layer: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    if let (Some(wanted), Some(found)) = (name, layer.get("name").and_then(|name| name.as_str()))
        && wanted != found
    {
        return Err(format!("it describes the layer {found:?}, not {wanted:?}"));
    }
    let root = layer.get("root").and_then(|root| root.as_str()).ok_or("it has no verity root")?;
    root.parse().map_err(|_| "its verity root is not 64 hex digits".to_owned())
}

/// The provider's own list: good enough for a job that the provider may read anyway.
pub(crate) fn image_of_provider(images: &[ImageView], name: &str) -> Result<Hex<32>, ClientError> {
    images
        .iter()
        .find(|image| image.name == name)
        .map(|image| image.verity_root)
        .ok_or_else(|| ClientError::UnknownImage(name.to_owned()))
}

/// A dataset of a job that exists already must be the one that was sealed for it.
pub(crate) fn check_same_job(record: &JobRecord, answered: JobId) -> Result<(), ClientError> {
    if record.job() == answered {
        return Ok(());
    }
    Err(ClientError::WrongJob {
        job: answered.to_string(),
        reason: "the provider has it under this idempotency key; it was not submitted from here"
            .into(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::records::tests::sample_record;
    use sealtune_content::ContentId;
    use sealtune_seal::{OwnerKey, Suite};

    pub(crate) fn sample_wanted() -> Wanted {
        Wanted {
            job: JobId::from_bytes([0xab; 16]),
            nonce: Hex([9; 32]),
            time: 1_700_000_000,
            model: ModelInput {
                id: ContentId::Sha256 { digest: [1; 32], length: 10 },
                format: InputFormat::Archive,
            },
            dataset: DatasetInput {
                id: ContentId::Sha256 { digest: [2; 32], length: 20 },
                format: InputFormat::File,
                sealed: Some(ContentId::Sha256 { digest: [3; 32], length: 88 }),
            },
            image: Hex([4; 32]),
            script: Script::Inline { name: "train.py".into(), text: "print(1)".into() },
            parameters: "{}".into(),
            environment: BTreeMap::new(),
            limits: Limits::default(),
            disclosure: Disclosure::Owner,
        }
    }

    pub(crate) fn sample_terms() -> JobTerms {
        let owner = OwnerKey::generate(Suite::X25519).expect("key").public();
        terms(&owner, sample_wanted())
    }

    #[test]
    fn terms_are_valid_and_name_the_owner() {
        let owner = OwnerKey::generate(Suite::XWing).expect("key").public();
        let terms = terms(&owner, sample_wanted());
        terms.validate().expect("valid");
        assert_eq!(terms.owner.to_string(), owner.signing.to_hex());
        assert_eq!(terms.offer, None);
        assert_eq!(terms.recipient.suite, "x-wing");
    }

    #[test]
    fn the_host_never_hears_the_plaintext_dataset_or_the_terms_of_a_sealed_job() {
        let record = sample_record();
        let told = submission(&record).expect("submission");
        assert_eq!(Some(told.dataset), record.terms.dataset.sealed);
        assert_eq!(told.terms, None);
        let text = serde_json::to_string(&told).expect("json");
        for hidden in [
            record.terms.dataset.id.to_string(),
            hex::encode(record.data_key.expose()),
            hex::encode(record.commitment_key.expose()),
            record.terms.nonce.to_string(),
            "print(1)".to_owned(),
        ] {
            assert!(!text.contains(&hidden), "{hidden}");
        }
    }

    #[test]
    fn a_plain_job_is_told_whole() {
        let record = JobRecord { kind: JobKind::Plain, ..sample_record() };
        let told = submission(&record).expect("submission");
        assert_eq!(told.dataset, record.terms.dataset.id);
        assert_eq!(told.terms.as_deref(), Some(&record.terms));
    }

    #[test]
    fn environment_pairs() {
        let good = environment(&["A=1".into(), "B=x=y".into(), "C=".into()]).expect("pairs");
        assert_eq!(good.get("B").map(String::as_str), Some("x=y"));
        assert_eq!(good.len(), 3);
        for bad in [vec!["A".to_owned()], vec!["A=1".into(), "A=2".into()]] {
            assert_eq!(environment(&bad).expect_err("bad").code(), "ST-CLI-01");
        }
    }

    #[test]
    fn images_come_from_roots_and_layer_files_and_never_from_a_wrong_name() {
        let root = "5".repeat(64);
        assert_eq!(image_root(&root), Some(Hex([0x55; 32])));
        assert_eq!(image_root("training-cpu"), None);
        let file = format!(r#"{{"name":"training-cpu","root":"{root}"}}"#);
        assert_eq!(image_of_layer_file(&file, Some("training-cpu")), Ok(Hex([0x55; 32])));
        assert_eq!(image_of_layer_file(&file, None), Ok(Hex([0x55; 32])));
        assert!(image_of_layer_file(&file, Some("other")).is_err());
        assert!(image_of_layer_file("{}", None).is_err());
        assert!(image_of_layer_file("[", None).is_err());
        assert!(image_of_layer_file(r#"{"root":"55"}"#, None).is_err());
    }

    #[test]
    fn formats_by_name() {
        assert_eq!(format_of("data.ZIP", None), InputFormat::Archive);
        assert_eq!(format_of("data.jsonl", None), InputFormat::File);
        assert_eq!(format_of("data.jsonl", Some(InputFormat::Archive)), InputFormat::Archive);
    }
}
