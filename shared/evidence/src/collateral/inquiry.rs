//! What a service is asked, one request after the other, without a connection: whoever has one makes the requests and
//! hands in the answers. The verifier's program, the customer's and the daemon ask the same questions by this.

use super::{
    Answer, Answers, Collateral, CollateralError, IntelUrls, QuoteSubject, ServiceBase, Update,
    answers::MAX_BODY,
};

/// One HTTP request. Redirections are not followed, and only status 200 is an answer; 404 is one if `may_be_absent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub url: String,
    pub method: Method,
    /// Longer answers are refused before they are read.
    pub most: usize,
    /// Status 404 is then an answer with an empty body: the inquiry goes on without this part.
    pub may_be_absent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    Get,
    Post { content_type: &'static str, body: Vec<u8> },
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<D> {
    Ask(Ask),
    Done(D),
}

pub trait Inquiry {
    type Document;

    /// Takes the answer to the last request (none at first), and says what to ask next.
    fn go_on(&mut self, answer: Option<Answer>) -> Result<Next<Self::Document>, CollateralError>;
}

impl Ask {
    pub(super) fn get(url: String, most: usize) -> Self {
        Self { url, method: Method::Get, most, may_be_absent: false }
    }

    /// The service that is asked; plain ones are on this machine, and past any proxy.
    pub fn is_plain(&self) -> bool {
        self.url.starts_with("http://")
    }
}

/// Everything that a TDX quote needs, from Intel or a cache.
#[derive(Debug)]
pub struct IntelInquiry {
    urls: IntelUrls,
    answers: Vec<Answer>,
}

impl IntelInquiry {
    pub fn new(base: &ServiceBase, update: Update, quote: &[u8]) -> Result<Self, CollateralError> {
        let subject = QuoteSubject::of(quote)?;
        Ok(Self { urls: IntelUrls::new(base, &subject, update), answers: vec![] })
    }
}

impl Inquiry for IntelInquiry {
    type Document = Collateral;

    fn go_on(&mut self, answer: Option<Answer>) -> Result<Next<Collateral>, CollateralError> {
        self.answers.extend(answer);
        let IntelUrls { pck_crl, tcb_info, qe_identity, root_crl, root_crl_form } = &self.urls;
        let urls = [pck_crl, tcb_info, qe_identity, root_crl];
        if let Some(url) = urls.get(self.answers.len()) {
            // Caches write the root's list as hex.
            return Ok(Next::Ask(Ask::get((*url).clone(), 2 * MAX_BODY)));
        }
        let answers = <[Answer; 4]>::try_from(std::mem::take(&mut self.answers));
        let [pck_crl, tcb_info, qe_identity, root_crl] = answers.map_err(|_| {
            CollateralError::Answer { part: "collateral", reason: "unasked".to_owned() }
        })?;
        let answers =
            Answers { pck_crl, tcb_info, qe_identity, root_crl, root_crl_form: *root_crl_form };
        answers.into_collateral().map(Next::Done)
    }
}
