//! The release of a sealed job: the only moment at which keys leave this computer, and only towards a VM whose evidence
//! the owner's own policy accepted.

use sealtune_evidence::Claims;
use sealtune_job::{Hex, JobState};
use sealtune_seal::{
    OwnerKey, RecipientKey, Suite,
    release::{seal_release, sign_specification, specification_digest},
};
use sealtune_verify::Part;
use tokio::time::{Duration, Instant};

use super::{
    CliError, ClientError, Connection, JobRecord, Progress, Records,
    calls::LONG_POLL,
    clock,
    collateral::Fresh,
    dataset,
    records::ReleaseRecord,
    trust::{self, Question, Trust},
};
use crate::api::types::{JobView, Release};

/// Offers that a provider made and then withdrew, or that expired, before this program gives up.
const MAX_OFFERS: u32 = 8;

pub(crate) struct Releaser<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) owner: &'a OwnerKey,
    pub(crate) records: &'a Records,
    pub(crate) trust: &'a Trust,
    pub(crate) progress: &'a Progress,
}

impl std::fmt::Debug for Releaser<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Releaser").finish_non_exhaustive()
    }
}

impl Releaser<'_> {
    /// Finishes the upload, if there is something left of it, and forgets the local copy of what was sealed.
    pub(crate) async fn upload(&self, record: &mut JobRecord) -> Result<(), CliError> {
        let Some(path) = record.upload.clone() else { return Ok(()) };
        dataset::upload(self.connection, record.job(), &path, self.progress).await?;
        record.upload = None;
        self.records.save(record)?;
        if path == self.records.sealed_dataset_path(record.job()) {
            std::fs::remove_file(&path).map_err(|source| ClientError::Write { path, source })?;
        }
        Ok(())
    }

    /// Waits until the job can be released, releases it, and gives the job as it is then. A job that needs no release
    /// (any more) is given as it is.
    pub(crate) async fn release(
        &self,
        record: &mut JobRecord,
        deadline_seconds: u64,
    ) -> Result<JobView, CliError> {
        let job = record.job();
        let deadline = Instant::now() + Duration::from_secs(deadline_seconds);
        let mut offers = 0;
        let mut view = self.connection.job(job).await?;
        let mut told = None;
        loop {
            if view.state == JobState::AwaitingRelease.name() {
                offers += 1;
                match self.release_once(record, &view).await {
                    Ok(released) => return Ok(released),
                    // The VM was lost, the offer was taken back, or the answer was lost: the provider knows which.
                    Err(error) if error.may_pass() && offers < MAX_OFFERS => {
                        self.progress.note(format!("release: {}; looking again", error.message));
                    }
                    Err(error) => return Err(error),
                }
                view = self.connection.job_changed(job, view.generation, 1).await?;
            } else if view.state == JobState::Queued.name() {
                if told != view.queue_position {
                    told = view.queue_position;
                    let before = told.map_or_else(String::new, |n| format!(", {n} before it"));
                    self.progress.note(format!("job {job}: queued{before}"));
                }
                view = self.connection.job_changed(job, view.generation, LONG_POLL).await?;
            } else {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                let job = job.to_string();
                return Err(ClientError::ReleaseTimeout { job, seconds: deadline_seconds }.into());
            }
        }
    }

    async fn release_once(
        &self,
        record: &mut JobRecord,
        view: &JobView,
    ) -> Result<JobView, CliError> {
        let job = record.job();
        let nonce = super::random_nonce()?;
        let asked_at = clock::now();
        let bytes = self.connection.offer(job, nonce).await?;
        let image = record.terms.image.verity_root;
        let question = Question { nonce, asked_at, job, attempt: view.attempt, image };
        let bundle = trust::parse(&bytes)?;
        let fresh = Fresh::newest(self.trust, &[&bundle], clock::now()).await;
        fresh.note(self.progress);
        // One time for verdict and memory: after all of it was issued.
        let now = clock::now();
        let mut judged = trust::judge_offer(self.trust, &bundle, &fresh, &question, now);
        let memory = self.records.collateral_memory_path();
        let parts = [Part { name: "", bundle: &bundle }];
        let verdict = &mut judged.appraisal.verdict;
        self.trust.remember(&memory, &parts, &fresh, now, verdict)?;
        // Every finding, the policy, and what it tolerates: before anything is released.
        self.progress.note(judged.appraisal.verdict.render().trim_end());
        if !judged.is_accepted() {
            return Err(ClientError::EvidenceRejected { codes: judged.codes() }.into());
        }
        if !trust::has_image(&judged, image) {
            let codes = format!("the VM does not hold the image {image}");
            return Err(ClientError::EvidenceRejected { codes }.into());
        }
        let offer = Hex(judged.appraisal.evidence_digest.0);
        let release = self.seal(record, view.attempt, offer, judged.claims()?)?;
        // Before it is sent: whatever happens to the answer, the frames can be opened.
        self.records.save(record)?;
        let released = self.connection.release(job, &release).await?;
        self.progress.note(format!("job {job}: released, attempt {}", view.attempt));
        Ok(released)
    }

    /// The whole specification, signed by the owner and sealed to the VM of the accepted offer.
    fn seal(
        &self,
        record: &mut JobRecord,
        attempt: u32,
        offer: Hex<32>,
        claims: &Claims,
    ) -> Result<Release, CliError> {
        let specification = record.specification(attempt, offer);
        specification.terms.validate()?;
        let bytes = specification.to_canonical()?;
        let signature = sign_specification(self.owner, bytes.expose())?;
        let suite: Suite = claims.hpke.suite.as_str().parse()?;
        let recipient = RecipientKey::new(suite, &claims.hpke.key.0)?;
        let sealed = seal_release(bytes.expose(), &signature, &offer.0, &recipient)?;
        let specification = Hex(specification_digest(bytes.expose()));
        let time = clock::now();
        record.releases.push(ReleaseRecord { attempt, offer, specification, time });
        Ok(Release { attempt, release: on_the_wire(&sealed)? })
    }
}

/// The API carries what the agent is sent.
fn on_the_wire(
    sealed: &sealtune_seal::release::SealedRelease,
) -> Result<sealtune_wire::v1::SealedRelease, ClientError> {
    serde_json::to_value(sealed)
        .and_then(serde_json::from_value)
        .map_err(|error| ClientError::Bug(format!("write a release: {error}")))
}

/// The key must be the one that the job names as its owner.
pub(crate) fn check_owner(record: &JobRecord, owner: &OwnerKey) -> Result<(), ClientError> {
    let (named, key) = (record.terms.owner.to_string(), owner.signing_public().to_hex());
    if named == key { Ok(()) } else { Err(ClientError::NotTheOwner { owner: named, key }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealtune_seal::{
        RecipientKeyPair, SigningPublicKey,
        release::{open_release, verify_specification},
    };

    #[test]
    fn the_wire_form_opens_to_the_signed_specification() {
        let owner = OwnerKey::generate(Suite::X25519).expect("owner");
        let record = crate::client::records::tests::sample_record();
        for suite in Suite::ALL {
            let agent = RecipientKeyPair::generate(suite).expect("agent");
            let offer = Hex([6; 32]);
            let bytes = record.specification(2, offer).to_canonical().expect("canonical");
            let signature = sign_specification(&owner, bytes.expose()).expect("signature");
            let sealed =
                seal_release(bytes.expose(), &signature, &offer.0, agent.public()).expect("sealed");
            let wire = on_the_wire(&sealed).expect("wire");
            let value = serde_json::to_value(&wire).expect("json");
            let read = serde_json::from_value(value).expect("read");
            let opened = open_release(&read, &offer.0, &agent).expect("opens");
            assert_eq!(opened.spec_bytes.expose(), bytes.expose());
            let public: SigningPublicKey = owner.signing_public();
            verify_specification(&public, bytes.expose(), &opened.signature).expect("signed");
            assert!(open_release(&read, &[7; 32], &agent).is_err(), "another offer");
        }
    }

    #[test]
    fn somebody_elses_key_is_refused() {
        let record = crate::client::records::tests::sample_record();
        let other = OwnerKey::generate(Suite::X25519).expect("owner");
        assert_eq!(check_owner(&record, &other).expect_err("other").code(), "ST-CLI-22");
    }
}
