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
  sealtune job cancel 0123456789abcdef0123456789abcdef
  sealtune job cancel JOB --socket /run/sealtune/sealtune.sock")]
pub(crate) struct CancelArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: JobId,
    #[command(flatten)]
    place: WhereOptions,
}

pub(crate) async fn run(args: CancelArgs, output: &Output) -> Result<(), CliError> {
    let view = args.place.open(Some(args.job))?.connection.cancel(args.job).await?;
    output.answer(&view, || describe(&view))
}
