use std::path::PathBuf;

use clap::{Args, Subcommand};
use sealtune_seal::{OwnerKey, Suite};
use serde::Serialize;

use super::{Output, session::KeyOption};
use crate::client::{CliError, keys};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an owner key: it signs jobs, and results are sealed to it
    New(NewArgs),
    /// Show the public parts of an owner key
    Show(ShowArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
The file holds the only key that opens your results: keep a copy.

Examples:
  sealtune key new
  sealtune key new --out team.key --suite x25519
  sealtune key new --from-wallet-key wallet.hex")]
pub(crate) struct NewArgs {
    /// Where to write the key file; an existing file is never overwritten [default: ~/.config/sealtune/owner.key]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// How results are sealed to this key: x-wing (also against quantum computers) or x25519
    #[arg(long, default_value = "x-wing", value_name = "SUITE")]
    suite: Suite,
    /// Sign with a wallet's private key (a file, mode 0600, with 64 hex digits) instead of a new one
    #[arg(long, value_name = "FILE")]
    from_wallet_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune key show
  sealtune key show --key team.key --json")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    key: KeyOption,
}

#[derive(Debug, Serialize)]
struct Shown {
    path: PathBuf,
    address: String,
    signing: String,
    suite: &'static str,
    recipient: String,
}

pub(crate) fn run(command: KeyCommand, output: &Output) -> Result<(), CliError> {
    match command {
        KeyCommand::New(args) => {
            let path = match args.out {
                Some(path) => path,
                None => keys::default_path()?,
            };
            let key = match args.from_wallet_key {
                Some(wallet) => {
                    OwnerKey::from_signing_key_hex(&keys::read_private(&wallet)?, args.suite)?
                }
                None => OwnerKey::generate(args.suite)?,
            };
            keys::save(&path, &key)?;
            show(path, &key, output)
        }
        KeyCommand::Show(args) => {
            let path = args.key.path()?;
            let key = keys::load(&path)?;
            show(path, &key, output)
        }
    }
}

fn show(path: PathBuf, key: &OwnerKey, output: &Output) -> Result<(), CliError> {
    let public = key.public();
    let shown = Shown {
        path,
        address: key.address()?,
        signing: public.signing.to_hex(),
        suite: public.recipient.suite().name(),
        recipient: public.recipient.to_hex(),
    };
    output.answer(&shown, || {
        format!(
            "file       {}\naddress    {}\nsigning    {}\nsuite      {}\nrecipient  {}",
            shown.path.display(),
            shown.address,
            shown.signing,
            shown.suite,
            shown.recipient
        )
    })
}
