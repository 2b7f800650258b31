//! What the makers are asked about evidence, for everybody who judges: which services, in which order, given what is at hand.
//! The requests are made by whoever has a connection; what could not be had is for him to decide about.

use super::{
    Answer, Brought, Collateral, CollateralError, GpuInquiry, Inquiry, IntelInquiry, Next,
    Services, SnpInquiry, Update,
};
use crate::{
    anchor::{AnchorError, Anchors, verify_quote},
    bundle::{EvidenceBundle, Tee},
    nvidia::NvidiaCollateral,
    policy::GpuRule,
    snp::{Roots, SnpCollateral},
};

/// Collateral of the three makers, as far as somebody has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    pub intel: Option<Collateral>,
    pub amd: Option<SnpCollateral>,
    pub gpu: Option<NvidiaCollateral>,
}

/// The same, to look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtHand<'a> {
    pub intel: Option<&'a Collateral>,
    pub amd: Option<&'a SnpCollateral>,
    pub gpu: Option<&'a NvidiaCollateral>,
}

/// What one maker answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Intel(Box<Collateral>),
    Amd(Box<SnpCollateral>),
    Gpu(Box<NvidiaCollateral>),
}

/// The inquiry at one maker.
#[derive(Debug)]
pub enum MakerInquiry<'a> {
    Intel(IntelInquiry),
    Amd(SnpInquiry),
    Gpu(GpuInquiry<'a>),
}

/// Who asks: whom, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub services: &'a Services,
    pub update: Update,
    /// GPUs are asked about where a policy wants them judged.
    pub gpu: GpuRule,
    pub anchors: &'a Anchors,
}

impl Documents {
    pub fn at_hand(&self) -> AtHand<'_> {
        let Self { intel, amd, gpu } = self;
        AtHand { intel: intel.as_ref(), amd: amd.as_ref(), gpu: gpu.as_ref() }
    }

    pub fn put(&mut self, document: Document) {
        match document {
            Document::Intel(document) => self.intel = Some(*document),
            Document::Amd(document) => self.amd = Some(*document),
            Document::Gpu(document) => self.gpu = Some(*document),
        }
    }
}

impl<'a> AtHand<'a> {
    /// Document by document the first who has it.
    pub fn or(self, other: Self) -> Self {
        Self {
            intel: self.intel.or(other.intel),
            amd: self.amd.or(other.amd),
            gpu: self.gpu.or(other.gpu),
        }
    }

    /// What is remembered of it.
    pub fn brought(self) -> Brought<'a> {
        Brought { intel: self.intel, amd: self.amd }
    }
}

impl<'a> Asking<'a> {
    /// One inquiry for each maker whose document these bundles need and `own` lacks. They are of one boot, the newest first:
    /// what is asked for follows from it.
    pub fn about(
        &self,
        bundles: &[&'a EvidenceBundle],
        own: AtHand<'_>,
    ) -> Vec<Result<MakerInquiry<'a>, CollateralError>> {
        let Services { intel, amd, rim, ocsp } = self.services;
        let mut inquiries = Vec::new();
        let Some(first) = bundles.first() else { return inquiries };
        let quote = &first.quote.0;
        match first.tee {
            Tee::Tdx | Tee::Dstack if own.intel.is_none() => {
                let inquiry = IntelInquiry::new(intel, self.update, quote);
                inquiries.push(inquiry.map(MakerInquiry::Intel));
            }
            Tee::Snp if own.amd.is_none() => {
                let sent = bundles.iter().find_map(|bundle| bundle.snp_collateral.as_ref());
                let inquiry = SnpInquiry::new(amd, quote, sent, &self.anchors.snp);
                inquiries.push(inquiry.map(MakerInquiry::Amd));
            }
            Tee::Tdx | Tee::Dstack | Tee::Snp => {}
        }
        if self.gpu == GpuRule::Verified && own.gpu.is_none() {
            let inquiry = GpuInquiry::of_bundles(rim, ocsp, bundles, &self.anchors.nvidia);
            inquiries.extend(inquiry.map(|inquiry| Ok(MakerInquiry::Gpu(inquiry))));
        }
        inquiries
    }

    /// The same for who has not been told to ask: no maker hears of machines that cannot be his.
    pub fn about_real(
        &self,
        bundles: &[&'a EvidenceBundle],
        own: AtHand<'_>,
        now: u64,
    ) -> Vec<Result<MakerInquiry<'a>, CollateralError>> {
        match bundles.first() {
            Some(first) if may_be_real(first, own, self.anchors, now) => self.about(bundles, own),
            _ => vec![],
        }
    }
}

/// Whether evidence is of a real machine, as far as the collateral says that is there; without any, nobody can know yet.
fn may_be_real(bundle: &EvidenceBundle, own: AtHand<'_>, anchors: &Anchors, now: u64) -> bool {
    match bundle.tee {
        Tee::Tdx | Tee::Dstack => {
            let known = own.intel.or(bundle.collateral.as_ref());
            let Some(collateral) = known else { return true };
            match verify_quote(&bundle.quote.0, collateral, anchors, now) {
                Ok(verified) => !verified.anchor.is_simulated(),
                // Old evidence of what is Intel's: new collateral may hold where the old one has ended.
                Err(AnchorError::Time(_)) => anchors.simulated_root.is_none(),
                Err(_) => false,
            }
        }
        Tee::Snp => {
            let sent = bundle.snp_collateral.as_ref();
            sent.is_none_or(|sent| sent.product(&Roots::amd()).is_some())
        }
    }
}

impl Inquiry for MakerInquiry<'_> {
    type Document = Document;

    fn go_on(&mut self, answer: Option<Answer>) -> Result<Next<Document>, CollateralError> {
        match self {
            Self::Intel(inquiry) => step(inquiry, answer, |it| Document::Intel(Box::new(it))),
            Self::Amd(inquiry) => step(inquiry, answer, |it| Document::Amd(Box::new(it))),
            Self::Gpu(inquiry) => step(inquiry, answer, |it| Document::Gpu(Box::new(it))),
        }
    }
}

fn step<I: Inquiry>(
    inquiry: &mut I,
    answer: Option<Answer>,
    document: fn(I::Document) -> Document,
) -> Result<Next<Document>, CollateralError> {
    Ok(match inquiry.go_on(answer)? {
        Next::Ask(ask) => Next::Ask(ask),
        Next::Done(done) => Next::Done(document(done)),
    })
}
