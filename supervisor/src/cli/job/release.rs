use clap::Args;
use sealtune_job::JobId;

use super::submit::finish;
use crate::{
    cli::{
        Output,
        session::{KeyOption, OwnedJob, ProviderOption, StateOption, TrustOptions},
    },
    client::{CliError, release::Releaser, submit as steps},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Goes on wherever `submit` was interrupted, from the job's record: uploads what is missing, appraises the VM that waits,
releases the job to it, follows it.

Examples:
  sealtune job release 0123456789abcdef0123456789abcdef --reference reference-values.json
  sealtune job release JOB --reference reference-values.json --no-wait")]
pub(crate) struct ReleaseArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: JobId,
    #[command(flatten)]
    provider: ProviderOption,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    state: StateOption,
    #[command(flatten)]
    trust: TrustOptions,
    /// Return once the job is released
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for a VM to release the job to, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    release_timeout: u64,
}

pub(crate) async fn run(args: ReleaseArgs, output: &Output) -> Result<(), CliError> {
    let trust = args.trust.load(&args.state)?;
    let records = args.state.records()?;
    let owned =
        OwnedJob { job: Some(args.job), key: args.key, state: args.state, job_record: None };
    let (mut record, owner) = owned.open()?;
    let connection = args.provider.connect(Some(&record), Some(std::sync::Arc::clone(&owner)))?;
    output.progress().set_interrupt_hint(format!("sealtune job release {}", args.job));
    let releaser = Releaser {
        connection: &connection,
        owner: &owner,
        records: &records,
        trust: &trust,
        progress: output.progress(),
    };
    if record.upload.is_some() {
        // The submission may never have arrived.
        let view = connection.submit(&steps::submission(&record)?).await?;
        steps::check_same_job(&record, view.job)?;
        releaser.upload(&mut record).await?;
    }
    finish(&releaser, &mut record, args.release_timeout, args.no_wait, output).await
}
