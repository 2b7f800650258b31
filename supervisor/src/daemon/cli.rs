//! The daemon's own commands: `serve`, `config check`, `config show`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    config::{self, Config, ConfigError, Given},
    serve::{self, ServeError},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sealtune serve --image ./image --layers ./layers --state-dir ./state --socket ./state/socket\n  sealtune serve --config /etc/sealtune/sealtune.toml --accelerator tcg"
)]
pub(crate) struct ServeArgs {
    /// Configuration file
    #[arg(long, env = "SEALTUNE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether a configuration is valid
    Check(ServeArgs),
    /// Print every value and where it comes from
    Show(ServeArgs),
}

impl ServeArgs {
    fn resolve(self) -> Result<Config, ConfigError> {
        let file = config::read(self.config.as_deref())?;
        Config::resolve(self.given, file)
    }
}

/// Runs the daemon until a signal ends it.
pub(crate) async fn serve(arguments: ServeArgs) -> Result<(), ServeError> {
    serve::serve(arguments.resolve()?).await
}

/// The text to print on stdout.
pub(crate) fn config(arguments: ConfigArgs, json: bool) -> Result<String, ServeError> {
    let bug = |error: serde_json::Error| ConfigError::Value(error.to_string());
    match arguments.command {
        ConfigCommand::Check(arguments) => {
            arguments.resolve()?;
            Ok(if json { r#"{"valid":true}"#.into() } else { "the configuration is valid".into() })
        }
        ConfigCommand::Show(arguments) => {
            let config = arguments.resolve()?;
            let value = serde_json::to_value(&config).map_err(bug)?;
            if json {
                return Ok(value.to_string());
            }
            let mut lines = Vec::new();
            for (key, setting) in value.as_object().into_iter().flatten() {
                let origin = setting["origin"].as_str().unwrap_or_default();
                lines.push(format!("{key} = {}  # {origin}", setting["value"]));
            }
            Ok(lines.join("\n"))
        }
    }
}
