use std::path::PathBuf;

use clap::{Args, Subcommand};
use sealtune_job::JobId;
use sealtune_receipt::Statement;
use sealtune_seal::commitment::Opening;
use serde::Serialize;

use super::{
    Output,
    session::{KeyOption, OwnedJob, StateOption, TrustOptions},
};
use crate::client::{
    CliError, ClientError,
    fetch::Destination,
    files,
    openings::{self, FromResult},
    printable,
    receipts::{self, MAX_RECEIPT},
    trust,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Open values that a receipt commits to, to show them to others
    Open(OpenArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each opening is a file of its own: whoever gets one learns that value and no other, and checks it with
`sealtune-verify receipt receipt.json --opening FILE`. Works without a network, best with --offline.

Examples:
  sealtune receipt open --job 0123456789abcdef0123456789abcdef --dir result/ --reference reference-values.json
  sealtune receipt open --job JOB --dir result/ --name metrics,dataset --reference reference-values.json")]
pub(crate) struct OpenArgs {
    /// The job's id
    #[arg(long, value_name = "JOB")]
    job: JobId,
    /// Where `job fetch` put the job
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Which values, separated by commas [default: all that are known here]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    name: Vec<String>,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    state: StateOption,
    #[command(flatten)]
    trust: TrustOptions,
}

#[derive(Debug, Serialize)]
struct Opened {
    name: String,
    /// UTF-8 text, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    bytes: usize,
    file: PathBuf,
}

pub(crate) async fn run(command: ReceiptCommand, output: &Output) -> Result<(), CliError> {
    match command {
        ReceiptCommand::Open(args) => open(args, output).await,
    }
}

async fn open(args: OpenArgs, output: &Output) -> Result<(), CliError> {
    let trusted = args.trust.load(&args.state)?;
    let memory = args.state.records()?.collateral_memory_path();
    let owned =
        OwnedJob { job: Some(args.job), key: args.key, state: args.state, job_record: None };
    let (record, _) = owned.open()?;
    let destination = Destination { directory: args.dir };
    let bytes = files::read(&destination.receipt(), MAX_RECEIPT as u64)?;
    let progress = output.progress();
    let judged = receipts::judge(&trusted, &record, &bytes, &memory, progress).await?;
    progress.note(trust::summary(&judged.verdict));
    let statement = judged.accepted(&record)?;

    let from_result = FromResult::read(&destination, None);
    let mut known = openings::all(&record, statement, &from_result)?;
    known.extend(of_earlier_fetch(&destination, statement, &known)?);
    let chosen = choose(known, &args.name)?;
    openings::save(&destination, &chosen)?;
    let opened: Vec<Opened> = chosen
        .into_iter()
        .map(|opening| Opened {
            bytes: opening.value.len(),
            text: String::from_utf8(opening.value).ok(),
            file: destination.openings().join(format!("{}.json", opening.name)),
            name: opening.name,
        })
        .collect();
    output.answer(&opened, || {
        let lines = opened.iter().map(|one| {
            let value =
                one.text.as_deref().map_or_else(|| format!("({} bytes)", one.bytes), printable);
            format!("{}: {value}\n  {}", one.name, one.file.display())
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Values that can no longer be computed, but were written when the result was fetched, and still fit the receipt.
fn of_earlier_fetch(
    destination: &Destination,
    statement: &Statement,
    known: &[Opening],
) -> Result<Vec<Opening>, CliError> {
    let mut found = Vec::new();
    for (name, commitment) in &statement.predicate.commitments {
        if known.iter().any(|opening| opening.name == *name) {
            continue;
        }
        let loaded = openings::load(destination, name)?;
        found.extend(loaded.filter(|opening| opening.verify(&commitment.0).is_ok()));
    }
    Ok(found)
}

fn choose(known: Vec<Opening>, names: &[String]) -> Result<Vec<Opening>, CliError> {
    if names.is_empty() {
        return Ok(known);
    }
    if let Some(name) = names.iter().find(|name| !known.iter().any(|one| one.name == **name)) {
        return Err(ClientError::NoOpening { name: name.clone() }.into());
    }
    Ok(known.into_iter().filter(|one| names.contains(&one.name)).collect())
}
