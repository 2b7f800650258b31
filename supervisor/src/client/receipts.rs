//! The receipt of a job that was submitted from here: judged against the job's own record.

use std::path::Path;

use sealtune_content::ContentId;
use sealtune_evidence::{Claims, Verdict};
use sealtune_job::FailReason;
use sealtune_receipt::{
    PackageError, ReceiptOutcome, ReceiptPackage, Statement, package::MAX_PACKAGE_BYTES,
    statement::StreamEnd, verify_package,
};
use sealtune_seal::frames::FrameChain;
use sealtune_verify::Part;

use super::{
    CliError, ClientError, Exit, JobRecord, Progress, clock,
    collateral::Fresh,
    trust::{Trust, refusing_codes},
};

pub(crate) const MAX_RECEIPT: usize = MAX_PACKAGE_BYTES;

impl From<PackageError> for CliError {
    fn from(error: PackageError) -> Self {
        Self::new(Exit::No, error.code(), error.fix(), &error)
    }
}

#[derive(Debug)]
pub(crate) struct JudgedReceipt {
    pub(crate) verdict: Verdict,
    /// To be believed only if the verdict is yes.
    statement: Option<Statement>,
}

/// What an accepted receipt says about the end of its job.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Every id that the result object must have.
    Completed(Vec<ContentId>),
    Failed(FailReason),
}

/// With newer collateral than the sender's where there is any, which is held against the memory at `memory`.
pub(crate) async fn judge(
    trust: &Trust,
    record: &JobRecord,
    bytes: &[u8],
    memory: &Path,
    progress: &Progress,
) -> Result<JudgedReceipt, CliError> {
    let package = ReceiptPackage::parse(bytes)?;
    let request = sealtune_receipt::Request {
        nonce: Some(record.terms.nonce.0.into()),
        job: Some((*record.job().as_bytes()).into()),
        spec: Some(expected_specification(record, &package)?.into()),
        layer_roots: vec![record.terms.image.verity_root.0.into()],
        openings: vec![],
        result_sha256: None,
    };
    let evidence = &package.evidence;
    // The newest first: what is asked for follows from it.
    let mut parts = vec![
        Part { name: "receipt.", bundle: &evidence.receipt },
        Part { name: "start.", bundle: &evidence.start },
    ];
    parts.extend(evidence.offer.as_ref().map(|bundle| Part { name: "offer.", bundle }));
    let bundles: Vec<_> = parts.iter().map(|part| part.bundle).collect();
    let fresh = Fresh::newest(trust, &bundles, clock::now()).await;
    fresh.note(progress);
    // One time for verdict and memory: after all of it was issued.
    let now = clock::now();
    let mut judged = verify_package(&package, &request, &trust.context(&fresh, now));
    trust.vouch(&parts, &request.layer_roots, &mut judged.verdict);
    trust.remember(memory, &parts, &fresh, now, &mut judged.verdict)?;
    check_offer(record, &package, &request)?;
    Ok(JudgedReceipt { verdict: judged.verdict, statement: judged.statement })
}

/// The specification that the receipt names, if it is one that was released from here; else the newest of those, which
/// the receipt will then be found not to be about.
fn expected_specification(
    record: &JobRecord,
    package: &ReceiptPackage,
) -> Result<[u8; 32], CliError> {
    let released = record.all_specification_digests()?;
    let named = Claims::parse(&package.evidence.receipt.claims.0)
        .ok()
        .and_then(|claims| claims.spec)
        .map(|spec| spec.0);
    named.filter(|spec| released.contains(spec)).or(released.first().copied()).ok_or_else(|| {
        let reason = "it was not released from this computer".to_owned();
        ClientError::WrongJob { job: record.job().to_string(), reason }.into()
    })
}

/// The offer in the package is one that this owner accepted for this specification.
fn check_offer(
    record: &JobRecord,
    package: &ReceiptPackage,
    request: &sealtune_receipt::Request,
) -> Result<(), ClientError> {
    let Some(offer) = &package.evidence.offer else { return Ok(()) };
    let digest = offer.digest().0;
    let is_accepted_offer = record.releases.iter().any(|release| {
        release.offer.0 == digest
            && request.spec.is_some_and(|spec| spec.0 == release.specification.0)
    });
    if is_accepted_offer {
        return Ok(());
    }
    let codes = "its offer is not the one that the job was released to".to_owned();
    Err(ClientError::ReceiptRejected { job: record.job().to_string(), codes })
}

impl JudgedReceipt {
    /// The statement, if the verdict is yes.
    pub(crate) fn accepted(&self, record: &JobRecord) -> Result<&Statement, ClientError> {
        let rejected = || ClientError::ReceiptRejected {
            job: record.job().to_string(),
            codes: refusing_codes(&self.verdict),
        };
        self.statement.as_ref().filter(|_| self.verdict.is_accepted()).ok_or_else(rejected)
    }
}

pub(crate) fn outcome(statement: &Statement) -> Outcome {
    let result = match &statement.predicate.outcome {
        ReceiptOutcome::Failed { reason } => return Outcome::Failed(reason.clone()),
        ReceiptOutcome::Completed { result } => *result,
    };
    let length = result.length();
    let mut ids = vec![result];
    if let Some(subject) = statement.subject.first() {
        ids.push(ContentId::Sha256 { digest: subject.digest.sha256.0, length });
        ids.extend(subject.digest.zg_root.map(|root| ContentId::Zg { root: root.0, length }));
    }
    ids.sort_unstable();
    ids.dedup();
    Outcome::Completed(ids)
}

/// Where the receipt says that a stream of sealed frames ended.
pub(crate) fn chain_of(end: &StreamEnd) -> FrameChain {
    FrameChain { count: end.count, digest: end.last.0 }
}
