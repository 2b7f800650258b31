//! Questions to the host that stands in for the TEE: numbered, asked again with the same number after a reconnect.
//! A host that answers a number twice must not perform it twice.

use std::collections::BTreeMap;

use sealtune_wire::v1::{HostReply, HostRequest, Outcome, ToSupervisor};
use tokio::sync::oneshot;

use crate::tee::simulated::HostCall;

const MAX_OPEN: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct HostCalls {
    last: u64,
    open: BTreeMap<u64, (HostRequest, oneshot::Sender<Outcome<HostReply>>)>,
}

impl HostCalls {
    /// Whoever asks beyond the bound gets no answer, as if the host were gone.
    pub(crate) fn ask(&mut self, call: HostCall) -> Option<ToSupervisor> {
        if self.open.len() >= MAX_OPEN {
            return None;
        }
        self.last += 1;
        let request = call.request.clone();
        self.open.insert(self.last, (call.request, call.reply));
        Some(ToSupervisor::Request { id: self.last, request })
    }

    pub(crate) fn answer(&mut self, id: u64, outcome: Outcome<HostReply>) {
        if let Some((_, reply)) = self.open.remove(&id) {
            // Fails where nobody waits any more.
            let _ = reply.send(outcome);
        }
    }

    /// Everything that has no answer yet.
    pub(crate) fn open(&self) -> Vec<ToSupervisor> {
        let ask = |(id, (request, _)): (&u64, &(HostRequest, _))| ToSupervisor::Request {
            id: *id,
            request: request.clone(),
        };
        self.open.iter().map(ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_keeps_its_number_until_it_is_answered() {
        let mut calls = HostCalls::default();
        let (reply, mut answer) = oneshot::channel();
        let first = calls.ask(HostCall { request: HostRequest::SimulatedReport, reply }).unwrap();
        assert_eq!(calls.open(), [first]);
        calls.answer(7, Outcome::Ok(HostReply::Extended));
        assert!(answer.try_recv().is_err());
        calls.answer(1, Outcome::Ok(HostReply::Extended));
        assert_eq!(answer.try_recv().unwrap(), Outcome::Ok(HostReply::Extended));
        assert!(calls.open().is_empty());
    }
}
