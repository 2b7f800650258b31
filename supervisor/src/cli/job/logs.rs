use clap::Args;
use sealtune_job::JobId;
use serde::Serialize;

use crate::{
    cli::{Output, session::WhereOptions},
    client::{
        CliError, ClientError,
        follow::{Ended, News, Voice, follow},
        printable,
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
Logs of a sealed job are opened with the owner's key and the job's record; every frame must be in its place.

Examples:
  sealtune job logs 0123456789abcdef0123456789abcdef
  sealtune job logs JOB --follow
  sealtune job logs JOB --metrics")]
pub(crate) struct LogsArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Go on until the job has ended
    #[arg(long, short)]
    follow: bool,
    /// Show the metrics, one JSON object a line, instead of the log
    #[arg(long)]
    metrics: bool,
    #[command(flatten)]
    place: WhereOptions,
}

#[derive(Debug, Default, Serialize)]
struct Said {
    job: String,
    state: String,
    log: String,
    metrics: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    failure: String,
}

pub(crate) async fn run(args: LogsArgs, output: &Output) -> Result<(), CliError> {
    let job = args.job;
    output.progress().set_interrupt_hint(format!("sealtune job logs {job} --follow"));
    let session = args.place.open(Some(job))?;
    let connection = &session.connection;
    let mut view = connection.job(job).await?;
    let mut voice = match (&session.record, &session.owner) {
        (None, Some(_)) if view.kind == sealtune_job::JobKind::Sealed => {
            // Says where a record was looked for.
            session.records.load(job)?;
            Voice::Silent
        }
        (None, _) if view.kind == sealtune_job::JobKind::Plain => Voice::Plain { next: 0 },
        (None, None) => {
            let reason = "its log is sealed to its owner".to_owned();
            return Err(ClientError::WrongJob { job: job.to_string(), reason }.into());
        }
        (record, owner) => Voice::of(record.as_ref(), owner.as_deref()),
    };
    let mut said = Said { job: job.to_string(), ..Said::default() };
    let mut tell = |news: News<'_>| match news {
        News::Changed(view) => said.state.clone_from(&view.state),
        News::Log(text) => {
            if !args.metrics {
                output.stream(&printable(text));
            }
            if output.is_json() {
                said.log.push_str(text);
            }
        }
        News::Metric(metric) => {
            if args.metrics {
                output.stream(&format!("{}\n", printable(metric)));
            }
            let value = serde_json::from_str(metric).unwrap_or_else(|_| metric.into());
            said.metrics.push(value);
        }
        News::Failure(detail) => {
            output.progress().note(format!("failure: {}", printable(detail)));
            said.failure.push_str(detail);
        }
    };
    if args.follow {
        loop {
            match follow(connection, view, &mut voice, &mut tell).await? {
                Ended::Final(_) => break,
                // Somebody else may release it; its next attempt has a log of its own.
                Ended::AwaitsRelease(waiting) => {
                    view = connection.job_changed(job, waiting.generation, 20).await?;
                }
            }
        }
    } else {
        tell(News::Changed(&view));
        while voice.read(connection, job, 0, &mut tell).await? {}
    }
    if output.is_json() { output.answer(&said, String::new) } else { Ok(()) }
}
