//! What the agent says: replies, events, and what follows from them for the VM's job.

use std::time::Duration;

use sealtune_job::{Effect, FailReason, JobEvent, JobId};
use sealtune_wire::v1::{
    AgentEvent, AgentReply, AgentRequest, Evidence, Launched, Outcome, Rtmr3, ToAgent, ToSupervisor,
};

use super::{Pending, RequestError, VmTask};
use crate::{
    store::{StoreError, now_ms, plain_code},
    vm::{
        state::{VmEvent, VmFailure, VmState},
        tee::is_boot_log,
    },
};

pub(super) enum Broken {
    Link,
    Vm(VmFailure),
}

impl From<()> for Broken {
    fn from((): ()) -> Self {
        Self::Link
    }
}

impl VmTask {
    pub(super) async fn handle(&mut self, message: ToSupervisor) -> Result<(), Broken> {
        match message {
            ToSupervisor::Ping { nonce } => {
                self.send(&ToAgent::Pong { nonce }).await.map_err(|()| Broken::Link)
            }
            ToSupervisor::Pong { .. } => Ok(()),
            ToSupervisor::Reply { id, outcome } => self.reply(id, outcome).await,
            ToSupervisor::Request { id, request } => {
                let context = self.context.clone();
                let answer =
                    context.tee.answer(&self.row.definition, &context.store, id, &request).await;
                let outcome = match answer {
                    Ok(reply) => Outcome::Ok(reply),
                    Err(error) => {
                        tracing::warn!(vm = %self.row.definition.id, "{error}");
                        Outcome::Error { code: error.code().to_owned() }
                    }
                };
                self.send(&ToAgent::Reply { id, outcome }).await.map_err(|()| Broken::Link)
            }
            ToSupervisor::Event { sequence, event } => self.event(sequence, event).await,
        }
    }

    async fn reply(&mut self, id: u64, outcome: Outcome<AgentReply>) -> Result<(), Broken> {
        let Some(pending) = self.pending.remove(&id) else {
            return Ok(());
        };
        match (pending, outcome) {
            (Pending::Command(reply), outcome) => {
                let _ = reply.send(match outcome {
                    Outcome::Ok(answer) => Ok(answer),
                    Outcome::Error { code } => Err(RequestError::Refused(plain_code(&code))),
                });
            }
            (Pending::Launch, Outcome::Ok(AgentReply::Launched(launched))) => {
                self.launched(launched).await?;
            }
            (Pending::Launch, Outcome::Error { code }) => {
                return Err(Broken::Vm(VmFailure::Launch { code: plain_code(&code) }));
            }
            (Pending::PlainTerms(job), Outcome::Ok(_)) => {
                self.apply(job, &JobEvent::Accepted).await?;
            }
            (Pending::PlainTerms(job), Outcome::Error { code }) => {
                let reason = FailReason::Refused { code: plain_code(&code) };
                self.apply(job, &JobEvent::AgentFailed(reason)).await?;
            }
            (Pending::Launch | Pending::Shutdown, _) => {}
        }
        Ok(())
    }

    async fn launched(&mut self, launched: Launched) -> Result<(), ()> {
        let first = self.state != VmState::Ready;
        let view = &mut self.row.view;
        if first && view.ready_ms.is_none() {
            // Of a VM that was taken up while it booted, only the clock knows when that began.
            view.ready_ms = if self.taken_up {
                Some((now_ms() - view.started).max(0).unsigned_abs())
            } else {
                u64::try_from(self.started.elapsed().as_millis()).ok()
            };
        }
        view.instance = Some(launched.instance.to_string());
        view.kernel = Some(launched.kernel.chars().filter(|c| !c.is_control()).take(128).collect());
        view.resident_kib = Some(launched.resident_kib);
        view.rtmr3 = Some(
            match launched.rtmr3 {
                Rtmr3::Available => "available",
                Rtmr3::Unavailable => "unavailable",
            }
            .to_owned(),
        );
        self.keep_boot_log(launched.ccel).await;
        if self.stop_deadline.is_some() {
            // Asked to stop while it booted: now it can be asked.
            return self.request(AgentRequest::Shutdown, Pending::Shutdown).await;
        }
        self.step(VmEvent::LaunchAccepted).await;
        if let Some(job) = self.row.definition.job {
            // After a restart of the daemon the job may be long past this; then the machine denies it.
            self.apply(job, &JobEvent::VmReady).await?;
            self.open_streams().await;
            self.try_complete().await?;
        }
        Ok(())
    }

    /// A VM boots once; without its log, evidence still has the registers.
    async fn keep_boot_log(&mut self, log: Option<String>) {
        let definition = &mut self.row.definition;
        let Some(log) = log.filter(|_| definition.ccel.is_none()) else { return };
        if !is_boot_log(&log) {
            tracing::warn!(vm = %definition.id, "the agent's boot log is none, and is left out");
            return;
        }
        definition.ccel = Some(log);
        if let Err(error) = self.context.store.set_vm_definition(definition).await {
            tracing::error!("{error}");
        }
    }

    async fn event(&mut self, sequence: u64, event: AgentEvent) -> Result<(), Broken> {
        let context = self.context.clone();
        let definition = &self.row.definition;
        // What is stored is never made again: whoever reads it years later has no service to ask.
        if context.collateral.is_on()
            && let Some(evidence) = evidence_of(&event)
            && let Ok(bundle) = context.tee.bundle(definition, evidence)
        {
            context.collateral.ready(definition, &bundle).await;
        }
        let bundle = |evidence: &Evidence| {
            let bundle = context.tee.bundle(definition, evidence);
            let mut bundle = bundle.inspect_err(|error| tracing::warn!("{error}")).ok()?;
            context.collateral.attach(&mut bundle);
            String::from_utf8(bundle.to_bytes().ok()?).ok()
        };
        let vm_job = definition.job.map(|job| (job, self.row.attempt));
        let id = definition.id.clone();
        let recorded = context.store.record_event(&id, vm_job, sequence, &event, bundle).await;
        let outcome = match recorded {
            Ok(outcome) => outcome,
            Err(error) => {
                // Not acknowledged: the agent sends it again on the next connection.
                tracing::error!(vm = %id, "store an event: {error}");
                tokio::time::sleep(Duration::from_millis(500)).await;
                return Err(Broken::Link);
            }
        };
        self.row.acknowledged = sequence;
        let sent = self.send(&ToAgent::Acknowledge { sequence }).await;
        if outcome.changed.is_some() {
            self.context.changes.announce();
        }
        self.perform(&outcome.effects).await;
        if outcome.stream_wanted {
            self.open_streams().await;
        }
        if outcome.done {
            self.try_complete().await?;
        }
        if let Some(code) = outcome.fatal {
            return Err(Broken::Vm(VmFailure::Fatal { code }));
        }
        Ok(sent?)
    }

    /// Applies an event to the VM's job and performs what follows. Where it cannot be stored, the caller gives the
    /// connection up: the next one starts from what is stored.
    pub(super) async fn apply(&mut self, job: JobId, event: &JobEvent) -> Result<(), ()> {
        let release = i64::try_from(self.context.release_time.as_millis()).unwrap_or(i64::MAX);
        match self.context.store.apply(job, event, release).await {
            Ok((_, effects)) => {
                self.context.changes.announce();
                Box::pin(self.perform(&effects)).await;
                Ok(())
            }
            Err(StoreError::Denied(denied)) => {
                tracing::debug!(%job, "{denied}");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%job, "{error}");
                tokio::time::sleep(Duration::from_millis(500)).await;
                Err(())
            }
        }
    }

    pub(super) async fn perform(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::StopVm => self.begin_stop().await,
                // The scheduler looks at the store whenever something has changed.
                Effect::StartVm | Effect::StartReleaseDeadline => self.context.changes.announce(),
                Effect::SendPlainTerms => self.send_plain_terms().await,
                Effect::DiscardPartialResult => {
                    if let Some(job) = self.row.definition.job {
                        let _ = std::fs::remove_file(self.partial_result(job));
                    }
                }
            }
        }
    }

    async fn send_plain_terms(&mut self) {
        let Some(job) = self.row.definition.job else {
            return;
        };
        match self.context.store.job(job).await {
            Ok(row) => {
                if let Some(mut terms) = row.submission.terms {
                    terms.attempt = row.attempt;
                    let _ =
                        self.request(AgentRequest::Start { terms }, Pending::PlainTerms(job)).await;
                }
            }
            Err(error) => tracing::error!(%job, "{error}"),
        }
    }
}

/// Evidence that is made once and stored with its job.
fn evidence_of(event: &AgentEvent) -> Option<&Evidence> {
    match event {
        AgentEvent::Started { evidence, .. } => Some(evidence),
        AgentEvent::Receipt { evidence, .. } => evidence.as_ref(),
        _ => None,
    }
}
