//! Whose reference values to judge by: those that a signed release manifest vouches for, and the user's own files.
//!
//! Manifests are verified at the time of the judgement. At the clock they are held against everything that was seen before,
//! and what they say is remembered before they are used; at another time they are held against each other only.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use sealtune_evidence::{
    Hex32, JudgeTime, ReferenceValues, Status, Verdict,
    dsse::payload_digest,
    reference::MAX_REFERENCE_BYTES,
    release::{
        Code, MAX_MANIFEST_BYTES, Manifest, ReleaseError, ReleaseMemory, TrustedKeys,
        VerifiedManifest,
    },
    verdict::Findings,
};

use crate::{
    failure::Failure,
    input,
    judge::Part,
    memory_file::{MemoryFile, is_there},
};

const MAX_KEYS_BYTES: usize = 64 * 1024;
/// Beside the memory of collateral.
const MEMORY_NAME: &str = "release-memory.json";

#[derive(Debug)]
struct Named {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// What the user has of releases.
#[derive(Debug, Clone, Default)]
pub struct ReleaseFiles<'a> {
    pub manifests: &'a [PathBuf],
    pub keys: Option<&'a Path>,
    pub references: &'a [PathBuf],
    /// Digests that he trusts besides: roots of layers, dstack images and compose files.
    pub pinned: Vec<Hex32>,
    /// Where collateral is remembered; what manifests said is kept beside it.
    pub collateral_memory: Option<&'a Path>,
}

/// The same, read.
#[derive(Debug)]
pub struct Releases {
    /// Given whenever there are manifests.
    keys: Option<TrustedKeys>,
    manifests: Vec<Named>,
    references: Vec<Named>,
    pinned: Vec<Hex32>,
    memory: Option<PathBuf>,
}

/// What is trusted at one time, and because of whom.
#[derive(Debug, Default)]
pub struct Trust {
    pub references: Vec<ReferenceValues>,
    vouchers: Vec<Voucher>,
    /// What must not be used any more.
    memory: ReleaseMemory,
    /// Why nothing is.
    refused: Option<(Code, String)>,
}

#[derive(Debug)]
enum Voucher {
    Manifest { release: String, said: String, acpi: Acpi },
    Own { release: String },
}

/// What a manifest states of its kernels. Stated, not measured: a verdict turns on it only where the policy leaves the host's
/// tables free (`layout-free`, `layout-free-confined`).
#[derive(Debug, Clone, Copy)]
enum Acpi {
    KeptAway,
    NotKeptAway,
}

impl Acpi {
    fn of(manifest: &Manifest) -> Self {
        let kept_away = manifest.images.iter().all(|image| image.aml_sandbox);
        if kept_away { Self::KeptAway } else { Self::NotKeptAway }
    }

    fn word(self) -> &'static str {
        match self {
            Self::KeptAway => ", ACPI code kept away",
            Self::NotKeptAway => "",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::KeptAway => {
                "the reference values are this manifest's; it states that the kernel keeps the host's ACPI code away from \
                 private memory"
            }
            Self::NotKeptAway => {
                "the reference values are this manifest's; it states no guard against the host's ACPI code"
            }
        }
    }
}

impl Releases {
    pub fn read(files: ReleaseFiles<'_>) -> Result<Self, Failure> {
        let keys = files.keys.map(|path| {
            TrustedKeys::parse(&input::read(path, MAX_KEYS_BYTES)?)
                .map_err(Failure::of(path, |path, source| Failure::Manifest { path, source }))
        });
        Ok(Self {
            keys: keys.transpose()?,
            manifests: read_all(files.manifests, MAX_MANIFEST_BYTES)?,
            references: read_all(files.references, MAX_REFERENCE_BYTES)?,
            pinned: files.pinned,
            memory: files.collateral_memory.map(|path| path.with_file_name(MEMORY_NAME)),
        })
    }

    /// At the clock, what manifests say is held against everything seen before, and remembered.
    pub fn at(&self, time: JudgeTime) -> Result<Trust, Failure> {
        let manifests = self.verify(time.seconds())?;
        let all: Vec<_> = manifests.iter().collect();
        let memory = match time {
            JudgeTime::Now(_) => self.remember(&all)?,
            JudgeTime::At(_) => ReleaseMemory::default().admit(&all).map_err(Failure::Releases)?,
        };
        self.check_pinned(&memory)?;
        self.trust(&manifests, &memory)
    }

    /// At the clock, beside a judgement at another time: what is not trusted any more makes this verdict a no.
    pub(crate) fn beside_another_time(&self, now: u64) -> Result<Trust, Failure> {
        let (code, reason) = match self.at(JudgeTime::Now(now)) {
            Err(Failure::Manifest { source, .. } | Failure::Releases(source)) => {
                (source.entry(), source.to_string())
            }
            Err(failure @ Failure::PinnedRevoked { .. }) => (Code::Revoked, failure.to_string()),
            other => return other,
        };
        Ok(Trust { refused: Some((code, reason)), ..Trust::default() })
    }

    fn verify(&self, now: u64) -> Result<Vec<VerifiedManifest>, Failure> {
        let Some(keys) = &self.keys else { return Ok(vec![]) };
        let verify = |file: &Named| {
            Manifest::verify(&file.bytes, keys, now)
                .map_err(Failure::of(&file.path, |path, source| Failure::Manifest { path, source }))
        };
        self.manifests.iter().map(verify).collect()
    }

    /// What was revoked stays revoked, also for those who bring no manifest this time.
    fn remember(&self, manifests: &[&VerifiedManifest]) -> Result<ReleaseMemory, Failure> {
        let path = self.memory.as_deref().filter(|path| !manifests.is_empty() || is_there(path));
        let Some(path) = path else {
            return ReleaseMemory::default().admit(manifests).map_err(Failure::Releases);
        };
        let file = MemoryFile::<ReleaseMemory>::open(path)?;
        let memory = file.memory().admit(manifests).map_err(Failure::Releases)?;
        file.replace(&memory)?;
        Ok(memory)
    }

    fn check_pinned(&self, memory: &ReleaseMemory) -> Result<(), Failure> {
        for digest in &self.pinned {
            if let Some(reason) = memory.revocation(digest.as_bytes()) {
                return Err(Failure::PinnedRevoked { digest: *digest, reason: reason.to_owned() });
            }
        }
        Ok(())
    }

    fn trust(
        &self,
        manifests: &[VerifiedManifest],
        memory: &ReleaseMemory,
    ) -> Result<Trust, Failure> {
        let mut trust = Trust { memory: memory.clone(), ..Trust::default() };
        let mut vouched: Vec<Vec<ReferenceValues>> =
            manifests.iter().map(|one| one.reference_values().cloned().collect()).collect();
        let mut own = Vec::new();
        for file in &self.references {
            match place(file, manifests)? {
                (Some(index), values) => {
                    if let Some(list) = vouched.get_mut(index) {
                        list.push(values);
                    }
                }
                (None, values) => own.push((file, values)),
            }
        }
        for ((file, manifest), list) in self.manifests.iter().zip(manifests).zip(vouched) {
            if list.is_empty() {
                return Err(Failure::ReferenceMissing { path: file.path.clone() });
            }
            for mut values in list {
                memory.check_reference(&values).map_err(Failure::Releases)?;
                let more = manifest.manifest().layers.iter();
                let more: Vec<_> =
                    more.filter(|one| !values.layers.contains(one)).cloned().collect();
                values.layers.extend(more);
                values.host_code = manifest.host_code(&values);
                trust.references.push(values);
            }
            trust.vouchers.push(Voucher::of(manifest));
        }
        for (file, values) in own {
            let of_file = |path, source| Failure::Manifest { path, source };
            memory.check_reference(&values).map_err(Failure::of(&file.path, of_file))?;
            trust.vouchers.push(Voucher::Own { release: values.release.clone() });
            trust.references.push(values);
        }
        Ok(trust)
    }
}

/// The manifest that vouches for a file of reference values, or none if it is the user's own word. Nobody's word stands
/// beside a manifest of the same release: a verdict could not say which of the two it rests on.
fn place(
    file: &Named,
    manifests: &[VerifiedManifest],
) -> Result<(Option<usize>, ReferenceValues), Failure> {
    let refused = |source| Failure::Manifest { path: file.path.clone(), source };
    for (index, manifest) in manifests.iter().enumerate() {
        match manifest.admit_reference(&file.bytes) {
            Ok(values) => return Ok((Some(index), values)),
            Err(ReleaseError::ReferenceOther(_)) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    let values = ReferenceValues::parse(&file.bytes)
        .map_err(Failure::of(&file.path, |path, source| Failure::Reference { path, source }))?;
    for (index, manifest) in manifests.iter().enumerate() {
        if manifest.reference_values().any(|embedded| *embedded == values) {
            return Ok((Some(index), values));
        }
        if manifest.manifest().release == values.release {
            return Err(refused(ReleaseError::ReferenceOther(payload_digest(&file.bytes))));
        }
    }
    Ok((None, values))
}

impl Voucher {
    fn of(manifest: &VerifiedManifest) -> Self {
        let said = manifest.manifest();
        Self::Manifest {
            release: said.release.clone(),
            acpi: Acpi::of(said),
            said: format!(
                "{} (number {}, edition {}){}, signed by {}",
                said.release,
                said.number,
                said.edition,
                Acpi::of(said).word(),
                manifest.signers().join(", ")
            ),
        }
    }
}

impl Trust {
    /// Why something that you trust besides must not be used any more.
    pub fn revocation(&self, digest: &Hex32) -> Option<&str> {
        self.memory.revocation(digest.as_bytes())
    }

    /// Who vouched for the releases that the verdict found.
    pub fn findings(&self, parts: &[Part<'_>], verdict: &Verdict) -> Findings {
        let mut findings = Findings::default();
        if let Some((code, reason)) = &self.refused {
            findings.refuse("release-manifest", "", *code, reason);
        }
        let found = releases(parts, verdict);
        let mut own = BTreeSet::new();
        for voucher in &self.vouchers {
            match voucher {
                Voucher::Manifest { release, said, acpi } if found.contains(release.as_str()) => {
                    findings.affirm("release-manifest", said, "release keys", acpi.sentence());
                }
                Voucher::Own { release }
                    if found.contains(release.as_str()) && own.insert(release) =>
                {
                    let text = "the reference values are a file of your own";
                    findings.affirm("references", release, "your file", text);
                }
                Voucher::Manifest { .. } | Voucher::Own { .. } => {}
            }
        }
        findings
    }
}

/// Releases whose reference values were used. Claims count by their whole names: others have names of the sender's in them.
fn releases<'a>(parts: &[Part<'_>], verdict: &'a Verdict) -> BTreeSet<&'a str> {
    let affirmed = |claim: String| {
        verdict
            .claims
            .iter()
            .filter(move |finding| finding.status == Status::Affirming && finding.claim == claim)
            .map(|finding| finding.value.as_str())
    };
    let mut found = BTreeSet::new();
    for part in parts {
        found.extend(affirmed(format!("{}release", part.name)));
        // A dstack VM names no release; its registers do.
        let boots = affirmed(format!("{}boot", part.name));
        found.extend(boots.filter_map(|value| value.split_once(", ")).map(|(release, _)| release));
    }
    found
}

fn read_all(paths: &[PathBuf], limit: usize) -> Result<Vec<Named>, Failure> {
    let read = |path: &PathBuf| {
        let bytes = input::read(path, limit)?;
        Ok(Named { path: path.clone(), bytes })
    };
    paths.iter().map(read).collect()
}
