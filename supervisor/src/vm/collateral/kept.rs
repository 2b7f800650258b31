//! What the host keeps of collateral: when something is due, what is too old to hand out, and what a bundle gets of it.
//! Pure: documents, bundles and times come in.

use std::collections::BTreeMap;

use sealtune_evidence::{
    Collateral, EvidenceBundle, Tee,
    base64_bytes::Base64Bytes,
    collateral::{Brought, GpuInquiry, QuoteSubject},
    nvidia::{
        NvidiaCollateral, NvidiaRoots,
        collateral::{MAX_NVIDIA_COLLATERAL_BYTES, OcspAnswer, RimFile},
        ocsp::valid_until,
        wanted,
    },
    snp::{Report, SnpCollateral},
};
use sealtune_job::Hex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) const MAX_FILE: u64 = 16 << 20;
const VERSION: u32 = 1;
/// How long Intel's documents are valid; what is older helps nobody.
const TOO_OLD: u64 = 30 * 86_400;
/// A response that ends sooner is fetched again.
const MARGIN: u64 = 15 * 60;
/// What a service just did not have, or not for long, is left alone for so long, in seconds.
pub(super) const REST: u64 = 600;
/// Of each kind; a host has one platform, and the GPUs that are in it.
pub(super) const MAX_PLATFORMS: usize = 4;
const MAX_RIMS: usize = 32;
/// As many as one bundle may need.
const MAX_RESPONSES: usize = GpuInquiry::MAX_RESPONSES;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    version: u32,
    /// By FMSPC and certificate authority.
    intel: BTreeMap<String, Dated<Collateral>>,
    /// By chip, version and key.
    amd: BTreeMap<String, Dated<SnpCollateral>>,
    /// By NVIDIA's name for the file.
    rims: BTreeMap<String, Dated<Base64Bytes>>,
    /// By SHA-256 of the certificate.
    ocsp: BTreeMap<String, Dated<Base64Bytes>>,
    /// Files and certificates that were asked about, and are still lacking afterwards.
    #[serde(skip)]
    asked: BTreeMap<String, Dated<()>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dated<T> {
    pub(super) fetched: u64,
    pub(super) document: T,
}

impl<T> Dated<T> {
    /// A time to come is nobody's: the clock was set back.
    pub(super) fn is_younger(&self, than: u64, now: u64) -> bool {
        now.checked_sub(self.fetched).is_some_and(|age| age < than)
    }

    /// May go out: what the clock says counts less than having something.
    fn serves(&self, now: u64) -> bool {
        now.saturating_sub(self.fetched) < TOO_OLD
    }
}

/// What was fetched for one machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Platform {
    Intel(Box<Collateral>),
    Amd(Box<SnpCollateral>),
}

impl Platform {
    pub(super) fn brought(&self) -> Brought<'_> {
        match self {
            Self::Intel(document) => Brought { intel: Some(document), amd: None },
            Self::Amd(document) => Brought { intel: None, amd: Some(document) },
        }
    }
}

/// What is due for one bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) platform: bool,
    pub(crate) gpu: bool,
}

impl Due {
    pub(crate) fn anything(self) -> bool {
        self.platform || self.gpu
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            version: VERSION,
            intel: BTreeMap::new(),
            amd: BTreeMap::new(),
            rims: BTreeMap::new(),
            ocsp: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }
}

impl Kept {
    /// What cannot be read is fetched again.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let kept: Self = read(bytes)?;
        let bounded = kept.intel.len() <= MAX_PLATFORMS
            && kept.amd.len() <= MAX_PLATFORMS
            && kept.rims.len() <= MAX_RIMS
            && kept.ocsp.len() <= MAX_RESPONSES;
        (bounded && kept.version == VERSION).then_some(kept)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What this bundle needs and is not there, or is older than `refresh` seconds.
    pub(crate) fn due(&self, bundle: &EvidenceBundle, now: u64, refresh: u64) -> Due {
        let refresh = refresh.min(TOO_OLD);
        let platform = match key(bundle) {
            Some((Maker::Intel, key)) => {
                !self.intel.get(&key).is_some_and(|it| it.is_younger(refresh, now))
            }
            Some((Maker::Amd, key)) => {
                !self.amd.get(&key).is_some_and(|it| it.is_younger(refresh, now))
            }
            None => false,
        };
        let known = self.known_for(bundle, now, refresh);
        let asked = |name| self.asked.get(&name).is_some_and(|it| it.is_younger(REST, now));
        let gpu = lacking(bundle, &known).into_iter().any(|name| !asked(name));
        Due { platform, gpu }
    }

    /// Whether a quote of this machine verified with what was kept for it.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.intel.contains_key(key) || self.amd.contains_key(key)
    }

    /// GPU collateral to go on from: what need not be fetched again for this bundle.
    pub(crate) fn known_for(
        &self,
        bundle: &EvidenceBundle,
        now: u64,
        refresh: u64,
    ) -> NvidiaCollateral {
        self.gpu(bundle, now, MARGIN, |it| it.is_younger(refresh.min(TOO_OLD), now))
    }

    /// The bundle's own counts first, as for who gets it.
    pub(super) fn brought<'a>(&'a self, bundle: &'a EvidenceBundle, now: u64) -> Brought<'a> {
        let found = key(bundle);
        let key = found.as_ref().map(|(_, key)| key.as_str()).unwrap_or_default();
        let intel = self.intel.get(key).filter(|it| it.serves(now)).map(|it| &it.document);
        let amd = self.amd.get(key).filter(|it| it.serves(now)).map(|it| &it.document);
        Brought {
            intel: bundle.collateral.as_ref().or(intel),
            amd: bundle.snp_collateral.as_ref().or(amd),
        }
    }

    pub(super) fn put(&mut self, bundle: &EvidenceBundle, document: Platform, fetched: u64) {
        match document {
            Platform::Intel(document) => self.put_intel(bundle, *document, fetched),
            Platform::Amd(document) => self.put_amd(bundle, *document, fetched),
        }
    }

    pub(crate) fn put_intel(&mut self, bundle: &EvidenceBundle, document: Collateral, now: u64) {
        if let Some((Maker::Intel, key)) = key(bundle) {
            put(&mut self.intel, key, document, now, MAX_PLATFORMS);
        }
    }

    pub(crate) fn put_amd(&mut self, bundle: &EvidenceBundle, document: SnpCollateral, now: u64) {
        if let Some((Maker::Amd, key)) = key(bundle) {
            put(&mut self.amd, key, document, now, MAX_PLATFORMS);
        }
    }

    /// `known` is what was there before the fetching, and keeps its age. What the bundle then still lacks is not there to
    /// be had, and is not asked for at every turn.
    pub(crate) fn put_gpu(
        &mut self,
        bundle: &EvidenceBundle,
        document: NvidiaCollateral,
        known: &NvidiaCollateral,
        now: u64,
    ) {
        for RimFile { id, file } in document.rims {
            if known.rim(&id).is_none() {
                put(&mut self.rims, id, file, now, MAX_RIMS);
            }
        }
        for OcspAnswer { certificate, response } in document.ocsp {
            if known.response(&certificate).is_none() {
                put(&mut self.ocsp, certificate.to_string(), response, now, MAX_RESPONSES);
            }
        }
        for name in lacking(bundle, &self.known_for(bundle, now, TOO_OLD)) {
            put(&mut self.asked, name, (), now, MAX_RIMS + MAX_RESPONSES);
        }
    }

    /// Puts in what there is and the bundle lacks. What has become too old stays out: it would be refused.
    pub(crate) fn attach(&self, bundle: &mut EvidenceBundle, now: u64) {
        match key(bundle) {
            Some((Maker::Intel, key)) if bundle.collateral.is_none() => {
                let found = self.intel.get(&key).filter(|it| it.serves(now));
                bundle.collateral = found.map(|it| it.document.clone());
            }
            Some((Maker::Amd, key)) if bundle.snp_collateral.is_none() => {
                let found = self.amd.get(&key).filter(|it| it.serves(now));
                bundle.snp_collateral = found.map(|it| it.document.clone());
            }
            _ => {}
        }
        if bundle.gpu_collateral.is_none() && !bundle.gpu.is_empty() {
            let found = self.gpu(bundle, now, 0, |it| it.serves(now));
            let any = !found.rims.is_empty() || !found.ocsp.is_empty();
            let fits = found.to_bytes().is_ok_and(|it| it.len() <= MAX_NVIDIA_COLLATERAL_BYTES);
            bundle.gpu_collateral = Some(found).filter(|_| any && fits);
        }
    }

    /// Of files and responses those that the bundle's GPUs need. Certificates of the files are known once the files are.
    fn gpu(
        &self,
        bundle: &EvidenceBundle,
        now: u64,
        margin: u64,
        usable: impl Fn(&Dated<Base64Bytes>) -> bool,
    ) -> NvidiaCollateral {
        let roots = NvidiaRoots::nvidia();
        let mut chosen = NvidiaCollateral::default();
        for gpu in &bundle.gpu {
            for _ in 0..2 {
                let lacks = wanted(&gpu.evidence.0, &chosen, &roots, None);
                for id in lacks.rims {
                    if let Some(it) = self.rims.get(&id).filter(|it| usable(it)) {
                        chosen.rims.push(RimFile { id, file: it.document.clone() });
                    }
                }
                for (certificate, _) in lacks.ocsp {
                    let found = self.ocsp.get(&certificate.to_string()).filter(|it| {
                        let end = valid_until(&it.document.0).unwrap_or(0);
                        usable(it) && now.saturating_add(margin) <= end
                    });
                    if let Some(it) = found {
                        let response = it.document.clone();
                        chosen.ocsp.push(OcspAnswer { certificate, response });
                    }
                }
            }
        }
        chosen
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// The newest stay.
pub(super) fn put<T>(
    kept: &mut BTreeMap<String, Dated<T>>,
    key: String,
    document: T,
    now: u64,
    most: usize,
) {
    kept.insert(key, Dated { fetched: now, document });
    while kept.len() > most {
        let oldest = kept.iter().min_by_key(|(_, it)| it.fetched).map(|(key, _)| key.clone());
        let Some(oldest) = oldest else { return };
        kept.remove(&oldest);
    }
}

/// The names of what the bundle's GPUs need beyond this.
fn lacking(bundle: &EvidenceBundle, known: &NvidiaCollateral) -> Vec<String> {
    let roots = NvidiaRoots::nvidia();
    let lacks = bundle.gpu.iter().flat_map(|gpu| {
        let lacks = wanted(&gpu.evidence.0, known, &roots, None);
        let rims = lacks.rims.into_iter().map(|id| format!("rim {id}"));
        rims.chain(lacks.ocsp.into_iter().map(|(certificate, _)| format!("ocsp {certificate}")))
    });
    lacks.collect()
}

/// Which GPUs these are, however often they are asked for evidence.
pub(super) fn gpu_key(bundle: &EvidenceBundle) -> String {
    let names = lacking(bundle, &NvidiaCollateral::default()).join("\n");
    let digest = ring::digest::digest(&ring::digest::SHA256, names.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whose processor a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    Intel,
    Amd,
}

/// For which machine a bundle's collateral is, and who made it. A dstack VM's quote is a TDX VM's.
pub(super) fn key(bundle: &EvidenceBundle) -> Option<(Maker, String)> {
    let quote = &bundle.quote.0;
    match bundle.tee {
        Tee::Tdx | Tee::Dstack => {
            let QuoteSubject { fmspc, ca } = QuoteSubject::of(quote).ok()?;
            Some((Maker::Intel, format!("{fmspc}-{}", ca.as_str())))
        }
        Tee::Snp => {
            let report = Report::parse(quote).ok()?;
            let kind = report.signing_key.as_str();
            let chip = [report.chip_id.as_slice(), &report.reported_tcb.0].concat();
            let digest = ring::digest::digest(&ring::digest::SHA256, &chip);
            let digest = <[u8; 32]>::try_from(digest.as_ref()).ok()?;
            Some((Maker::Amd, format!("{kind}-{}", Hex(digest))))
        }
    }
}
