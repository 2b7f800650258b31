use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    cli::{Output, session::OwnedJob},
    client::{CliError, fetch},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Works without a network and without the provider. It does not look at the receipt: `job fetch` does.

Examples:
  sealtune job decrypt result.sealed --job 0123456789abcdef0123456789abcdef
  sealtune job decrypt result.sealed --key owner.key --job-record JOB.json --out model/")]
pub(crate) struct DecryptArgs {
    /// The sealed result
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The job's id
    #[arg(long, value_name = "JOB", required_unless_present = "job_record")]
    job: Option<sealtune_job::JobId>,
    #[command(flatten)]
    key: crate::cli::session::KeyOption,
    #[command(flatten)]
    state: crate::cli::session::StateOption,
    /// The job's record, if it is not in the state directory
    #[arg(long, value_name = "FILE")]
    job_record: Option<PathBuf>,
    /// Where the result is unpacked; must not exist
    #[arg(long, value_name = "DIR", default_value = fetch::OUTPUT)]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Decrypted {
    job: String,
    output: PathBuf,
    files: usize,
    bytes: u64,
}

pub(crate) async fn run(args: DecryptArgs, output: &Output) -> Result<(), CliError> {
    let owned =
        OwnedJob { job: args.job, key: args.key, state: args.state, job_record: args.job_record };
    let (record, owner) = owned.open()?;
    let unpacked =
        fetch::decrypt(&args.file, &record, &owner, &args.out, output.progress()).await?.unpacked;
    let decrypted = Decrypted {
        job: record.job().to_string(),
        output: args.out,
        files: unpacked.files,
        bytes: unpacked.bytes,
    };
    output.answer(&decrypted, || {
        let Decrypted { output, files, bytes, .. } = &decrypted;
        format!("{files} files, {bytes} bytes in {}", output.display())
    })
}
