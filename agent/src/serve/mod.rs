//! The serving role: one connection to the host, one machine, one job.
//!
//! ```text
//! listener --hello--> hub (one task, owns everything) <--> control connection, outbox
//!      '--streams-----> job (one task): fetch, prepare, train, seal, receipt
//! ```
//! Nothing but the launch configuration is heard before the CPU has vouched for it. Every way out ends the process, and
//! init then powers the VM off.

mod control;
mod error;
mod evidence;
#[cfg(feature = "simulated-tee")]
mod host_calls;
mod job;
mod launch;
mod listener;
mod machine;
mod outbox;
mod state;

#[cfg(feature = "simulated-tee")]
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use tokio::sync::mpsc;

use self::error::ServeError;
use self::listener::Transport;
use self::machine::Places;
use self::state::Hub;
pub(crate) use self::state::ToHub;
use crate::tee::{Tee, TeeError};

/// Messages on their way to the hub; whoever sends more waits.
const HUB_MESSAGES: usize = 64;
/// For archives, packing and quotes: never more than two at once.
const BLOCKING_THREADS: usize = 2;

pub(crate) fn run() -> ExitCode {
    let Some(transport) = transport(std::env::args().skip(2)) else {
        eprintln!("usage: sealtune-agent serve");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(transport));
            // A quote that is being waited for must not hold up the power-off.
            runtime.shutdown_background();
            code
        }
        Err(error) => report(&ServeError::Listen(error)),
    }
}

async fn serve(transport: Transport) -> ExitCode {
    let (address, messages) = mpsc::channel::<ToHub>(HUB_MESSAGES);
    let tee = match find_tee(&address) {
        Ok(tee) => tee,
        Err(error) => return report(&ServeError::Tee(error)),
    };
    let hub = Hub::new(tee, Places::default(), messages, address.clone());
    tokio::select! {
        code = hub.run() => code,
        error = listener::listen(transport, address) => report(&error),
    }
}

/// The console of a prod image is silent; of a dev image, it is the host's.
fn report(error: &ServeError) -> ExitCode {
    eprintln!("{} failed to {error}", error.code());
    ExitCode::FAILURE
}

#[cfg(not(feature = "simulated-tee"))]
fn find_tee(_: &mpsc::Sender<ToHub>) -> Result<Tee, TeeError> {
    Tee::detect().ok_or(TeeError::None)
}

#[cfg(feature = "simulated-tee")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature there may be no TEE")]
fn find_tee(address: &mpsc::Sender<ToHub>) -> Result<Tee, TeeError> {
    use crate::tee::simulated::{MARKER, Simulated};

    if let Some(tee) = Tee::detect() {
        return Ok(tee);
    }
    eprintln!("{MARKER}: this machine proves nothing");
    Ok(Tee::Simulated(Simulated::new(address.clone())))
}

#[cfg(not(feature = "simulated-tee"))]
fn transport(mut arguments: impl Iterator<Item = String>) -> Option<Transport> {
    arguments.next().is_none().then_some(Transport::Vsock)
}

/// A dev agent also listens on a unix socket, for tests on machines without vsock.
#[cfg(feature = "simulated-tee")]
fn transport(mut arguments: impl Iterator<Item = String>) -> Option<Transport> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Some(Transport::Vsock),
        (Some("--listen"), Some(address), None) => {
            address.strip_prefix("unix:").map(|path| Transport::Unix(path.into()))
        }
        _ => None,
    }
}
