use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use crate::client::{CliError, ClientError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune completions bash > /etc/bash_completion.d/sealtune
  sealtune completions zsh > ~/.zfunc/_sealtune")]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sealtune", &mut script);
    match std::io::stdout().write_all(&script) {
        // A reader that left has seen what it wanted.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(ClientError::Write { path: "stdout".into(), source: error }.into())
        }
        _ => Ok(()),
    }
}
