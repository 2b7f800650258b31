//! `sealtune job …`

mod cancel;
mod decrypt;
mod fetch;
mod logs;
mod ls;
mod release;
mod show;
mod submit;
mod wait;

use clap::Subcommand;

use super::Output;
use crate::{
    api::types::JobView,
    client::{CliError, follow::News, printable},
};

pub(crate) use submit::{SubmitArgs, submit};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Seal and submit a job, release it to an attested VM, follow it
    Submit(Box<SubmitArgs>),
    /// Go on with a submitted job: upload the rest, release it, follow it
    Release(release::ReleaseArgs),
    /// List jobs
    Ls(ls::LsArgs),
    /// Show one job
    Show(show::ShowArgs),
    /// Show a job's logs and metrics
    Logs(logs::LogsArgs),
    /// Cancel a job
    Cancel(cancel::CancelArgs),
    /// Download, verify, decrypt and unpack a job's result
    Fetch(fetch::FetchArgs),
    /// Decrypt a downloaded result, without a provider
    Decrypt(decrypt::DecryptArgs),
    /// Wait for the end of a job
    Wait(wait::WaitArgs),
}

pub(crate) async fn run(command: JobCommand, output: &Output) -> Result<(), CliError> {
    match command {
        JobCommand::Submit(args) => submit(*args, output).await,
        JobCommand::Release(args) => release::run(args, output).await,
        JobCommand::Ls(args) => ls::run(args, output).await,
        JobCommand::Show(args) => show::run(args, output).await,
        JobCommand::Logs(args) => logs::run(args, output).await,
        JobCommand::Cancel(args) => cancel::run(args, output).await,
        JobCommand::Fetch(args) => fetch::run(args, output).await,
        JobCommand::Decrypt(args) => decrypt::run(args, output).await,
        JobCommand::Wait(args) => wait::run(args, output).await,
    }
}

/// What is told on stderr while a job is followed.
fn teller(output: &Output) -> impl FnMut(News<'_>) {
    let progress = output.progress().clone();
    let mut last = (String::new(), 0);
    move |news| match news {
        News::Changed(view) => {
            let now = (view.state.clone(), view.percent);
            if now != last {
                let percent =
                    if view.percent > 0 { format!(" {} %", view.percent) } else { String::new() };
                progress.note(format!("job {}: {}{percent}", view.job, printable(&view.state)));
                last = now;
            }
        }
        News::Log(text) => progress.note(printable(text.trim_end_matches('\n'))),
        News::Metric(metric) => progress.note(format!("metric {}", printable(metric))),
        News::Failure(detail) => progress.note(format!("failure: {}", printable(detail))),
    }
}

/// One job for people.
fn describe(view: &JobView) -> String {
    use crate::client::shown_time;
    let mut lines = vec![
        format!("job       {}", view.job),
        format!("state     {}, {} %", view.state, view.percent),
        format!("attempt   {}", view.attempt),
        format!("owner     {}", view.owner),
        format!("model     {}", view.model),
        format!("dataset   {} ({} bytes there)", view.dataset, view.dataset_received),
        format!("image     {}", view.image),
        format!("created   {}", shown_time(view.created)),
        format!("updated   {}", shown_time(view.updated)),
    ];
    let optional = [
        ("queue", view.queue_position.map(|position| format!("{position} before it"))),
        ("release", view.release_deadline.map(|time| format!("until {}", shown_time(time)))),
        ("vm", view.vm.clone()),
        ("result", view.result.as_ref().map(|result| result.sha256.to_string())),
        ("root", view.result.as_ref().map(|result| result.root.to_string())),
        (
            "failure",
            view.failure.as_ref().map(|failure| format!("{} {}", failure.code, failure.message)),
        ),
        ("fix", view.failure.as_ref().map(|failure| failure.fix.clone())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            lines.push(format!("{name:<9} {value}"));
        }
    }
    for (state, time) in &view.history {
        lines.push(format!("  {}  {state}", shown_time(*time)));
    }
    printable(&lines.join("\n"))
}
