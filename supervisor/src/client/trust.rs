//! What the customer holds evidence against, and the judging of it before anything is released.

use std::path::{Path, PathBuf};

use sealtune_evidence::{
    Anchors, Appraisal, Claims, Collateral, Context, EvidenceBundle, Expectation, JudgeTime,
    Policy, Purpose, ReferenceValues, appraise,
    bundle::MAX_BUNDLE_BYTES,
    collateral::{MAX_COLLATERAL_BYTES, ServiceBase},
    policy::MAX_POLICY_BYTES,
    reference::MAX_REFERENCE_BYTES,
};
use sealtune_job::{Hex, JobId};

use super::{CliError, ClientError, Exit, clock, files};

const MAX_ROOT: u64 = 64 << 10;

/// Where the customer's own files are.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustFiles {
    pub(crate) policy: Option<PathBuf>,
    pub(crate) references: Vec<PathBuf>,
    pub(crate) simulated_root: Option<PathBuf>,
    pub(crate) collateral: Option<PathBuf>,
    /// Whom to ask for collateral instead of Intel.
    pub(crate) collateral_service: Option<ServiceBase>,
}

#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) policy: Policy,
    pub(crate) references: Vec<ReferenceValues>,
    pub(crate) anchors: Anchors,
    pub(crate) collateral: Option<Collateral>,
    /// Where newer collateral is to be had.
    pub(crate) service: ServiceBase,
}

impl Trust {
    pub(crate) fn load(files: &TrustFiles) -> Result<Self, CliError> {
        let policy = match &files.policy {
            None => Policy::strict(),
            Some(path) => Policy::parse(&files::read(path, MAX_POLICY_BYTES as u64)?)
                .map_err(|error| named(path, error.code(), error.fix(), &error))?,
        };
        let mut references = Vec::new();
        for path in &files.references {
            let bytes = files::read(path, MAX_REFERENCE_BYTES as u64)?;
            let values = ReferenceValues::parse(&bytes)
                .map_err(|error| named(path, error.code(), error.fix(), &error))?;
            references.push(values);
        }
        let simulated_root = match &files.simulated_root {
            None => None,
            Some(path) => Some(certificate(path)?),
        };
        let collateral = match &files.collateral {
            None => None,
            Some(path) => {
                let bytes = files::read(path, MAX_COLLATERAL_BYTES as u64)?;
                let collateral = Collateral::parse(&bytes)
                    .map_err(|error| named(path, error.code(), error.fix(), &error))?;
                Some(collateral)
            }
        };
        let service = files.collateral_service.clone().unwrap_or_else(ServiceBase::intel);
        let anchors = Anchors { simulated_root, ..Anchors::default() };
        Ok(Self { policy, references, anchors, collateral, service })
    }

    pub(crate) fn context(&self, now: u64) -> Context<'_> {
        Context {
            policy: &self.policy,
            references: &self.references,
            anchors: &self.anchors,
            collateral: self.collateral.as_ref(),
            snp_collateral: None,
            gpu_collateral: None,
            time: JudgeTime::Now(now),
        }
    }
}

/// DER, or the first certificate of a PEM file.
fn certificate(path: &Path) -> Result<Vec<u8>, CliError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = files::read(path, MAX_ROOT)?;
    let Some(text) = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| text.contains("-----BEGIN CERTIFICATE-----"))
    else {
        return Ok(bytes);
    };
    let body: String = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "-----BEGIN CERTIFICATE-----")
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    STANDARD.decode(body).map_err(|_| {
        let reason = "its certificate is not PEM".to_owned();
        ClientError::BadFile { path: path.to_owned(), reason }.into()
    })
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
    fresh: Option<&Collateral>,
    question: &Question,
) -> Judged {
    let mut expectation = Expectation::new(Purpose::Offer, Some(question.nonce.0.into()));
    expectation.asked_at = Some(question.asked_at);
    expectation.layer_roots = vec![question.image.0.into()];
    // An offer need not name a job (the release binds the job to the offer), but one that does must name ours.
    if Claims::parse(&bundle.claims.0).is_ok_and(|claims| claims.job.is_some()) {
        expectation.job = Some((*question.job.as_bytes()).into());
        expectation.attempt = Some(question.attempt);
    }
    let mut context = trust.context(clock::now());
    context.collateral = fresh.or(context.collateral);
    Judged { appraisal: appraise(bundle, &expectation, &context) }
}

pub(crate) fn judge_identity(
    trust: &Trust,
    bytes: &[u8],
    nonce: Hex<32>,
    layers: &[Hex<32>],
) -> Result<Judged, ClientError> {
    let bundle = parse(bytes)?;
    let mut expectation = Expectation::new(Purpose::Identity, Some(nonce.0.into()));
    expectation.layer_roots = layers.iter().map(|root| root.0.into()).collect();
    let appraisal = appraise(&bundle, &expectation, &trust.context(clock::now()));
    Ok(Judged { appraisal })
}

/// A VM that does not hold the owner's image cannot run his job; refused here rather than by the agent.
pub(crate) fn has_image(judged: &Judged, image: Hex<32>) -> bool {
    judged
        .appraisal
        .launch
        .as_ref()
        .is_some_and(|launch| launch.layers.iter().any(|layer| layer.root.0 == image.0))
}
