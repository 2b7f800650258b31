//! Before a customer believes evidence, he asks Intel, AMD and NVIDIA himself how the provider's machine stands, and
//! remembers how new the answers were: a provider could bring collateral that is valid and from before the hole that he
//! uses.
//!
//! Only for machines that are real: what does not verify, or leads to a simulated root, is asked about nowhere and leaves
//! no trace. Where a service cannot be reached the provider's collateral serves; what it says about Intel's TCB must in
//! an offer be younger than 24 hours, AMD's list need only be valid; GPUs are then judged by what the policy demands of RIM files and OCSP responses.

use sealtune_evidence::{
    EvidenceBundle,
    collateral::{Asking, CollateralError, Document, Documents, MakerInquiry, Update},
};

use super::{Progress, inquiry, trust::Trust};

/// What was fetched for some evidence; the rest is the customer's own or the sender's.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    pub(crate) documents: Documents,
    /// Whom nobody reached, and why.
    pub(crate) failed: Vec<String>,
}

impl Fresh {
    /// Newer collateral than the sender's, where there is something to ask. The bundles are of one boot.
    pub(crate) async fn newest(trust: &Trust, bundles: &[&EvidenceBundle], now: u64) -> Self {
        let mut fresh = Self::default();
        let Some(services) = &trust.services else { return fresh };
        let (gpu, anchors) = (trust.policy.rules.gpu, &trust.anchors);
        let asking = Asking { services, update: Update::Early, gpu, anchors };
        for inquiry in asking.about_real(bundles, trust.own.at_hand(), now) {
            match fetched(inquiry).await {
                Ok(document) => fresh.documents.put(document),
                Err(error) => fresh.failed.push(error.to_string()),
            }
        }
        fresh
    }

    /// Says with whose collateral the verdict will be.
    pub(crate) fn note(&self, progress: &Progress) {
        for reason in &self.failed {
            progress.note(format!("collateral: {reason}; judging with the provider's"));
        }
    }
}

async fn fetched(
    inquiry: Result<MakerInquiry<'_>, CollateralError>,
) -> Result<Document, inquiry::AskError> {
    inquiry::all(inquiry?).await
}

#[cfg(test)]
mod tests;
