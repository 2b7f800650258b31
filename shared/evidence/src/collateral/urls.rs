//! Where collateral is to be had: Intel's provisioning certification service, API version 4, or a cache that speaks it
//! (PCCS); AMD's key distribution service, whose paths are [`crate::snp::key_service`]'s; NVIDIA's services of RIM files and
//! of revocation (OCSP).

use std::net::IpAddr;

use super::{CollateralError, PckCa, QuoteSubject};

pub const INTEL_PCS: &str = "https://api.trustedservices.intel.com";
/// The distribution point that Intel's root certificate names. Intel's own service has no other address for this list.
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
pub const AMD_KDS: &str = "https://kdsintf.amd.com";
pub const NVIDIA_RIM: &str = "https://rim.attestation.nvidia.com";
pub const NVIDIA_OCSP: &str = "https://ocsp.ndis.nvidia.com";
const MAX_BASE: usize = 256;

/// Scheme, host and port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceBase(String);

/// Which set of TCB levels: `Early` is the newest that Intel published, `Standard` the one that is enforced, months behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    Standard,
    Early,
}

/// How a revocation list travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlForm {
    Der,
    /// Caches write the root's list as text.
    Hex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelUrls {
    pub pck_crl: String,
    pub tcb_info: String,
    pub qe_identity: String,
    pub root_crl: String,
    pub root_crl_form: CrlForm,
}

impl ServiceBase {
    /// `https://host[:port]`, or `http://` to a loopback address: what it says is signed, but on a network others could
    /// keep new lists from the reader.
    pub fn parse(text: &str) -> Result<Self, CollateralError> {
        let refuse = |reason| {
            let base = text.chars().take(MAX_BASE).collect();
            Err(CollateralError::Base { base, reason })
        };
        if text.len() > MAX_BASE {
            return refuse("longer than 256 characters");
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, secure) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(host), _) => (host, true),
            (None, Some(host)) => (host, false),
            (None, None) => return refuse("expected https://"),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(allowed) {
            return refuse("expected a host and nothing after it");
        }
        if !secure && !is_loopback(host) {
            return refuse("plain http is for loopback addresses only");
        }
        Ok(Self(text.to_owned()))
    }

    pub fn intel() -> Self {
        Self(INTEL_PCS.to_owned())
    }

    pub fn amd() -> Self {
        Self(AMD_KDS.to_owned())
    }

    pub fn nvidia_rim() -> Self {
        Self(NVIDIA_RIM.to_owned())
    }

    pub fn nvidia_ocsp() -> Self {
        Self(NVIDIA_OCSP.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }
}

/// Whom to ask for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// Intel, or a cache (PCCS).
    pub intel: ServiceBase,
    pub amd: ServiceBase,
    pub rim: ServiceBase,
    pub ocsp: ServiceBase,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            intel: ServiceBase::intel(),
            amd: ServiceBase::amd(),
            rim: ServiceBase::nvidia_rim(),
            ocsp: ServiceBase::nvidia_ocsp(),
        }
    }
}

/// Only addresses: a name can lead anywhere.
fn is_loopback(host: &str) -> bool {
    let address = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address),
        None => host.split(':').next(),
    };
    address
        .and_then(|text| text.parse::<IpAddr>().ok())
        .is_some_and(|address| address.is_loopback())
}

impl IntelUrls {
    /// What is needed to verify a TDX quote of `subject`.
    pub fn new(base: &ServiceBase, subject: &QuoteSubject, update: Update) -> Self {
        let QuoteSubject { fmspc, ca } = subject;
        let fmspc = fmspc.to_string().to_ascii_uppercase();
        let ca = match ca {
            PckCa::Platform => "platform",
            PckCa::Processor => "processor",
        };
        let update = match update {
            Update::Standard => "standard",
            Update::Early => "early",
        };
        let base = base.as_str();
        let own = base == INTEL_PCS;
        Self {
            pck_crl: format!("{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"),
            tcb_info: format!("{base}/tdx/certification/v4/tcb?fmspc={fmspc}&update={update}"),
            qe_identity: format!("{base}/tdx/certification/v4/qe/identity?update={update}"),
            root_crl: if own {
                INTEL_ROOT_CRL.to_owned()
            } else {
                format!("{base}/sgx/certification/v4/rootcacrl")
            },
            root_crl_form: if own { CrlForm::Der } else { CrlForm::Hex },
        }
    }
}
