//! Collateral from services, through whatever connection the caller brings.

use sealtune_evidence::{
    EvidenceBundle, Tee,
    anchor::Anchors,
    collateral::{
        Answer, Ask, GpuInquiry, Inquiry, IntelInquiry, Next, Services, SnpInquiry, Update,
    },
    policy::GpuRule,
};

use crate::{failure::Failure, judge::Own};

/// Why nothing was got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(pub String);

/// One HTTP request. An answer is one with status 200 and of bounded size; redirections are not followed.
pub trait Http {
    fn ask(&self, ask: &Ask) -> Result<Answer, HttpError>;
}

/// What the user said about asking.
pub(crate) struct Online<'a> {
    pub(crate) http: &'a dyn Http,
    pub(crate) services: Services,
    pub(crate) update: Update,
}

impl Online<'_> {
    /// Everything that these bundles of one boot need and `own` lacks, as new as the services have it. GPUs are asked about
    /// if the policy wants them judged.
    pub(crate) fn fetch(
        &self,
        bundles: &[&EvidenceBundle],
        own: &Own,
        anchors: &Anchors,
        gpu: GpuRule,
    ) -> Result<Own, Failure> {
        let mut fetched = Own::default();
        let Some(first) = bundles.first() else { return Ok(fetched) };
        let quote = &first.quote.0;
        match first.tee {
            Tee::Tdx | Tee::Dstack if own.intel.is_none() => {
                let inquiry = IntelInquiry::new(&self.services.intel, self.update, quote);
                fetched.intel = Some(self.all(inquiry.map_err(Failure::Fetch)?)?);
            }
            Tee::Snp if own.amd.is_none() => {
                let sent = bundles.iter().find_map(|bundle| bundle.snp_collateral.as_ref());
                let inquiry = SnpInquiry::new(&self.services.amd, quote, sent, &anchors.snp);
                fetched.amd = Some(self.all(inquiry.map_err(Failure::Fetch)?)?);
            }
            Tee::Tdx | Tee::Dstack | Tee::Snp => {}
        }
        if gpu == GpuRule::Verified && own.gpu.is_none() {
            let Services { rim, ocsp, .. } = &self.services;
            let inquiry = GpuInquiry::of_bundles(rim, ocsp, bundles, &anchors.nvidia);
            fetched.gpu = inquiry.map(|inquiry| self.all(inquiry)).transpose()?;
        }
        Ok(fetched)
    }

    fn all<I: Inquiry>(&self, mut inquiry: I) -> Result<I::Document, Failure> {
        let mut answer = None;
        loop {
            match inquiry.go_on(answer).map_err(Failure::Fetch)? {
                Next::Done(document) => return Ok(document),
                Next::Ask(ask) => {
                    let failed = |error: HttpError| Failure::Unreachable {
                        url: ask.url.clone(),
                        reason: error.to_string(),
                    };
                    answer = Some(self.http.ask(&ask).map_err(failed)?);
                }
            }
        }
    }
}
