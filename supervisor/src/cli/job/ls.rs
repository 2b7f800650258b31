use clap::Args;

use crate::{
    api::types::JobView,
    cli::{Output, output::table, session::WhereOptions},
    client::{CliError, printable, shown_time},
};

#[derive(Debug, Args)]
#[command(after_help = "\
As a customer (--provider and --key): your jobs. As the operator (--socket): all jobs.

Examples:
  sealtune job ls --provider https://provider.example
  sealtune job ls --socket /run/sealtune/sealtune.sock --json")]
pub(crate) struct LsArgs {
    #[command(flatten)]
    place: WhereOptions,
}

pub(crate) async fn run(args: LsArgs, output: &Output) -> Result<(), CliError> {
    let jobs = args.place.open(None)?.connection.jobs().await?;
    output.answer(&jobs, || list(&jobs))
}

fn list(jobs: &[JobView]) -> String {
    let rows: Vec<_> = jobs
        .iter()
        .map(|job| {
            [
                job.job.to_string(),
                printable(&job.state),
                format!("{} %", job.percent),
                job.attempt.to_string(),
                job.vm.clone().map_or_else(|| "-".into(), |vm| printable(&vm)),
                shown_time(job.created),
            ]
        })
        .collect();
    table(["JOB", "STATE", "DONE", "ATTEMPT", "VM", "CREATED"], &rows)
}
