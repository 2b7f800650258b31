//! Before a customer believes evidence, he asks Intel, AMD and NVIDIA himself how the provider's machine stands, and
//! remembers how new the answers were: a provider could bring collateral that is valid and from before the hole that he
//! uses.
//!
//! Only for machines that are real: what does not verify, or leads to a simulated root, is asked about nowhere and leaves
//! no trace. Where a service cannot be reached the provider's collateral serves; what it says about Intel's TCB must in
//! an offer be younger than 24 hours, AMD's list need only be valid; GPUs are then judged by what the policy demands of RIM files and OCSP responses.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sealtune_evidence::{
    Collateral, EvidenceBundle, Tee, Verdict,
    anchor::{AnchorError, verify_quote},
    collateral::{
        Brought, Code, CollateralError, CollateralMemory, Facts, GpuInquiry, IntelInquiry,
        SnpInquiry, Update, memory::MAX_MEMORY_BYTES,
    },
    nvidia::NvidiaCollateral,
    policy::GpuRule,
    snp::SnpCollateral,
    verdict::Findings,
};

use super::{CliError, ClientError, Exit, Progress, files, inquiry, trust::Trust};

/// What was fetched for some evidence; the rest is the customer's own or the sender's.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    pub(crate) intel: Option<Collateral>,
    pub(crate) amd: Option<SnpCollateral>,
    pub(crate) gpu: Option<NvidiaCollateral>,
    /// Whom nobody reached, and why.
    pub(crate) failed: Vec<String>,
}

impl Fresh {
    /// Newer collateral than the sender's, where there is something to ask. The bundles are of one boot.
    pub(crate) async fn newest(trust: &Trust, bundles: &[&EvidenceBundle], now: u64) -> Self {
        let mut fresh = Self::default();
        let Some(first) = bundles.first().filter(|first| is_worth_asking(trust, first, now)) else {
            return fresh;
        };
        let Some(services) = &trust.services else { return fresh };
        let quote = &first.quote.0;
        match first.tee {
            Tee::Tdx | Tee::Dstack if trust.collateral.is_none() => {
                let inquiry = IntelInquiry::new(&services.intel, Update::Early, quote);
                fresh.intel = fresh.take(fetched(inquiry).await);
            }
            Tee::Snp if trust.snp_collateral.is_none() => {
                let sent = bundles.iter().find_map(|bundle| bundle.snp_collateral.as_ref());
                let inquiry = SnpInquiry::new(&services.amd, quote, sent, &trust.anchors.snp);
                fresh.amd = fresh.take(fetched(inquiry).await);
            }
            Tee::Tdx | Tee::Dstack | Tee::Snp => {}
        }
        if trust.policy.rules.gpu == GpuRule::Verified && trust.gpu_collateral.is_none() {
            let roots = &trust.anchors.nvidia;
            let inquiry = GpuInquiry::of_bundles(&services.rim, &services.ocsp, bundles, roots);
            if let Some(inquiry) = inquiry {
                fresh.gpu = fresh.take(fetched(Ok(inquiry)).await);
            }
        }
        fresh
    }

    fn take<D>(&mut self, answer: Result<D, inquiry::AskError>) -> Option<D> {
        answer.map_err(|error| self.failed.push(error.to_string())).ok()
    }

    /// Says with whose collateral the verdict will be.
    pub(crate) fn note(&self, progress: &Progress) {
        for reason in &self.failed {
            progress.note(format!("collateral: {reason}; judging with the provider's"));
        }
    }
}

async fn fetched<I: sealtune_evidence::collateral::Inquiry>(
    inquiry: Result<I, CollateralError>,
) -> Result<I::Document, inquiry::AskError> {
    inquiry::all(inquiry?).await
}

/// Whether the evidence is of a real machine, as far as the sender's own collateral says; without any, nobody can know yet.
fn is_worth_asking(trust: &Trust, bundle: &EvidenceBundle, now: u64) -> bool {
    match bundle.tee {
        Tee::Tdx | Tee::Dstack => {
            let known = trust.collateral.as_ref().or(bundle.collateral.as_ref());
            let Some(collateral) = known else { return true };
            match verify_quote(&bundle.quote.0, collateral, &trust.anchors, now) {
                Ok(verified) => !verified.anchor.is_simulated(),
                // Old evidence of what is Intel's: new collateral may hold where the old one has ended.
                Err(AnchorError::Time(_)) => trust.anchors.simulated_root.is_none(),
                Err(_) => false,
            }
        }
        Tee::Snp => bundle
            .snp_collateral
            .as_ref()
            .is_none_or(|sent| sent.product(&sealtune_evidence::snp::Roots::amd()).is_some()),
    }
}

/// Holds what a verdict rests on against the memory at `path`, adds what comes of it to the verdict, and keeps what is newer.
pub(crate) fn remember(
    path: &Path,
    trust: &Trust,
    parts: &[(&str, &EvidenceBundle)],
    fresh: &Fresh,
    now: u64,
    verdict: &mut Verdict,
) -> Result<(), CliError> {
    let brought = Brought {
        intel: fresh.intel.as_ref().or(trust.collateral.as_ref()),
        amd: fresh.amd.as_ref().or(trust.snp_collateral.as_ref()),
    };
    let facts: Vec<_> = parts
        .iter()
        .filter_map(|(name, bundle)| {
            Some((*name, Facts::of_hardware(bundle, brought, &trust.anchors, now)?))
        })
        .collect();
    if facts.is_empty() {
        refuse_what_taught_nothing(verdict);
        return Ok(());
    }
    files::make_parent(path)?;
    // The same as `sealtune-verify` takes for a memory of this name.
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let _lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| ClientError::Write { path: lock_path, source })?;
    let shown =
        |error: CollateralError| CliError::new(Exit::Usage, error.code(), error.fix(), &error);
    let known = if path.exists() {
        let bytes = files::read(path, MAX_MEMORY_BYTES as u64)?;
        CollateralMemory::parse(&bytes).map_err(shown)?
    } else {
        CollateralMemory::default()
    };
    let (findings, newest) = known.hold(facts);
    if newest != known {
        files::replace_private(path, &newest.to_bytes().map_err(shown)?)?;
    }
    verdict.add(findings);
    Ok(())
}

/// A yes about a real machine rests on collateral that has numbers; one that cannot be held against the memory is none.
fn refuse_what_taught_nothing(verdict: &mut Verdict) {
    if verdict.is_accepted() && !verdict.simulated {
        let mut findings = Findings::default();
        findings.unjudged("collateral-memory", Code::Facts, "it has none");
        verdict.add(findings);
    }
}

#[cfg(test)]
mod tests;
