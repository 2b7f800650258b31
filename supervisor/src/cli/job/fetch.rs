use std::{path::PathBuf, sync::Arc};

use clap::Args;
use sealtune_evidence::Verdict;
use sealtune_job::{JobId, JobKind};
use sealtune_receipt::Statement;
use sealtune_seal::{OwnerKey, frames::FrameKind};
use serde::Serialize;

use crate::{
    cli::{
        Output,
        session::{KeyOption, OwnedJob, ProviderOption, StateOption, TrustOptions},
    },
    client::{
        CliError, ClientError, Connection, Exit, JobRecord,
        fetch::{self, Destination},
        files,
        follow::{News, Voice, check_outcome, is_final},
        openings::{self, FromResult},
        receipts::{self, MAX_RECEIPT, Outcome},
        trust,
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
DIR then holds receipt.json, result.sealed, output_model/, log.txt, metrics.jsonl and openings/. A cut download goes on
where it was. Nothing is unpacked unless the receipt is accepted and the result is the one that it names.

Examples:
  sealtune job fetch 0123456789abcdef0123456789abcdef --out result/ --reference reference-values.json
  sealtune job fetch JOB --out result/ --reference reference-values.json --json | jq -r .output")]
pub(crate) struct FetchArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Where everything goes; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Do not tell the provider that the result has arrived
    #[arg(long)]
    no_acknowledge: bool,
    #[command(flatten)]
    provider: ProviderOption,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    state: StateOption,
    #[command(flatten)]
    trust: TrustOptions,
}

#[derive(Debug, Serialize)]
struct Fetched {
    job: JobId,
    state: String,
    output: PathBuf,
    files: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<PathBuf>,
    openings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
}

pub(crate) async fn run(args: FetchArgs, output: &Output) -> Result<(), CliError> {
    let trusted = args.trust.load(&args.state)?;
    let memory = args.state.records()?.collateral_memory_path();
    let owned =
        OwnedJob { job: Some(args.job), key: args.key, state: args.state, job_record: None };
    let (record, owner) = owned.open()?;
    let connection = args.provider.connect(Some(&record), Some(Arc::clone(&owner)))?;
    let destination = Destination { directory: args.out };
    if destination.output().symlink_metadata().is_ok() {
        return Err(ClientError::Exists { path: destination.output() }.into());
    }
    files::make_private_directory(&destination.directory)?;
    let progress = output.progress();
    progress.set_interrupt_hint("the same command, it goes on where it was");

    let view = connection.job(args.job).await?;
    if !is_final(&view) {
        let job = args.job.to_string();
        return Err(ClientError::NoResult { job, state: view.state }.into());
    }
    if view.state == "cancelled" {
        check_outcome(&view)?;
    }
    let mut fetched = Fetched {
        job: args.job,
        state: view.state.clone(),
        output: destination.output(),
        files: 0,
        bytes: 0,
        receipt: None,
        openings: vec![],
        verdict: None,
    };
    let statement = match record.kind {
        // Nothing vouches for a plain job; its ids are the provider's word.
        JobKind::Plain => {
            check_outcome(&view)?;
            let missing =
                || ClientError::NoResult { job: args.job.to_string(), state: view.state.clone() };
            let result = view.result.as_ref().ok_or_else(missing)?;
            let ids = [result.sha256, result.root];
            fetch::download(&connection, args.job, &ids, &destination, progress).await?;
            None
        }
        JobKind::Sealed => {
            let bytes = connection.receipt(args.job, MAX_RECEIPT).await.map_err(|error| {
                // A job that failed before its VM could sign has no record; its own error says more.
                check_outcome(&view).map_or_else(CliError::from, |()| error)
            })?;
            files::replace_private(&destination.receipt(), &bytes)?;
            // One that failed before its start has no start evidence, so its record cannot be judged whole.
            let judged = receipts::judge(&trusted, &record, &bytes, &memory, progress)
                .await
                .map_err(|error| check_outcome(&view).map_or_else(CliError::from, |()| error))?;
            progress.note(trust::summary(&judged.verdict));
            let statement = judged.accepted(&record)?.clone();
            fetched.receipt = Some(destination.receipt());
            fetched.verdict = Some(judged.verdict);
            let said = read_frames(&connection, &record, &owner, &destination).await?;
            said.reconcile(&statement)?;
            match receipts::outcome(&statement) {
                Outcome::Failed(reason) => {
                    let shown = ClientError::JobFailed {
                        job: args.job.to_string(),
                        code: reason.code().to_owned(),
                        message: reason.sentence(),
                        fix: reason.fix().to_owned(),
                    };
                    return Err(shown.into());
                }
                Outcome::Completed(ids) => {
                    fetch::download(&connection, args.job, &ids, &destination, progress).await?;
                }
            }
            Some(statement)
        }
    };
    let target = destination.output();
    let decrypted =
        fetch::decrypt(&destination.result(), &record, &owner, &target, progress).await?;
    (fetched.files, fetched.bytes) = (decrypted.unpacked.files, decrypted.unpacked.bytes);
    if let Some(statement) = &statement {
        let from_result = FromResult::read(&destination, Some(decrypted.plain));
        let opened = openings::all(&record, statement, &from_result)?;
        openings::save(&destination, &opened)?;
        fetched.openings = opened.into_iter().map(|opening| opening.name).collect();
    }
    if !args.no_acknowledge {
        fetched.state = connection.acknowledge(args.job).await?.state;
    }
    output.answer(&fetched, || describe(&fetched))
}

/// What was read of a job's frames, and where each stream ended.
struct Said<'a> {
    voice: Voice<'a>,
    job: JobId,
}

impl Said<'_> {
    /// All frames are there, and no others.
    fn reconcile(&self, statement: &Statement) -> Result<(), CliError> {
        let Voice::Sealed(reader) = &self.voice else { return Ok(()) };
        let streams = &statement.predicate.streams;
        for (kind, end) in [(FrameKind::Log, &streams.log), (FrameKind::Metric, &streams.metric)] {
            if let Err(error) = reader.chain(kind).reconcile(&receipts::chain_of(end)) {
                let mut shown = CliError::new(Exit::No, error.code(), error.fix(), &error);
                shown.message = format!("{} (job {})", shown.message, self.job);
                return Err(shown);
            }
        }
        Ok(())
    }
}

/// Writes log.txt and metrics.jsonl.
async fn read_frames<'a>(
    connection: &Connection,
    record: &'a JobRecord,
    owner: &'a OwnerKey,
    destination: &Destination,
) -> Result<Said<'a>, CliError> {
    let job = record.job();
    let mut voice = Voice::of(Some(record), Some(owner));
    let (mut log, mut metrics) = (String::new(), String::new());
    let mut tell = |news: News<'_>| match news {
        News::Log(text) => log.push_str(text),
        News::Metric(line) => {
            metrics.push_str(line);
            metrics.push('\n');
        }
        News::Failure(text) => log.push_str(text),
        News::Changed(_) => {}
    };
    while voice.read(connection, job, 0, &mut tell).await? {}
    files::replace_private(&destination.log(), log.as_bytes())?;
    files::replace_private(&destination.metrics(), metrics.as_bytes())?;
    Ok(Said { voice, job })
}

fn describe(fetched: &Fetched) -> String {
    let mut lines = vec![format!(
        "{} files, {} bytes in {}",
        fetched.files,
        fetched.bytes,
        fetched.output.display()
    )];
    if let Some(receipt) = &fetched.receipt {
        lines.push(format!("receipt in {}", receipt.display()));
    }
    if !fetched.openings.is_empty() {
        lines.push(format!("openings: {}", fetched.openings.join(", ")));
    }
    lines.push(format!("job {} is {}", fetched.job, fetched.state));
    lines.join("\n")
}
