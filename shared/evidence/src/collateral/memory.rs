//! The highest numbers of collateral that were seen, so that nobody can take a verifier back to an older state of
//! knowledge within its validity of 30 days. Closed JSON, version 1, by root key: numbers of one root say nothing about
//! another's.

use std::collections::BTreeMap;

use sealtune_seal::canonical;
use serde::{Deserialize, Serialize};

use super::{AmdFacts, Code, Collateral, CollateralError, Facts, Fmspc, PckCa, QuoteSubject};
use crate::{
    anchor::{Anchors, VerifiedQuote, verify_quote},
    fixed_hex::{FixedHex, Hex48},
    snp::{CrlNumber, Product},
    verdict::Findings,
};

pub const MAX_MEMORY_BYTES: usize = 256 * 1024;
const MAX_ROOTS: usize = 16;
const MAX_PLATFORMS: usize = 2048;

/// Numbers out of collateral with which a quote verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollateralFacts {
    /// SHA-384 of the root's public key.
    pub root: Hex48,
    pub subject: QuoteSubject,
    /// `tcbEvaluationDataNumber` of the TCB info and of the quoting enclave's identity.
    pub tcb_evaluation: u32,
    pub qe_evaluation: u32,
    pub root_crl: u32,
    pub pck_crl: u32,
}

/// The highest numbers under one root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootMemory {
    pub root_crl: u32,
    /// Of TDX's quoting enclave.
    pub qe_evaluation: u32,
    /// By the authority that issues it.
    pub pck_crl: BTreeMap<PckCa, u32>,
    /// By FMSPC.
    pub tcb_evaluation: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralMemory {
    pub version: u32,
    /// By root key id.
    pub roots: BTreeMap<String, RootMemory>,
    /// The number of AMD's revocation list, by the product whose root signs it. Files from before it was remembered lack it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub amd: BTreeMap<Product, CrlNumber>,
}

/// A number that fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    TcbEvaluation,
    QeEvaluation,
    RootCrl,
    PckCrl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accept the collateral: number {found}, and {seen} was seen")]
pub struct RolledBack {
    pub number: Number,
    pub found: u32,
    pub seen: u32,
}

impl RolledBack {
    pub fn entry(&self) -> Code {
        match self.number {
            Number::TcbEvaluation => Code::EvaluationFell,
            Number::QeEvaluation => Code::QeEvaluationFell,
            Number::RootCrl => Code::RootCrlFell,
            Number::PckCrl => Code::PckCrlFell,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

/// AMD's list went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accept the collateral: revocation list {found}, and {seen} was seen")]
pub struct AmdRolledBack {
    pub found: CrlNumber,
    pub seen: CrlNumber,
}

impl AmdRolledBack {
    pub fn entry(&self) -> Code {
        Code::AmdCrlFell
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

/// The field of Intel's signed documents that counts their generations; the rest was judged when the quote was.
#[derive(Deserialize)]
struct Generation {
    #[serde(rename = "tcbEvaluationDataNumber")]
    number: u32,
}

impl CollateralFacts {
    /// The numbers, if the quote verifies at `now` and leads to hardware: simulated platforms leave no trace, and what did
    /// not verify is no knowledge.
    pub fn of_hardware(
        quote: &[u8],
        collateral: &Collateral,
        anchors: &Anchors,
        now: u64,
    ) -> Option<Result<Self, CollateralError>> {
        let verified = verify_quote(quote, collateral, anchors, now).ok()?;
        (!verified.anchor.is_simulated()).then(|| Self::of(quote, collateral, &verified))
    }

    /// `verified` must come from verifying `quote` with this `collateral`.
    pub fn of(
        quote: &[u8],
        collateral: &Collateral,
        verified: &VerifiedQuote,
    ) -> Result<Self, CollateralError> {
        let generation = |text: &str| {
            serde_json::from_str::<Generation>(text)
                .map(|generation| generation.number)
                .map_err(|_| CollateralError::Facts("a document has no evaluation number"))
        };
        let tcb_evaluation = generation(&collateral.tcb_info)?;
        let qe_evaluation = generation(&collateral.qe_identity)?;
        let claims = &verified.platform;
        // What `dcap-qvl` tells is the lower of the two, and the second one.
        if claims.tcb.eval_data_number != tcb_evaluation.min(qe_evaluation)
            || claims.qe.tcb_eval_data_number != qe_evaluation
        {
            return Err(CollateralError::Facts("the quote was verified with other collateral"));
        }
        let root = <[u8; 48]>::try_from(claims.platform.root_key_id.as_slice())
            .map(FixedHex)
            .map_err(|_| CollateralError::Facts("the root key id has another length"))?;
        Ok(Self {
            root,
            subject: QuoteSubject::of(quote)?,
            tcb_evaluation,
            qe_evaluation,
            root_crl: claims.platform.root_ca_crl_num,
            pck_crl: claims.platform.pck_crl_num,
        })
    }
}

impl std::fmt::Display for CollateralFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tcb_evaluation, qe_evaluation, root_crl, pck_crl, .. } = self;
        write!(
            f,
            "TCB info {tcb_evaluation}, QE identity {qe_evaluation}, CRLs {root_crl} and {pck_crl}"
        )
    }
}

impl Default for CollateralMemory {
    fn default() -> Self {
        Self { version: 1, roots: BTreeMap::new(), amd: BTreeMap::new() }
    }
}

impl CollateralMemory {
    pub fn parse(bytes: &[u8]) -> Result<Self, CollateralError> {
        if bytes.len() > MAX_MEMORY_BYTES {
            return Err(CollateralError::MemoryUnreadable("longer than 256 KiB".to_owned()));
        }
        let memory: Self = serde_json::from_slice(bytes)
            .map_err(|error| CollateralError::MemoryUnreadable(error.to_string()))?;
        memory.validate()?;
        Ok(memory)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, CollateralError> {
        self.validate()?;
        canonical::to_vec(self)
            .map_err(|error| CollateralError::MemoryUnreadable(error.to_string()))
    }

    /// The memory with these facts in it, unless one of their numbers is lower than what was seen.
    pub fn check_and_update(&self, facts: &CollateralFacts) -> Result<Self, RolledBack> {
        let mut memory = self.clone();
        let root = memory.roots.entry(facts.root.to_string()).or_default();
        let QuoteSubject { fmspc, ca } = facts.subject;
        let platform = root.tcb_evaluation.entry(fmspc.to_string()).or_default();
        raise(platform, facts.tcb_evaluation, Number::TcbEvaluation)?;
        raise(&mut root.qe_evaluation, facts.qe_evaluation, Number::QeEvaluation)?;
        raise(&mut root.root_crl, facts.root_crl, Number::RootCrl)?;
        raise(root.pck_crl.entry(ca).or_default(), facts.pck_crl, Number::PckCrl)?;
        Ok(memory)
    }

    /// The same for AMD's list.
    pub fn check_and_update_amd(&self, facts: &AmdFacts) -> Result<Self, AmdRolledBack> {
        let mut memory = self.clone();
        let seen = memory.amd.entry(facts.product).or_default();
        if facts.crl < *seen {
            return Err(AmdRolledBack { found: facts.crl, seen: *seen });
        }
        *seen = facts.crl;
        Ok(memory)
    }

    fn admit(&self, facts: &Facts) -> Result<Self, (Code, String)> {
        match facts {
            Facts::Intel(facts) => {
                self.check_and_update(facts).map_err(|fell| (fell.entry(), fell.to_string()))
            }
            Facts::Amd(facts) => {
                self.check_and_update_amd(facts).map_err(|fell| (fell.entry(), fell.to_string()))
            }
        }
    }

    /// What to add to a verdict about parts that are judged together, by what their claims are prefixed with; and the
    /// memory to keep. Parts of one job are of different days, so each is held against what was known before.
    pub fn hold(&self, parts: Vec<(&str, Result<Facts, CollateralError>)>) -> (Findings, Self) {
        let (mut findings, mut newest) = (Findings::default(), self.clone());
        for (name, facts) in parts {
            let claim = format!("{name}collateral-memory");
            let held = facts
                .map_err(|error| (error.entry(), error.to_string()))
                .and_then(|facts| self.admit(&facts).map(|_| facts));
            match held {
                Ok(facts) => {
                    // Lower than another part of the same job is no fall.
                    newest = newest.admit(&facts).unwrap_or(newest);
                    findings.affirm(
                        &claim,
                        facts.to_string(),
                        "your memory",
                        "not older than what you have seen",
                    );
                }
                Err((code, detail)) => findings.refuse(&claim, "", code, detail),
            }
        }
        (findings, newest)
    }

    fn validate(&self) -> Result<(), CollateralError> {
        let refuse = |reason| Err(CollateralError::MemoryField(reason));
        if self.version != 1 {
            return refuse("this program knows version 1");
        }
        if self.roots.len() > MAX_ROOTS {
            return refuse("expected at most 16 roots");
        }
        for (root, numbers) in &self.roots {
            if root.parse::<Hex48>().is_err() {
                return refuse("expected root key ids");
            }
            if numbers.tcb_evaluation.len() > MAX_PLATFORMS {
                return refuse("expected at most 2048 platforms");
            }
            if numbers.tcb_evaluation.keys().any(|fmspc| fmspc.parse::<Fmspc>().is_err()) {
                return refuse("expected platforms by FMSPC");
            }
        }
        Ok(())
    }
}

fn raise(seen: &mut u32, found: u32, number: Number) -> Result<(), RolledBack> {
    if found < *seen {
        return Err(RolledBack { number, found, seen: *seen });
    }
    *seen = found;
    Ok(())
}

/// Fuzz entry: whatever is accepted reads back, and no number in it can fall.
pub fn fuzz_collateral_memory(data: &[u8]) {
    let Ok(memory) = CollateralMemory::parse(data) else { return };
    if let Ok(bytes) = memory.to_bytes()
        && bytes.len() <= MAX_MEMORY_BYTES
    {
        assert_eq!(CollateralMemory::parse(&bytes).ok().as_ref(), Some(&memory));
    }
    for (product, seen) in &memory.amd {
        let facts = AmdFacts { product: *product, crl: *seen };
        assert_eq!(memory.check_and_update_amd(&facts).as_ref(), Ok(&memory));
        let lower = AmdFacts { crl: FixedHex([0; 20]), ..facts };
        assert_eq!(memory.check_and_update_amd(&lower).is_ok(), seen.0 == [0; 20]);
    }
    for (root, numbers) in &memory.roots {
        let Ok(root) = root.parse() else { continue };
        let facts = CollateralFacts {
            root,
            subject: QuoteSubject { fmspc: FixedHex([0; 6]), ca: PckCa::Platform },
            tcb_evaluation: u32::MAX,
            qe_evaluation: numbers.qe_evaluation,
            root_crl: numbers.root_crl,
            pck_crl: u32::MAX,
        };
        assert!(memory.check_and_update(&facts).is_ok());
        if let Some(lower) = numbers.root_crl.checked_sub(1) {
            assert!(
                memory.check_and_update(&CollateralFacts { root_crl: lower, ..facts }).is_err()
            );
        }
    }
}
