//! Whether evidence is worth asking its maker about: what holds of it before there is any collateral.
//!
//! Evidence of a VM is its guest's word. A daemon that asked about every certificate and name in it would ask whatever a
//! hostile guest likes, in the host's name. A verifier asks about what his user gave him, and needs none of this.

use crate::{
    anchor::INTEL_ROOT,
    bundle::{EvidenceBundle, Tee},
    claims::{Claims, gpu_nonce, report_data},
    fixed_hex::Hex32,
    launch::LaunchDigest,
    nvidia::{self, NvidiaRoots},
    quote::TdxQuote,
    quote_signature,
    snp::Report,
};

/// How far a bundle could be verified without collateral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Signed under the maker's root, over these claims and, of Sealtune's own VMs, for this launch configuration.
    Signed,
    /// A report of AMD's says which certificate verifies it, and carries none: it is only for this VM and these claims.
    Unsigned,
    Nothing,
}

impl Worth {
    pub fn of_platform(bundle: &EvidenceBundle) -> Self {
        Self::under(&INTEL_ROOT, bundle)
    }

    pub(crate) fn under(root: &Hex32, bundle: &EvidenceBundle) -> Self {
        let (quote, launch) = (&bundle.quote.0, LaunchDigest::of(&bundle.launch.0));
        let covered = report_data(&bundle.claims.0);
        let (worth, holds) = match bundle.tee {
            Tee::Tdx | Tee::Dstack => {
                let Ok(read) = TdxQuote::parse(quote) else { return Self::Nothing };
                // A dstack VM is launched by others: its quote names their configuration.
                let is_launched = bundle.tee == Tee::Dstack
                    || launch.check_mr_config_id(&read.mr_config_id).is_ok();
                let holds = read.report_data == covered && is_launched;
                (Self::Signed, holds && quote_signature::leads_to(root, quote))
            }
            Tee::Snp => {
                let Ok(read) = Report::parse(quote) else { return Self::Nothing };
                let is_launched = launch.check_host_data(&read.host_data).is_ok();
                (Self::Unsigned, read.report_data == covered && is_launched)
            }
        };
        if holds { worth } else { Self::Nothing }
    }
}

/// Takes out of a bundle the devices that are none of NVIDIA's, or answered another question than this bundle's.
pub fn keep_genuine_devices(bundle: &mut EvidenceBundle, roots: &NvidiaRoots, now: u64) {
    let Ok(claims) = Claims::parse(&bundle.claims.0) else { return bundle.gpu.clear() };
    let nonce = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, &claims.hpke.key.0);
    bundle.gpu.retain(|gpu| nvidia::is_genuine(&gpu.evidence.0, roots, &nonce, now));
}
