//! The whole of a sealed job in one document: terms and the keys that open and commit to its data.
//!
//! Canonical form: `{"commitment_key":hex,"data_key":hex,"terms":{…}}`. The keys make its digest unguessable.

use sealtune_seal::{
    Secret,
    canonical::{self, CanonicalError},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::{Hex, JobTerms, TermsError};

/// Bounds a specification before it is parsed.
pub const MAX_SPECIFICATION: usize = 512 << 10;

#[derive(Debug)]
pub struct JobSpecification {
    pub terms: JobTerms,
    /// Opens the sealed dataset.
    pub data_key: Secret<[u8; 32]>,
    /// Salts the receipt's commitments.
    pub commitment_key: Secret<[u8; 32]>,
}

#[derive(Debug, thiserror::Error)]
pub enum SpecificationError {
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("accept a sealed job without {0}")]
    Missing(&'static str),
}

impl SpecificationError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Canonical(_) => "ST-JOB-10",
            Self::Terms(error) => error.code(),
            Self::Missing(_) => "ST-JOB-11",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Canonical(error) => error.fix(),
            Self::Terms(error) => error.fix(),
            Self::Missing(_) => "a sealed job names the accepted offer and its sealed dataset",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    commitment_key: Hex<32>,
    data_key: Hex<32>,
    terms: JobTerms,
}

impl JobSpecification {
    /// The bytes that the owner signs.
    pub fn to_canonical(&self) -> Result<Secret<Vec<u8>>, SpecificationError> {
        let mut written = Written {
            commitment_key: Hex(*self.commitment_key.expose()),
            data_key: Hex(*self.data_key.expose()),
            terms: self.terms.clone(),
        };
        let bytes = canonical::to_vec(&written);
        written.commitment_key.0.zeroize();
        written.data_key.0.zeroize();
        Ok(Secret::new(bytes?))
    }

    /// Parses and checks; a sealed job must name its offer and its sealed dataset.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecificationError> {
        let written: Written = canonical::parse(bytes, MAX_SPECIFICATION)?;
        written.terms.validate()?;
        if written.terms.offer.is_none() {
            return Err(SpecificationError::Missing("an accepted offer"));
        }
        if written.terms.dataset.sealed.is_none() {
            return Err(SpecificationError::Missing("a sealed dataset"));
        }
        Ok(Self {
            terms: written.terms,
            data_key: Secret::new(written.data_key.0),
            commitment_key: Secret::new(written.commitment_key.0),
        })
    }
}

/// Fuzz entry: whatever parses has exactly one spelling.
pub fn fuzz_specification(data: &[u8]) {
    if let Ok(specification) = JobSpecification::parse(data) {
        let again = specification.to_canonical().map(|bytes| bytes.expose().clone());
        assert_eq!(again.ok().as_deref(), Some(data));
    }
}
