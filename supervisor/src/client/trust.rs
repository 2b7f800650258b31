//! What the customer holds evidence against, and the judging of it before anything is released.

use std::path::{Path, PathBuf};

use sealtune_evidence::{
    Anchors, Appraisal, Claims, Collateral, Context, EvidenceBundle, Expectation, Hex32, JudgeTime,
    Policy, Purpose, Verdict, appraise,
    bundle::MAX_BUNDLE_BYTES,
    collateral::{AtHand, Documents, MAX_COLLATERAL_BYTES, Services},
    nvidia::collateral::{MAX_NVIDIA_COLLATERAL_BYTES, NvidiaCollateral},
    policy::ListedImages,
    release,
    snp::collateral::{MAX_SNP_COLLATERAL_BYTES, SnpCollateral},
};
use sealtune_job::{Hex, JobId};
use sealtune_verify::{Part, ReleaseFiles, Releases};

use super::{CliError, ClientError, Exit, clock, collateral::Fresh, files};

/// Where the customer's own files are.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustFiles {
    pub(crate) policy: Option<PathBuf>,
    /// dstack images that may run besides those that the policy lists.
    pub(crate) listed: ListedImages,
    pub(crate) references: Vec<PathBuf>,
    pub(crate) manifests: Vec<PathBuf>,
    pub(crate) release_keys: Option<PathBuf>,
    /// What manifests said is kept beside it.
    pub(crate) collateral_memory: Option<PathBuf>,
    pub(crate) simulated_root: Option<PathBuf>,
    pub(crate) collateral: Option<PathBuf>,
    pub(crate) snp_collateral: Option<PathBuf>,
    pub(crate) gpu_collateral: Option<PathBuf>,
    /// Whom to ask for newer collateral; nobody, if the customer wants to stay offline.
    pub(crate) services: Option<Services>,
}

#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) policy: Policy,
    pub(crate) vouched: sealtune_verify::Trust,
    pub(crate) anchors: Anchors,
    /// Collateral of the customer's.
    pub(crate) own: Documents,
    /// Where newer collateral is to be had, if anybody is to be asked.
    pub(crate) services: Option<Services>,
}

impl Trust {
    pub(crate) fn load(files: &TrustFiles) -> Result<Self, CliError> {
        let policy = sealtune_verify::policy(files.policy.as_deref(), &files.listed)?;
        let releases = Releases::read(ReleaseFiles {
            manifests: &files.manifests,
            keys: files.release_keys.as_deref(),
            references: &files.references,
            pinned: policy.rules.listed_images(),
            collateral_memory: files.collateral_memory.as_deref(),
        })?;
        let vouched = releases.at(JudgeTime::Now(clock::now()))?;
        let simulated_root =
            files.simulated_root.as_deref().map(sealtune_verify::root_certificate).transpose()?;
        let own = |path: &Option<PathBuf>, limit: usize| {
            let read = |path: &PathBuf| Ok((path.clone(), files::read(path, limit as u64)?));
            path.as_ref().map(read).transpose().map_err(|error: ClientError| CliError::from(error))
        };
        let collateral = own(&files.collateral, MAX_COLLATERAL_BYTES)?.map(|(path, bytes)| {
            Collateral::parse(&bytes)
                .map_err(|error| named(&path, error.code(), error.fix(), &error))
        });
        let snp = own(&files.snp_collateral, MAX_SNP_COLLATERAL_BYTES)?.map(|(path, bytes)| {
            SnpCollateral::parse(&bytes)
                .map_err(|error| named(&path, error.code(), error.fix(), &error))
        });
        let gpu = own(&files.gpu_collateral, MAX_NVIDIA_COLLATERAL_BYTES)?.map(|(path, bytes)| {
            NvidiaCollateral::parse(&bytes)
                .map_err(|error| named(&path, error.code(), error.fix(), &error))
        });
        Ok(Self {
            policy,
            vouched,
            anchors: Anchors { simulated_root, ..Anchors::default() },
            own: Documents {
                intel: collateral.transpose()?,
                amd: snp.transpose()?,
                gpu: gpu.transpose()?,
            },
            services: files.services.clone(),
        })
    }

    fn at_hand<'a>(&'a self, fresh: &'a Fresh) -> AtHand<'a> {
        self.own.at_hand().or(fresh.documents.at_hand())
    }

    /// The customer's own files come first, then what was fetched, then what the sender brought.
    pub(crate) fn context<'a>(&'a self, fresh: &'a Fresh, now: u64) -> Context<'a> {
        let AtHand { intel, amd, gpu } = self.at_hand(fresh);
        Context {
            policy: &self.policy,
            references: &self.vouched.references,
            anchors: &self.anchors,
            collateral: intel,
            snp_collateral: amd,
            gpu_collateral: gpu,
            time: JudgeTime::Now(now),
        }
    }
}

impl Trust {
    /// Adds to a verdict who vouched for the releases that it found, and which of the customer's own images was revoked.
    pub(crate) fn vouch(&self, parts: &[Part<'_>], images: &[Hex32], verdict: &mut Verdict) {
        let mut findings = self.vouched.findings(parts, verdict);
        for image in images {
            if let Some(reason) = self.vouched.revocation(image) {
                findings.refuse("image", image.to_string(), release::Code::Revoked, reason);
            }
        }
        verdict.add(findings);
    }

    /// Holds what the verdict rests on against the memory at `path`, and keeps what is newer.
    pub(crate) fn remember(
        &self,
        path: &Path,
        parts: &[Part<'_>],
        fresh: &Fresh,
        now: u64,
        verdict: &mut Verdict,
    ) -> Result<(), CliError> {
        let at_hand = self.at_hand(fresh);
        Ok(sealtune_verify::remember(Some(path), parts, at_hand, &self.anchors, now, verdict)?)
    }
}

fn named(
    path: &Path,
    code: &str,
    fix: &str,
    error: &(dyn std::error::Error + 'static),
) -> CliError {
    let mut shown = CliError::new(Exit::Usage, code, fix, error);
    shown.message = format!("{} ({})", shown.message, path.display());
    shown
}

/// Evidence that was judged.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) appraisal: Appraisal,
}

impl Judged {
    pub(crate) fn claims(&self) -> Result<&Claims, ClientError> {
        let missing = || ClientError::EvidenceUnreadable("it has no readable claims".into());
        self.appraisal.claims.as_ref().ok_or_else(missing)
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.appraisal.verdict.is_accepted()
    }

    pub(crate) fn codes(&self) -> String {
        refusing_codes(&self.appraisal.verdict)
    }
}

/// What a reader must know of a verdict that is yes, and everything of one that is no.
pub(crate) fn summary(verdict: &sealtune_evidence::Verdict) -> String {
    let text = verdict.render();
    let lines = text.lines().filter(|line| !verdict.is_accepted() || !line.starts_with("  ok "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The codes that made the verdict a no.
pub(crate) fn refusing_codes(verdict: &sealtune_evidence::Verdict) -> String {
    let refusing = verdict.claims.iter().filter(|finding| {
        finding.required && finding.status != sealtune_evidence::Status::Affirming
    });
    let mut codes: Vec<&str> = refusing.filter_map(|finding| finding.code).collect();
    codes.dedup();
    if codes.is_empty() { "nothing in it could be affirmed".into() } else { codes.join(", ") }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<EvidenceBundle, ClientError> {
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err(ClientError::EvidenceUnreadable("it is longer than 4 MiB".into()));
    }
    EvidenceBundle::parse(bytes).map_err(|error| ClientError::EvidenceUnreadable(error.to_string()))
}

/// What an offer must be for: this job, this attempt, this nonce, with the owner's image and no other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) nonce: Hex<32>,
    pub(crate) asked_at: u64,
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    pub(crate) image: Hex<32>,
}

/// `fresh` is collateral that was fetched for this offer.
pub(crate) fn judge_offer(
    trust: &Trust,
    bundle: &EvidenceBundle,
    fresh: &Fresh,
    question: &Question,
    now: u64,
) -> Judged {
    let mut expectation = Expectation::new(Purpose::Offer, Some(question.nonce.0.into()));
    expectation.asked_at = Some(question.asked_at);
    expectation.layer_roots = vec![question.image.0.into()];
    // An offer need not name a job (the release binds the job to the offer), but one that does must name ours.
    if Claims::parse(&bundle.claims.0).is_ok_and(|claims| claims.job.is_some()) {
        expectation.job = Some((*question.job.as_bytes()).into());
        expectation.attempt = Some(question.attempt);
    }
    judge_one(trust, bundle, &expectation, fresh, now)
}

/// What anybody asked a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Challenged {
    pub(crate) purpose: Purpose,
    pub(crate) nonce: Hex<32>,
    pub(crate) asked_at: u64,
}

pub(crate) fn judge_answer(
    trust: &Trust,
    bundle: &EvidenceBundle,
    fresh: &Fresh,
    question: &Challenged,
    layers: &[Hex<32>],
    now: u64,
) -> Judged {
    let mut expectation = Expectation::new(question.purpose, Some(question.nonce.0.into()));
    expectation.asked_at = Some(question.asked_at);
    expectation.layer_roots = layers.iter().map(|root| root.0.into()).collect();
    judge_one(trust, bundle, &expectation, fresh, now)
}

fn judge_one(
    trust: &Trust,
    bundle: &EvidenceBundle,
    expectation: &Expectation,
    fresh: &Fresh,
    now: u64,
) -> Judged {
    let mut appraisal = appraise(bundle, expectation, &trust.context(fresh, now));
    let parts = [Part { name: "", bundle }];
    trust.vouch(&parts, &expectation.layer_roots, &mut appraisal.verdict);
    Judged { appraisal }
}

/// A VM that does not hold the owner's image cannot run his job; refused here rather than by the agent.
pub(crate) fn has_image(judged: &Judged, image: Hex<32>) -> bool {
    judged
        .appraisal
        .launch
        .as_ref()
        .is_some_and(|launch| launch.layers.iter().any(|layer| layer.root.0 == image.0))
}

#[cfg(test)]
mod tests;
