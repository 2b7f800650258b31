use std::time::Duration;

use clap::Args;
use sealtune_job::JobId;

use super::{describe, teller};
use crate::{
    cli::{Output, session::WhereOptions},
    client::{
        CliError, ClientError,
        follow::{News, check_outcome, is_final},
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 if the job was delivered, 1 if it failed or was cancelled.

Examples:
  sealtune job wait 0123456789abcdef0123456789abcdef
  sealtune job wait JOB --timeout 3600 && sealtune job fetch JOB --out result/")]
pub(crate) struct WaitArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    place: WhereOptions,
}

const LONG_POLL: u64 = 20;

pub(crate) async fn run(args: WaitArgs, output: &Output) -> Result<(), CliError> {
    let job = args.job;
    output.progress().set_interrupt_hint(format!("sealtune job wait {job}"));
    let connection = args.place.open(Some(job))?.connection;
    let waiting = async {
        let mut tell = teller(output);
        let mut view = connection.job(job).await?;
        tell(News::Changed(&view));
        while !is_final(&view) {
            view = connection.job_changed(job, view.generation, LONG_POLL).await?;
            tell(News::Changed(&view));
        }
        Ok::<_, CliError>(view)
    };
    let view = match args.timeout {
        None => waiting.await?,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), waiting)
            .await
            .map_err(|_| ClientError::WaitTimeout { job: job.to_string(), seconds })??,
    };
    check_outcome(&view)?;
    output.answer(&view, || describe(&view))
}
