//! The simulated TEE: the supervisor that launched this VM stands in for the CPU. Compiled into dev agents only.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::{Event, FixedHex, Hex48};
use sealtune_job::Hex;
use sealtune_wire::v1::{HostReply, HostRequest, Outcome, Rtmr3};
use tokio::sync::{mpsc, oneshot};

use super::TeeError;
use crate::serve::ToHub;

/// Searched for in release binaries, and shown where a dev agent starts.
pub(crate) const MARKER: &str = "SIMULATED TEE";
const MAX_QUOTE_BYTES: usize = 16 * 1024;

/// One question to the host, answered over the control connection.
#[derive(Debug)]
pub(crate) struct HostCall {
    pub(crate) request: HostRequest,
    pub(crate) reply: oneshot::Sender<Outcome<HostReply>>,
}

#[derive(Debug)]
pub(crate) struct Simulated {
    hub: mpsc::Sender<ToHub>,
}

impl Simulated {
    pub(crate) fn new(hub: mpsc::Sender<ToHub>) -> Self {
        Self { hub }
    }

    pub(super) async fn mr_config_id(&self) -> Result<Hex48, TeeError> {
        match self.ask(HostRequest::SimulatedReport).await.map_err(TeeError::Report)? {
            HostReply::SimulatedReport { mr_config_id } => Ok(FixedHex(mr_config_id.0)),
            _ => Err(TeeError::Report("another answer".into())),
        }
    }

    pub(super) async fn extend(&self, event: &Event) -> Result<Rtmr3, TeeError> {
        let request = HostRequest::SimulatedExtend {
            name: event.name.clone(),
            payload: hex::encode(&event.payload.0),
        };
        match self.ask(request).await.map_err(TeeError::Extend)? {
            HostReply::Extended => Ok(Rtmr3::Available),
            _ => Err(TeeError::Extend("another answer".into())),
        }
    }

    pub(super) async fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let request = HostRequest::SimulatedQuote { report_data: Hex(*report_data) };
        let HostReply::SimulatedQuote { quote } =
            self.ask(request).await.map_err(TeeError::Quote)?
        else {
            return Err(TeeError::Quote("another answer".into()));
        };
        match STANDARD.decode(quote) {
            Ok(quote) if quote.len() <= MAX_QUOTE_BYTES => Ok(quote),
            _ => Err(TeeError::Quote("it is malformed".into())),
        }
    }

    async fn ask(&self, request: HostRequest) -> Result<HostReply, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || format!("{MARKER}: the host does not answer");
        let call = ToHub::Ask(HostCall { request, reply });
        self.hub.send(call).await.map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Error { code } => Err(format!("{MARKER}: the host answers {code}")),
        }
    }
}
