//! `sealtune job submit`: reads what the user names, seals the dataset, submits, uploads, releases, follows.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use sealtune_content::{ContentId, Scheme};
use sealtune_job::{
    DatasetInput, Disclosure, Hex, InputFormat, JobId, JobKind, Limits, ModelInput, Script,
};
use sealtune_seal::{OwnerKey, Secret, release::specification_digest};

use super::{describe, teller};
use crate::{
    cli::{
        Output,
        session::{KeyOption, ProviderOption, StateOption, TrustOptions},
    },
    client::{
        CliError, ClientError, Connection, JobRecord, Records, dataset, files,
        follow::check_outcome,
        journey, now, random_bytes, random_nonce,
        release::{Releaser, check_owner},
        submit::{self as steps, Wanted},
    },
};

const MAX_SCRIPT: u64 = 256 << 10;
const MAX_PARAMETERS: u64 = 64 << 10;
const MAX_LAYER_FILE: u64 = 1 << 20;
/// A VM may have to boot and other jobs to end.
const DEFAULT_RELEASE_TIMEOUT: u64 = 86_400;

#[derive(Debug, Args)]
#[command(after_help = "\
The dataset is sealed on this computer and uploaded as ciphertext. Nothing that opens it leaves this computer before a
VM of the provider has shown evidence that your policy and your reference values accept.

Examples:
  sealtune submit --provider https://provider.example --model model.zip --dataset train.jsonl \\
      --image-file training.layer.json --script train.py --params '{\"lr\": 0.001}' --reference reference-values.json
  sealtune submit --model sha256:9f…c2:1048576 --dataset data.zip --image 5d0c…e1 --script train.py --no-wait
  sealtune submit --plain --image training-cpu --model model.zip --dataset public.jsonl --script train.py")]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    provider: ProviderOption,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    state: StateOption,

    /// The model: a content id that the provider has, or a file here whose id is computed
    #[arg(long, value_name = "ID|FILE", help_heading = "Job")]
    model: String,
    /// Whether the model is one file or a zip archive with one directory [default: by its name, an id is an archive]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Job")]
    model_format: Option<Format>,
    /// The dataset, sealed before it is uploaded
    #[arg(long, value_name = "FILE", help_heading = "Job")]
    dataset: PathBuf,
    /// Whether the dataset is one file or a zip archive with one directory [default: by its name]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Job")]
    dataset_format: Option<Format>,
    /// The training image: its verity root (64 hex digits), or its name as it stands in --image-file
    #[arg(
        long,
        value_name = "ROOT|NAME",
        required_unless_present = "image_file",
        help_heading = "Job"
    )]
    image: Option<String>,
    /// Description of the training image (NAME.layer.json) with its verity root
    #[arg(long, value_name = "FILE", help_heading = "Job")]
    image_file: Option<PathBuf>,
    /// Training script, sent inside the sealed specification
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "image_script",
        conflicts_with = "image_script",
        help_heading = "Job"
    )]
    script: Option<PathBuf>,
    /// Training script that is part of the image
    #[arg(long, value_name = "PATH", requires = "script_sha256", help_heading = "Job")]
    image_script: Option<String>,
    /// Digest of --image-script
    #[arg(long, value_name = "HEX", requires = "image_script", help_heading = "Job")]
    script_sha256: Option<Hex<32>>,
    /// Training parameters, a file or JSON text; they become config.json
    #[arg(long, value_name = "FILE|JSON", default_value = "{}", help_heading = "Job")]
    params: String,
    /// Environment variable of the script (repeatable)
    #[arg(long = "env", value_name = "NAME=VALUE", help_heading = "Job")]
    environment: Vec<String>,
    /// Who besides you may read logs and metrics
    #[arg(long, value_enum, default_value = "owner", value_name = "WHO", help_heading = "Job")]
    disclosure: Audience,

    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    trust: TrustOptions,

    /// Submit in the clear: the provider reads dataset, logs and result
    #[arg(long, help_heading = "Submission")]
    plain: bool,
    /// Repeating a submission under the same key goes on with the job that exists [default: a fresh one]
    #[arg(long, value_name = "TEXT", help_heading = "Submission")]
    idempotency_key: Option<String>,
    /// Follow the job to its end (the default)
    #[arg(long, overrides_with = "no_wait", help_heading = "Submission")]
    wait: bool,
    /// Return once the job is released
    #[arg(long, overrides_with = "wait", help_heading = "Submission")]
    no_wait: bool,
    /// How long to wait for a VM to release the job to, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_RELEASE_TIMEOUT, help_heading = "Submission")]
    release_timeout: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitOptions {
    /// Memory of the training container, MiB
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().memory_mib)]
    memory_mib: u64,
    /// Processes and threads of the training container
    #[arg(long, value_name = "N", default_value_t = Limits::default().processes)]
    processes: u64,
    /// How long the script may run, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().seconds)]
    time_limit: u64,
    /// Bytes that the script may leave in output_model/
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().output_bytes)]
    output_bytes: u64,
    /// Bytes of logs that are kept
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().log_bytes)]
    log_bytes: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    File,
    Archive,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Audience {
    Owner,
    Host,
    None,
}

impl From<Format> for InputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::File => Self::File,
            Format::Archive => Self::Archive,
        }
    }
}

impl From<Audience> for Disclosure {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Owner => Self::Owner,
            Audience::Host => Self::Host,
            Audience::None => Self::None,
        }
    }
}

impl From<&LimitOptions> for Limits {
    fn from(options: &LimitOptions) -> Self {
        Self {
            memory_mib: options.memory_mib,
            processes: options.processes,
            seconds: options.time_limit,
            output_bytes: options.output_bytes,
            log_bytes: options.log_bytes,
        }
    }
}

pub(crate) async fn submit(args: SubmitArgs, output: &Output) -> Result<(), CliError> {
    // Everything that can be wrong here is found before anything is sealed or sent.
    let trust = args.trust.load(&args.state)?;
    let owner = args.key.load()?;
    let records = args.state.records()?;
    let address = args.provider.address(None)?;
    let connection = Connection::new(address, Some(Arc::clone(&owner)))?;

    let mut record = match earlier(&args, &records, &owner)? {
        Some(record) => record,
        None => prepare(&args, &connection, &owner, &records, output).await?,
    };
    let job = record.job();
    let progress = output.progress();
    progress.note(format!("job {job}"));
    progress.set_interrupt_hint(format!("sealtune job release {job} (with your --reference)"));

    let view = connection.submit(&steps::submission(&record)?).await?;
    steps::check_same_job(&record, view.job)?;
    let releaser = Releaser {
        connection: &connection,
        owner: &owner,
        records: &records,
        trust: &trust,
        progress,
    };
    releaser.upload(&mut record).await?;
    finish(&releaser, &mut record, args.release_timeout, args.no_wait, output).await
}

/// From an uploaded dataset on: release, follow, say what became of it.
pub(super) async fn finish(
    releaser: &Releaser<'_>,
    record: &mut JobRecord,
    release_timeout: u64,
    no_wait: bool,
    output: &Output,
) -> Result<(), CliError> {
    let job = record.job();
    let view = match record.kind {
        JobKind::Sealed => releaser.release(record, release_timeout).await?,
        JobKind::Plain => releaser.connection.job(job).await?,
    };
    if no_wait {
        check_outcome(&view)?;
        return output.answer(&view, || describe(&view));
    }
    releaser.progress.set_interrupt_hint(format!(
        "sealtune job release {job} (with your --reference), or sealtune job logs {job} --follow"
    ));
    let mut tell = teller(output);
    let view = journey::to_the_end(releaser, record, view, release_timeout, &mut tell).await?;
    output.answer(&view, || {
        format!(
            "{}\nnext: sealtune job fetch {job} --out DIR (with your --reference)",
            describe(&view)
        )
    })
}

/// The job that was submitted from here under the same idempotency key.
fn earlier(
    args: &SubmitArgs,
    records: &Records,
    owner: &OwnerKey,
) -> Result<Option<JobRecord>, CliError> {
    let Some(key) = &args.idempotency_key else { return Ok(None) };
    if key.is_empty() || key.len() > 128 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = "1 to 128 printable characters without spaces".to_owned();
        return Err(ClientError::Usage { option: "--idempotency-key", reason }.into());
    }
    let Some(record) = records.find_by_idempotency_key(key) else { return Ok(None) };
    check_owner(&record, owner)?;
    Ok(Some(record))
}

/// Reads, seals and records; nothing is sent but the question for the provider's images with `--plain`.
async fn prepare(
    args: &SubmitArgs,
    connection: &Connection,
    owner: &OwnerKey,
    records: &Records,
    output: &Output,
) -> Result<JobRecord, CliError> {
    let progress = output.progress();
    let job = JobId::from_bytes(random_bytes()?);
    let data_key = random_key()?;
    let kind = if args.plain { JobKind::Plain } else { JobKind::Sealed };
    let dataset_format =
        steps::format_of(&args.dataset.to_string_lossy(), args.dataset_format.map(Into::into));
    // The cheap questions first.
    let mut wanted = Wanted {
        job,
        nonce: random_nonce()?,
        time: now(),
        image: image(args, connection).await?,
        script: script(args)?,
        parameters: parameters(&args.params)?,
        environment: steps::environment(&args.environment)?,
        limits: Limits::from(&args.limits),
        disclosure: args.disclosure.into(),
        model: model(args, output).await?,
        dataset: DatasetInput { id: placeholder(), format: dataset_format, sealed: None },
    };
    steps::terms(&owner.public(), wanted.clone()).validate()?;

    let upload = match kind {
        JobKind::Plain => {
            wanted.dataset.id = dataset::identify(&args.dataset, Scheme::Sha256, progress).await?;
            std::path::absolute(&args.dataset)
                .map_err(|source| ClientError::Read { path: args.dataset.clone(), source })?
        }
        JobKind::Sealed => {
            let target = records.sealed_dataset_path(job);
            let ids = dataset::seal(&args.dataset, &target, &data_key, job, progress).await?;
            wanted.dataset.id = ids.plain;
            wanted.dataset.sealed = Some(ids.sealed);
            target
        }
    };
    let mut record = JobRecord {
        provider: connection.address().to_string(),
        kind,
        idempotency_key: String::new(),
        terms: steps::terms(&owner.public(), wanted),
        data_key,
        commitment_key: random_key()?,
        upload: Some(upload),
        releases: vec![],
        created: now(),
    };
    record.idempotency_key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => fresh_idempotency_key(&record)?,
    };
    records.save(&record)?;
    Ok(record)
}

fn random_key() -> Result<Secret<[u8; 32]>, ClientError> {
    Secret::random().map_err(|error| ClientError::Setup(format!("no random bytes: {error}")))
}

/// Stands for the dataset's id until that is known.
fn placeholder() -> ContentId {
    ContentId::Sha256 { digest: [0; 32], length: 0 }
}

/// The digest of what would be released, which nobody can guess.
fn fresh_idempotency_key(record: &JobRecord) -> Result<String, CliError> {
    let bytes = record.specification(1, Hex([0; 32])).to_canonical()?;
    Ok(hex::encode(specification_digest(bytes.expose())))
}

async fn model(args: &SubmitArgs, output: &Output) -> Result<ModelInput, CliError> {
    let chosen = args.model_format.map(Into::into);
    if let Ok(id) = args.model.parse::<ContentId>() {
        return Ok(ModelInput { id, format: chosen.unwrap_or(InputFormat::Archive) });
    }
    let path = Path::new(&args.model);
    if !path.exists() {
        let reason = format!("{:?} is neither a content id nor a file", args.model);
        return Err(ClientError::Usage { option: "--model", reason }.into());
    }
    let id = dataset::identify(path, Scheme::Sha256, output.progress()).await?;
    output.progress().note(format!("model {id} (the provider must have it)"));
    Ok(ModelInput { id, format: steps::format_of(&args.model, chosen) })
}

async fn image(args: &SubmitArgs, connection: &Connection) -> Result<Hex<32>, CliError> {
    let given_root = args.image.as_deref().and_then(steps::image_root);
    if let Some(file) = &args.image_file {
        let text = files::read_text(file, MAX_LAYER_FILE)?;
        let name = if given_root.is_some() { None } else { args.image.as_deref() };
        let found = steps::image_of_layer_file(&text, name)
            .map_err(|reason| ClientError::BadFile { path: file.clone(), reason })?;
        return match given_root {
            Some(root) if root != found => {
                let reason = format!("its verity root is {found}, not {root}");
                Err(ClientError::BadFile { path: file.clone(), reason }.into())
            }
            _ => Ok(found),
        };
    }
    match (given_root, &args.image) {
        (Some(root), _) => Ok(root),
        (None, Some(name)) if args.plain => {
            Ok(steps::image_of_provider(&connection.health().await?.images, name)?)
        }
        (None, name) => Err(ClientError::UnknownImage(name.clone().unwrap_or_default()).into()),
    }
}

fn script(args: &SubmitArgs) -> Result<Script, CliError> {
    if let (Some(path), Some(sha256)) = (&args.image_script, args.script_sha256) {
        return Ok(Script::Image { path: path.clone(), sha256 });
    }
    let Some(path) = &args.script else {
        let reason = "give --script or --image-script".to_owned();
        return Err(ClientError::Usage { option: "--script", reason }.into());
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Script::Inline { name: name.unwrap_or_default(), text: files::read_text(path, MAX_SCRIPT)? })
}

/// JSON text, or a file with it; byte for byte what the script will see.
fn parameters(given: &str) -> Result<String, CliError> {
    let text = if given.trim_start().starts_with('{') {
        given.to_owned()
    } else {
        files::read_text(Path::new(given), MAX_PARAMETERS)?
    };
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => Ok(text),
        Err(error) => {
            let reason = format!("not a JSON object: {error}");
            Err(ClientError::Usage { option: "--params", reason }.into())
        }
    }
}
