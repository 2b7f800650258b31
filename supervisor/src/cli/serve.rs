//! How the daemon speaks: its log on stderr, its errors in the form of every other command.

use tracing_subscriber::EnvFilter;

use crate::{
    client::{CliError, Exit},
    daemon::serve::ServeError,
};

/// `SEALTUNE_LOG` chooses what is logged, as `RUST_LOG` does elsewhere.
pub(super) fn start_log() {
    let filter = EnvFilter::try_from_env("SEALTUNE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let exit = match &error {
            ServeError::Config(_) => Exit::Usage,
            _ => Exit::Environment,
        };
        Self::new(exit, error.code(), error.fix(), &error)
    }
}
