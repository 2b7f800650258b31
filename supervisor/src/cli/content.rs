use std::path::PathBuf;

use clap::{Args, Subcommand};
use sealtune_content::{ContentId, Scheme};
use serde::Serialize;

use super::{Output, output::table, session::SocketOption};
use crate::{
    api::types::ContentView,
    client::{CliError, dataset, shown_time},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ContentCommand {
    /// Compute the content ids of files
    Id(IdArgs),
    /// Put a file into the provider's content cache (operator)
    Put(PutArgs),
    /// List the provider's content cache (operator)
    Ls(OperatorArgs),
    /// Remove what no job needs from the content cache (operator)
    Gc(OperatorArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune content id model.zip
  sealtune content id --scheme zg model.zip dataset.zip
  sealtune content id --json model.zip | jq -r '.[0].id'")]
pub(crate) struct IdArgs {
    /// sha256, or zg for the root under which 0G storage knows a file
    #[arg(long, default_value = "sha256", value_name = "SCHEME")]
    scheme: Scheme,
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune content put model.zip
  sealtune content put model.zip --socket ./sealtune.sock")]
pub(crate) struct PutArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune content ls
  sealtune content gc --json")]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Serialize)]
struct Identified {
    path: PathBuf,
    id: ContentId,
    bytes: u64,
}

pub(crate) async fn run(command: ContentCommand, output: &Output) -> Result<(), CliError> {
    match command {
        ContentCommand::Id(args) => id(args, output).await,
        ContentCommand::Put(args) => {
            let connection = args.socket.connect()?;
            let view = connection.content_put(&args.file, output.progress()).await?;
            output.answer(&view, || list(std::slice::from_ref(&view)))
        }
        ContentCommand::Ls(args) => {
            let contents = args.socket.connect()?.contents().await?;
            output.answer(&contents, || list(&contents))
        }
        ContentCommand::Gc(args) => {
            let removed = args.socket.connect()?.collect_garbage().await?;
            output.answer(&removed, || removed.to_string())
        }
    }
}

async fn id(args: IdArgs, output: &Output) -> Result<(), CliError> {
    let mut identified = Vec::new();
    for path in args.files {
        let id = dataset::identify(&path, args.scheme, output.progress()).await?;
        identified.push(Identified { path, id, bytes: id.length() });
    }
    output.answer(&identified, || {
        let lines = identified.iter().map(|one| format!("{}  {}", one.id, one.path.display()));
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn list(contents: &[ContentView]) -> String {
    let rows: Vec<_> = contents
        .iter()
        .map(|content| {
            [
                content.sha256.to_string(),
                content.zg.map_or_else(|| "-".into(), |id| id.to_string()),
                content.bytes.to_string(),
                shown_time(content.added),
            ]
        })
        .collect();
    table(["SHA256", "0G", "BYTES", "ADDED"], &rows)
}
