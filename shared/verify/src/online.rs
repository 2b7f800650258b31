//! Collateral from services, through whatever connection the caller brings.

use sealtune_evidence::{
    EvidenceBundle,
    anchor::Anchors,
    collateral::{Answer, Ask, Asking, AtHand, Documents, Inquiry, Next, Services, Update},
    policy::GpuRule,
};

use crate::failure::Failure;

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
    /// Everything that these bundles of one boot need and `own` lacks, as new as the services have it.
    pub(crate) fn fetch(
        &self,
        bundles: &[&EvidenceBundle],
        own: AtHand<'_>,
        anchors: &Anchors,
        gpu: GpuRule,
    ) -> Result<Documents, Failure> {
        let asking = Asking { services: &self.services, update: self.update, gpu, anchors };
        let mut fetched = Documents::default();
        for inquiry in asking.about(bundles, own) {
            fetched.put(self.all(inquiry.map_err(Failure::Fetch)?)?);
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
