//! The command line: nouns first, one file a verb.

mod attest;
mod completions;
mod content;
mod explain;
mod job;
mod key;
pub(crate) mod output;
mod receipt;
#[cfg(feature = "daemon")]
mod serve;
pub(crate) mod session;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use output::Output;

use crate::client::{CliError, ClientError};

/// Confidential fine-tuning: seal a job, have it run in an attested VM, get back a result with a receipt
#[derive(Debug, Parser)]
#[command(name = "sealtune", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Print one JSON value on stdout; errors are JSON on stderr
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sealtune key new
  sealtune submit --provider https://provider.example --model model.zip --dataset train.jsonl \\
      --image 5d0c…e1 --script train.py --reference reference-values.json
  sealtune job fetch JOB --out result/ --reference reference-values.json
  sealtune vm ls

Exit codes: 0 done; 1 the answer is no (rejected, job failed); 2 usage; 3 environment; 4 refused; 70 bug; 130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// The owner's key
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Content ids; the provider's content cache
    #[command(subcommand)]
    Content(content::ContentCommand),
    /// Jobs
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Submit a job: the same as `job submit`
    Submit(Box<job::SubmitArgs>),
    /// Receipts
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Ask a provider's VM for evidence of what it is
    Attest(attest::AttestArgs),
    /// Confidential VMs (operator)
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// The daemon's configuration (operator)
    #[cfg(feature = "daemon")]
    Config(crate::daemon::cli::ConfigArgs),
    /// Run the daemon (operator)
    #[cfg(feature = "daemon")]
    Serve(crate::daemon::cli::ServeArgs),
    /// Say what an error's code means and what to do
    Explain(explain::ExplainArgs),
    /// Completions for a shell
    Completions(completions::CompletionsArgs),
}

/// Parses the command line, runs the command, and says how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = ClientError::Setup(format!("no threads to be had: {error}"));
            return end(&output, Err(error.into()));
        }
    };
    let outcome = runtime.block_on(run_until_interrupted(cli.command, &output));
    // What still runs in the background must not hold up the end.
    runtime.shutdown_background();
    end(&output, outcome)
}

fn end(output: &Output, outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.progress().note(error.text(output.is_json()));
            error.exit.into()
        }
    }
}

/// Usage errors are clap's own texts; with `--json` they take our form.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_answer || !std::env::args_os().any(|argument| argument == "--json") {
        // Help goes to stdout, everything else to stderr; nobody is left to tell if that fails.
        let _ = error.print();
    } else {
        let text = error.render().to_string();
        let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let usage = ClientError::Usage { option: "the command line", reason: reason.to_owned() };
        Output::new(true).progress().note(CliError::from(usage).text(true));
    }
    if is_answer { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// The daemon ends in order by itself; every other command just stops, and the job goes on without it.
async fn run_until_interrupted(command: Command, output: &Output) -> Result<(), CliError> {
    #[cfg(feature = "daemon")]
    let command = match command {
        Command::Serve(args) => {
            serve::start_log();
            return Ok(crate::daemon::cli::serve(args).await?);
        }
        other => other,
    };
    tokio::select! {
        outcome = run(command, output) => outcome,
        () = interrupted() => {
            let hint = output.progress().interrupt_hint();
            Err(ClientError::Interrupted(format!("interrupted; to go on: {hint}")).into())
        }
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(command: Command, output: &Output) -> Result<(), CliError> {
    match command {
        Command::Key(command) => key::run(command, output),
        Command::Content(command) => content::run(command, output).await,
        Command::Job(command) => job::run(command, output).await,
        Command::Submit(args) => job::submit(*args, output).await,
        Command::Receipt(command) => receipt::run(command, output).await,
        Command::Attest(args) => attest::run(args, output).await,
        Command::Vm(command) => vm::run(command, output).await,
        #[cfg(feature = "daemon")]
        Command::Config(args) => {
            output.text(&crate::daemon::cli::config(args, output.is_json())?);
            Ok(())
        }
        #[cfg(feature = "daemon")]
        Command::Serve(_) => Err(ClientError::Bug("serve is started elsewhere".into()).into()),
        Command::Explain(args) => explain::run(&args, output),
        Command::Completions(args) => completions::run(&args),
    }
}
