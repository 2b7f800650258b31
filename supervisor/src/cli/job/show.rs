use clap::Args;
use sealtune_job::JobId;

use super::describe;
use crate::{
    cli::{Output, session::WhereOptions},
    client::CliError,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune job show 0123456789abcdef0123456789abcdef
  sealtune job show JOB --json | jq -r .state")]
pub(crate) struct ShowArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: JobId,
    #[command(flatten)]
    place: WhereOptions,
}

pub(crate) async fn run(args: ShowArgs, output: &Output) -> Result<(), CliError> {
    let view = args.place.open(Some(args.job))?.connection.job(args.job).await?;
    output.answer(&view, || describe(&view))
}
