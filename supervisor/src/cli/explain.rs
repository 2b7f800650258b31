use std::fmt::Write as _;

use clap::Args;
use sealtune_verify::catalogue;
use serde::Serialize;

use super::Output;
use crate::client::{CliError, ClientError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune explain ST-CLI-41
  sealtune explain            # all of them")]
pub(crate) struct ExplainArgs {
    /// A code as an error shows it; without one, every code
    code: Option<String>,
}

#[derive(Debug, Serialize)]
struct Explanation {
    code: &'static str,
    cause: &'static str,
    fix: &'static str,
}

pub(crate) fn run(args: &ExplainArgs, output: &Output) -> Result<(), CliError> {
    let asked: Vec<_> = match &args.code {
        None => catalogue::all_codes().collect(),
        Some(code) => catalogue::explain(code).into_iter().collect(),
    };
    let found: Vec<Explanation> = asked
        .into_iter()
        .map(|entry| Explanation { code: entry.code, cause: entry.cause, fix: entry.fix })
        .collect();
    if found.is_empty() {
        let reason = "there is no such code; without one, all are listed".to_owned();
        return Err(ClientError::Usage { option: "CODE", reason }.into());
    }
    output.answer(&found, || {
        let mut text = String::new();
        for Explanation { code, cause, fix } in &found {
            // Nothing can fail where a string is written to.
            let _ = writeln!(text, "{code}\n  cause  {cause}\n  fix    {fix}");
        }
        text
    })
}
