//! The VM's transfers, and the moment when a job is delivered.

use std::path::{Path, PathBuf};

use sealtune_job::{FailReason, Hex, JobEvent, JobId, JobKind};
use sealtune_wire::v1::Transfer;

use super::{VmContext, VmTask};
use crate::{
    store::{StoreError, VmRow},
    vm::{
        link::back_off,
        streams::{self, StreamError},
    },
};

impl VmTask {
    pub(super) fn partial_result(&self, job: JobId) -> PathBuf {
        self.context.results.join(format!("{job}.{}.part", self.row.attempt))
    }

    /// Starts every transfer that the agent wants and that does not run yet.
    pub(super) async fn open_streams(&mut self) {
        let rows = match self.context.store.open_streams(&self.row.definition.id).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!("{error}");
                return;
            }
        };
        for row in rows {
            if Some(row.job) != self.row.definition.job || !self.active.insert(row.stream) {
                continue;
            }
            let (context, definition) = (self.context.clone(), self.row.definition.clone());
            let partial = self.partial_result(row.job);
            self.streams.spawn(async move {
                let mut attempt = 0;
                loop {
                    // The zip, its seal and its frames are a little longer than what is packed.
                    let limit = match context.store.job(row.job).await {
                        Ok(job) => {
                            job.submission.limits.output_bytes.saturating_mul(2) + (16 << 20)
                        }
                        Err(error) => {
                            tracing::error!("{error}");
                            tokio::time::sleep(back_off(attempt)).await;
                            continue;
                        }
                    };
                    let moved =
                        streams::transfer(&definition, &row, &context.content, &partial, limit);
                    match moved.await {
                        Err(error) if error.is_passing() => {
                            tracing::debug!(vm = %definition.id, "transfer: {error}");
                            tokio::time::sleep(back_off(attempt)).await;
                            attempt += 1;
                        }
                        ended => return (row.stream, ended),
                    }
                }
            });
        }
    }

    pub(super) async fn stream_finished(
        &mut self,
        finished: Result<(Hex<16>, Result<(), StreamError>), tokio::task::JoinError>,
    ) -> Result<(), ()> {
        let Ok((stream, outcome)) = finished else {
            return Ok(());
        };
        // Not stored means that it runs again, which costs a connection and no more.
        self.active.remove(&stream);
        let done = self.context.store.stream_done(&self.row.definition.id, &stream).await;
        done.map_err(|error| tracing::error!("{error}"))?;
        match (outcome, self.row.definition.job) {
            (Ok(()), _) => self.try_complete().await,
            (Err(error), Some(job)) => {
                tracing::warn!(%job, "transfer: {error}");
                let code = error.code().to_owned();
                let reason = if error.is_the_guests() {
                    FailReason::Guest { code }
                } else {
                    FailReason::Host { code }
                };
                self.apply(job, &JobEvent::AgentFailed(reason)).await
            }
            (Err(_), None) => Ok(()),
        }
    }

    /// Delivered means: result and receipt are on this disk, and the result is what the agent says it is.
    pub(super) async fn try_complete(&mut self) -> Result<(), ()> {
        let Some(job) = self.row.definition.job else {
            return Ok(());
        };
        let partial = self.partial_result(job);
        match completion(&self.context, &self.row, job, &partial).await {
            Ok(Completion::NotYet) => Ok(()),
            Ok(Completion::Stored) => self.apply(job, &JobEvent::Stored).await,
            Ok(Completion::Wrong) => {
                let code = "ST-VM-45".to_owned();
                self.apply(job, &JobEvent::AgentFailed(FailReason::Guest { code })).await
            }
            Err(error) => {
                tracing::error!(%job, "complete a job: {error}");
                Ok(())
            }
        }
    }

    pub(super) async fn job_lost(&mut self) -> Result<(), StoreError> {
        let Some(job) = self.row.definition.job else {
            return Ok(());
        };
        let row = self.context.store.job(job).await?;
        let _ = std::fs::remove_file(self.partial_result(job));
        if row.state.is_final() {
            self.context.content.drop_dataset(job);
        }
        if row.state.is_final() || row.vm.as_deref() != Some(&self.row.definition.id) {
            return Ok(());
        }
        tracing::warn!(%job, vm = %self.row.definition.id, "the VM is lost");
        // Where this fails, the pool finds the job without a VM and does the same.
        let _ = self.apply(job, &JobEvent::VmLost).await;
        Ok(())
    }
}

enum Completion {
    NotYet,
    Stored,
    Wrong,
}

async fn completion(
    context: &VmContext,
    vm: &VmRow,
    job: JobId,
    partial: &Path,
) -> Result<Completion, StoreError> {
    let row = context.store.job(job).await?;
    let Some(result) = row.result.as_ref().filter(|_| row.state.name() == "delivering") else {
        return Ok(Completion::NotYet);
    };
    let receipt = context.store.receipt(job).await?;
    let receipted = receipt.is_some_and(|(attempt, _)| attempt == vm.attempt);
    let streams = context.store.open_streams(&vm.definition.id).await?;
    let open = streams.iter().any(|stream| stream.what == Transfer::Result);
    if open || (row.kind() == JobKind::Sealed && !receipted) {
        return Ok(Completion::NotYet);
    }
    let target = context.results.join(format!("{job}.result"));
    if partial.exists() {
        let path = partial.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(path)?;
            sealtune_content::identify(file, sealtune_content::Scheme::Sha256)
                .map_err(std::io::Error::other)
        });
        let matches = matches!(found.await, Ok(Ok(id)) if id == result.sha256);
        if !matches {
            return Ok(Completion::Wrong);
        }
        let moved = std::fs::rename(partial, &target).and_then(|()| {
            std::fs::File::open(&context.results).and_then(|directory| directory.sync_all())
        });
        if let Err(error) = moved {
            return Err(StoreError::Directory { path: target, error });
        }
    }
    Ok(if target.exists() { Completion::Stored } else { Completion::NotYet })
}
