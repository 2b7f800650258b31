//! Collateral from a service, through whatever connection the caller brings.

use sealtune_evidence::{
    Collateral,
    collateral::{Answer, Answers, IntelUrls, QuoteSubject, ServiceBase, Update},
};

use crate::failure::Failure;

/// Why nothing was got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GetError(pub String);

/// One HTTP GET. An answer is one with status 200 and of bounded size; redirections are not followed.
pub trait Get {
    fn get(&self, url: &str) -> Result<Answer, GetError>;
}

/// Everything that a TDX quote needs to be verified, as new as the service has it.
pub(crate) fn collateral(
    http: &dyn Get,
    base: &ServiceBase,
    update: Update,
    quote: &[u8],
) -> Result<Collateral, Failure> {
    let subject = QuoteSubject::of(quote).map_err(Failure::Fetch)?;
    let urls = IntelUrls::new(base, &subject, update);
    let get = |url: &String| {
        http.get(url)
            .map_err(|error| Failure::Unreachable { url: url.clone(), reason: error.to_string() })
    };
    let answers = Answers {
        pck_crl: get(&urls.pck_crl)?,
        tcb_info: get(&urls.tcb_info)?,
        qe_identity: get(&urls.qe_identity)?,
        root_crl: get(&urls.root_crl)?,
        root_crl_form: urls.root_crl_form,
    };
    answers.into_collateral().map_err(Failure::Fetch)
}
