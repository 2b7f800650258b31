//! What collateral says about its own age, as far as it is to be believed: taken only from that with which evidence
//! verified under a root of real hardware.

use super::{Code, Collateral, CollateralError, CollateralFacts};
use crate::{
    anchor::Anchors,
    bundle::{EvidenceBundle, Tee},
    snp::{Crl, CrlNumber, Product, Report, Roots, SnpAnchor, SnpCollateral, verify_chain},
    verdict::{Findings, Verdict},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facts {
    Intel(CollateralFacts),
    Amd(AmdFacts),
}

/// AMD's revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmdFacts {
    /// Whose root signed it.
    pub product: Product,
    pub crl: CrlNumber,
}

/// What the verifier has himself; of the rest, what the evidence brings counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brought<'a> {
    pub intel: Option<&'a Collateral>,
    pub amd: Option<&'a SnpCollateral>,
}

/// What a verdict leaves to hold against the memory, or to say where there is nothing.
#[derive(Debug)]
pub enum Lesson<'a> {
    /// By what the claims of each part are prefixed with, for [`super::CollateralMemory::hold`].
    Facts(Vec<(&'a str, Result<Facts, CollateralError>)>),
    Nothing(Findings),
}

impl<'a> Lesson<'a> {
    /// Of parts that were judged together. Simulated platforms leave no trace; but a yes about a real machine rests on
    /// collateral that has numbers, and one that cannot be held against the memory is none.
    pub fn of(
        parts: impl IntoIterator<Item = (&'a str, &'a EvidenceBundle)>,
        brought: Brought<'_>,
        anchors: &Anchors,
        now: u64,
        verdict: &Verdict,
    ) -> Self {
        let facts: Vec<_> = parts
            .into_iter()
            .filter_map(|(name, bundle)| {
                Some((name, Facts::of_hardware(bundle, brought, anchors, now)?))
            })
            .collect();
        if !facts.is_empty() {
            return Self::Facts(facts);
        }
        let mut findings = Findings::default();
        if verdict.is_accepted() && !verdict.simulated {
            findings.unjudged("collateral-memory", Code::Facts, "it has none");
        }
        Self::Nothing(findings)
    }
}

impl Facts {
    /// Of the collateral that a bundle is judged with; `None` for simulated platforms and for what does not verify.
    pub fn of_hardware(
        bundle: &EvidenceBundle,
        brought: Brought<'_>,
        anchors: &Anchors,
        now: u64,
    ) -> Option<Result<Self, CollateralError>> {
        let quote = &bundle.quote.0;
        match bundle.tee {
            Tee::Tdx | Tee::Dstack => {
                let collateral = brought.intel.or(bundle.collateral.as_ref())?;
                let facts = CollateralFacts::of_hardware(quote, collateral, anchors, now)?;
                Some(facts.map(Self::Intel))
            }
            Tee::Snp => {
                let collateral = brought.amd.or(bundle.snp_collateral.as_ref())?;
                AmdFacts::of_hardware(quote, collateral, &anchors.snp, now)
                    .map(|facts| Ok(Self::Amd(facts)))
            }
        }
    }
}

impl AmdFacts {
    /// The list's number, if report, chain and list verify at `now` under a root of AMD's.
    pub fn of_hardware(
        report: &[u8],
        collateral: &SnpCollateral,
        roots: &Roots,
        now: u64,
    ) -> Option<Self> {
        match Self::verified(report, collateral, roots, now)? {
            (SnpAnchor::Amd(product), crl) => Some(Self { product, crl }),
            (SnpAnchor::Simulated(..), _) => None,
        }
    }

    /// Under any root that is trusted.
    pub(crate) fn verified(
        report: &[u8],
        collateral: &SnpCollateral,
        roots: &Roots,
        now: u64,
    ) -> Option<(SnpAnchor, CrlNumber)> {
        Report::parse(report).ok()?;
        collateral.check_bounds().ok()?;
        let chain = verify_chain(collateral, roots, now).ok()?;
        chain.vek().verify_report(report).ok()?;
        let list = Crl::read(&collateral.crl.as_ref()?.0).ok()?;
        let list = list.verify(&chain, now).ok()?;
        Some((chain.anchor(), list.number()))
    }
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Intel(facts) => facts.fmt(f),
            Self::Amd(facts) => write!(f, "{} revocation list {}", facts.product, facts.crl),
        }
    }
}
