//! What a quote finally rests on: Intel's root key, or the development root that the user named on the command line.
//!
//! The anchor is computed from the root key that verified the chain. Nothing in evidence or policy can choose it.

use dcap_qvl::{QuoteClaims, QuotePolicy, verify::QuoteVerifier};
use serde::Deserialize;

use crate::{
    codes::Code,
    collateral::Collateral,
    fixed_hex::{FixedHex, Hex32, Hex48},
    nvidia::NvidiaRoots,
    pck_chain::{self, ChainError},
    snp::{Product, Roots, SnpAnchor},
};

/// SHA-384 of the public key of Intel's SGX root certificate.
pub const INTEL_ROOT_KEY_ID: Hex48 = FixedHex([
    0x46, 0xe4, 0x03, 0xbd, 0x34, 0xf0, 0x5a, 0x3f, 0x28, 0x17, 0xab, 0x9b, 0xad, 0xca, 0xac, 0xc7,
    0xff, 0xc9, 0x8e, 0x0f, 0x26, 0x10, 0x08, 0xcd, 0x30, 0xda, 0xe9, 0x36, 0xca, 0xce, 0x18, 0xd5,
    0xdc, 0xf5, 0x8e, 0xef, 0x31, 0x46, 0x36, 0x13, 0xde, 0x15, 0x70, 0xd5, 0x16, 0x20, 0x09, 0x93,
]);

/// SHA-256 of that certificate, as every quote carries it.
pub(crate) const INTEL_ROOT: Hex32 = FixedHex([
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
    0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
]);

/// The roots that a verifier trusts. Only a command line may set the second one.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    /// DER of the root certificate of a simulated platform.
    pub simulated_root: Option<Vec<u8>>,
    /// AMD's; a simulated one can be added in tests only.
    pub snp: Roots,
    /// NVIDIA's; simulated ones can be put in their place in tests only.
    pub nvidia: NvidiaRoots,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Intel,
    Amd(Product),
    Simulated(Hex48),
}

impl From<SnpAnchor> for Anchor {
    fn from(anchor: SnpAnchor) -> Self {
        match anchor {
            SnpAnchor::Amd(product) => Self::Amd(product),
            SnpAnchor::Simulated(_, key_id) => Self::Simulated(key_id),
        }
    }
}

impl Anchor {
    pub fn is_simulated(self) -> bool {
        matches!(self, Self::Simulated(_))
    }
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Intel => f.write_str("intel"),
            Self::Amd(product) => SnpAnchor::Amd(*product).fmt(f),
            Self::Simulated(key_id) => write!(f, "simulated:{key_id}"),
        }
    }
}

/// A quote whose signatures, certificates and collateral verified.
#[derive(Debug, Clone)]
pub struct VerifiedQuote {
    pub anchor: Anchor,
    pub platform: QuoteClaims,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    #[error("lead the quote to Intel's root; no other is trusted here ({0})")]
    Unknown(String),
    #[error("lead the quote to Intel's root or to the given simulated root ({0})")]
    OtherSimulatedRoot(String),
    #[error("use the collateral at this time: {0}")]
    Time(String),
    #[error("find the platform's TCB among what Intel lists: {0}")]
    Tcb(String),
    #[error("verify the quote: {0}")]
    Signature(String),
}

impl AnchorError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::AnchorUnknown,
            Self::OtherSimulatedRoot(_) => Code::SimulatedRootOther,
            Self::Time(_) => Code::CollateralTime,
            Self::Tcb(_) => Code::TcbStatus,
            Self::Signature(_) => Code::QuoteSignature,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

/// Verifies chain, collateral and signatures at `now`, against Intel's root first and then the simulated one if given.
///
/// `quote` must be free of trailing bytes: see [`crate::quote::TdxQuote::parse`].
pub fn verify_quote(
    quote: &[u8],
    collateral: &Collateral,
    anchors: &Anchors,
    now: u64,
) -> Result<VerifiedQuote, AnchorError> {
    let intel = match verify_under(QuoteVerifier::new_prod(), &INTEL_ROOT, quote, collateral, now) {
        Ok(verified) => return Ok(verified),
        Err(failure) => failure,
    };
    let Some(root) = &anchors.simulated_root else {
        return Err(if intel.is_other_root() {
            AnchorError::Unknown(intel.text)
        } else {
            intel.classify()
        });
    };
    let simulated = QuoteVerifier::new(root.clone());
    let digest = pck_chain::sha256(root);
    verify_under(simulated, &digest, quote, collateral, now).map_err(|simulated| {
        match (intel.is_other_root(), simulated.is_other_root()) {
            (true, true) => AnchorError::OtherSimulatedRoot(simulated.text),
            (false, _) => intel.classify(),
            (true, false) => simulated.classify(),
        }
    })
}

/// What `dcap-qvl` said.
struct Failure {
    text: String,
    /// What the quote's own certificates are under the root that was tried.
    chain: Result<(), ChainError>,
}

impl Failure {
    /// The revocation list of the root is checked first and with the root's key alone. Whoever reads it wrongly, or brings
    /// another list for a quote of this root, has bad collateral and no other root.
    fn is_other_root(&self) -> bool {
        let of_root = ["root CA CRL", "UnknownIssuer"];
        self.chain == Err(ChainError::Root) && of_root.iter().any(|words| self.text.contains(words))
    }

    fn classify(self) -> AnchorError {
        let of_time = ["expired", "Expired", "in the future", "NotValidYet"];
        // Said only after every signature held.
        let of_tcb =
            ["No matching TCB level", "is below minimum required", "status is invalid: Revoked"];
        if of_time.iter().any(|word| self.text.contains(word)) {
            AnchorError::Time(self.text)
        } else if self.chain.is_ok() && of_tcb.iter().any(|words| self.text.contains(words)) {
            AnchorError::Tcb(self.text)
        } else {
            AnchorError::Signature(self.text)
        }
    }
}

fn verify_under(
    verifier: QuoteVerifier,
    root: &Hex32,
    quote: &[u8],
    collateral: &Collateral,
    now: u64,
) -> Result<VerifiedQuote, Failure> {
    verify_all(verifier, root, quote, collateral, now)
        .map_err(|text| Failure { text, chain: pck_chain::check(quote, root) })
}

fn verify_all(
    verifier: QuoteVerifier,
    root: &Hex32,
    quote: &[u8],
    collateral: &Collateral,
    now: u64,
) -> Result<VerifiedQuote, String> {
    // Only signatures here: what the claims are worth is for our own policy to say.
    let policy = QuotePolicy::claims_only(now);
    let platform = verifier
        .verify_with_policy(quote, collateral, now, &policy)
        .map_err(|error| format!("{error:#}"))?;
    check_pce(collateral, &platform.platform.pck.pce_id)?;
    pck_chain::check(quote, root).map_err(|error| error.to_string())?;
    let key_id = <[u8; 48]>::try_from(platform.platform.root_key_id.as_slice())
        .map(FixedHex)
        .map_err(|_| "the root key id has another length than expected")?;
    let anchor =
        if key_id == INTEL_ROOT_KEY_ID { Anchor::Intel } else { Anchor::Simulated(key_id) };
    Ok(VerifiedQuote { anchor, platform })
}

/// Platforms of one FMSPC may have another provisioning enclave; `dcap-qvl` leaves that to its caller.
fn check_pce(collateral: &Collateral, found: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct TcbInfo {
        #[serde(rename = "pceId")]
        pce_id: String,
    }
    let info: TcbInfo = serde_json::from_str(&collateral.tcb_info)
        .map_err(|error| format!("read the TCB info: {error}"))?;
    if hex::decode(&info.pce_id).is_ok_and(|expected| expected == found) {
        Ok(())
    } else {
        Err("the TCB info is for another PCEID than the platform's".to_owned())
    }
}
