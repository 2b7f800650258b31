//! What the supervisor may ask once a connection stands, and the answers that need no launch check of their own.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use sealtune_evidence::{FixedHex, Role};
use sealtune_job::{Hex, JobId};
use sealtune_wire::v1::{AgentReply, AgentRequest, Outcome, OutsidePurpose, Status};

use super::{Hub, Ready, Stage, ToHub};
use crate::serve::error::ServeError;
use crate::serve::evidence::Made;
use crate::serve::job::{self, AcceptedJob, JobError, JobHandle};
use crate::serve::machine::{resident_kib, uptime_ms};

impl Hub {
    pub(super) fn request(&mut self, link: u64, id: u64, request: AgentRequest) {
        let answer = match request {
            AgentRequest::Launch { configuration } => match self.launch(link, id, &configuration) {
                Ok(()) => return,
                Err(error) => Err(error.code()),
            },
            AgentRequest::Evidence { purpose, nonce } => {
                match self.evidence(link, id, purpose, nonce) {
                    Ok(()) => return,
                    Err(error) => Err(error.code()),
                }
            }
            AgentRequest::Release { job, attempt, release } => self.start(|ready| {
                let hpke = ready.hpke.as_ref().ok_or(JobError::KeyErased)?;
                let offers: Vec<_> = ready.offers.good(Instant::now()).collect();
                job::release::open(
                    job,
                    attempt,
                    &release,
                    hpke,
                    &offers,
                    &ready.machine.configuration,
                )
            }),
            AgentRequest::Start { terms } => {
                let job = terms.job;
                // The supervisor did not hear the answer and asks again.
                if self.running() == Some(job) {
                    Ok(AgentReply::Accepted { job })
                } else {
                    self.start(|ready| {
                        job::release::accept_plain(*terms, &ready.machine.configuration)
                    })
                }
            }
            AgentRequest::Cancel { job } => self.cancel(job).map_err(|error| error.code()),
            AgentRequest::Status => self.status().map_err(|error| error.code()),
            AgentRequest::Shutdown => match self.stage {
                Stage::Ready(_) => {
                    self.reply(link, id, Outcome::Ok(AgentReply::Done));
                    return self.end(ExitCode::SUCCESS);
                }
                _ => Err(ServeError::BeforeLaunch.code()),
            },
        };
        let outcome = match answer {
            Ok(reply) => Outcome::Ok(reply),
            Err(code) => Outcome::Error { code: code.to_owned() },
        };
        self.reply(link, id, outcome);
    }

    fn evidence(
        &mut self,
        link: u64,
        id: u64,
        purpose: OutsidePurpose,
        nonce: Hex<32>,
    ) -> Result<(), ServeError> {
        let ready = self.ready()?;
        if purpose == OutsidePurpose::Offer && (ready.job.is_some() || ready.hpke.is_none()) {
            return Err(ServeError::OfferAfterJob);
        }
        let (machine, hub) = (Arc::clone(&ready.machine), self.address.clone());
        tokio::spawn(async move {
            let made = machine.attester.outside(purpose, FixedHex(nonce.0)).await;
            let _ = hub.send(ToHub::Made { link, id, purpose, made: Box::new(made) }).await;
        });
        Ok(())
    }

    pub(super) fn made(
        &mut self,
        link: u64,
        id: u64,
        purpose: OutsidePurpose,
        made: Result<Made, ServeError>,
    ) {
        let made = made.and_then(|made| {
            let Stage::Ready(ready) = &mut self.stage else {
                return Err(ServeError::BeforeLaunch);
            };
            if purpose == OutsidePurpose::Offer {
                // A job may have been accepted while the quote was made.
                if ready.job.is_some() {
                    return Err(ServeError::OfferAfterJob);
                }
                ready.offers.remember(Instant::now(), made.digest);
            }
            Ok(AgentReply::Evidence(made.evidence))
        });
        let outcome = match made {
            Ok(reply) => Outcome::Ok(reply),
            Err(error) => Outcome::Error { code: error.code().to_owned() },
        };
        self.reply(link, id, outcome);
    }

    fn start(
        &mut self,
        open: impl FnOnce(&Ready) -> Result<AcceptedJob, JobError>,
    ) -> Result<AgentReply, &'static str> {
        let ready = self.ready().map_err(|error| error.code())?;
        if ready.machine.configuration.role != Role::Worker {
            return Err(ServeError::NotAWorker.code());
        }
        if ready.job.is_some() {
            return Err(ServeError::SecondJob.code());
        }
        if !ready.machine.has_own_image {
            return Err(ServeError::NoJobs.code());
        }
        let accepted = open(ready).map_err(|error| error.code())?;
        let machine = Arc::clone(&ready.machine);
        let job = accepted.terms.job;
        let handle = job::start(
            accepted,
            machine,
            Arc::clone(&self.places),
            self.outbox.clone(),
            self.address.clone(),
        );
        if let Stage::Ready(ready) = &mut self.stage {
            // Erased here: this VM opens nothing else.
            ready.hpke = None;
            ready.job = Some(handle);
        }
        Ok(AgentReply::Accepted { job })
    }

    fn running(&self) -> Option<JobId> {
        Some(self.ready().ok()?.job.as_ref()?.job)
    }

    fn cancel(&self, job: JobId) -> Result<AgentReply, ServeError> {
        match &self.ready()?.job {
            Some(handle) if handle.job == job => {
                handle.cancel();
                Ok(AgentReply::Done)
            }
            _ => Err(ServeError::OtherJob),
        }
    }

    fn status(&self) -> Result<AgentReply, ServeError> {
        let job = self.ready()?.job.as_ref();
        Ok(AgentReply::Status(Status {
            uptime_ms: uptime_ms(),
            resident_kib: resident_kib(),
            job: job.map(|job| job.job),
            phase: job.and_then(JobHandle::phase),
        }))
    }
}
