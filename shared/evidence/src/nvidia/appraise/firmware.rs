//! Whether a device runs a release of NVIDIA's: its measurements against the RIMs that its report names, two of a GPU and
//! one of a switch.

use super::{GpuQuestion, device::Claims};
use crate::{
    nvidia::{
        chain::DeviceChain,
        codes::Code,
        compare::compare_all,
        device_evidence::DeviceEvidence,
        evidence::Architecture,
        opaque::{Opaque, OpaqueError},
        rim::{DateCheck, Rim, RimKind, VerifiedRim},
        rules::Presence,
        transcript::Transcript,
        xml::{reader, signature::Signature},
    },
    verdict::Findings,
};

/// What a Blackwell GPU is whose firmware does not name its chip.
const BLACKWELL_CHIP: &str = "GB100";

type Fault = (Code, String);

/// An LS10 report names no project and no SKU; every LS10 of boards with this mode has these, in NVIDIA's verifier too.
const SWITCH_PROJECT: &str = "5612_0002_890";

/// One RIM that a device's signed report asks for.
struct Named {
    kind: RimKind,
    id: String,
    /// The version that the device signed.
    version: String,
}

fn named(opaque: &Opaque, evidence: &DeviceEvidence) -> Result<Vec<Named>, OpaqueError> {
    let evidence = match evidence {
        DeviceEvidence::Switch(_) => {
            let version = opaque.bios_version()?.to_owned();
            let id = format!("NV_SWITCH_BIOS_{SWITCH_PROJECT}_{}", version.replace('.', ""));
            let id = id.to_ascii_uppercase();
            return Ok(vec![Named { kind: RimKind::SwitchBios, id, version }]);
        }
        DeviceEvidence::Gpu(evidence) => evidence,
    };
    let driver_version = opaque.driver_version()?;
    let driver = match evidence.architecture {
        Architecture::Hopper => format!("NV_GPU_DRIVER_GH100_{driver_version}"),
        Architecture::Blackwell => {
            let chip = opaque.chip_info()?.unwrap_or(BLACKWELL_CHIP);
            format!("NV_GPU_CC_DRIVER_{chip}_{driver_version}")
        }
    };
    let vbios_version = opaque.vbios_version()?;
    let vbios = format!(
        "NV_GPU_VBIOS_{}_{}_{}_{}",
        opaque.project()?,
        opaque.project_sku()?,
        opaque.chip_sku()?,
        vbios_version.replace('.', "")
    );
    Ok(vec![
        Named { kind: RimKind::Driver, id: driver, version: driver_version.to_owned() },
        Named { kind: RimKind::Vbios, id: vbios.to_ascii_uppercase(), version: vbios_version },
    ])
}

/// The names of the RIM files, from what the device signed.
pub(super) fn rim_ids(
    opaque: &Opaque,
    evidence: &DeviceEvidence,
) -> Result<Vec<String>, OpaqueError> {
    Ok(named(opaque, evidence)?.into_iter().map(|named| named.id).collect())
}

/// Certificates in a RIM file, unjudged; none if it does not read.
pub(super) fn certificates_of(file: &[u8]) -> Vec<Vec<u8>> {
    let document = reader::read(file).ok();
    let signature = document.and_then(|document| Signature::of(&document).ok());
    signature.map(|signature| signature.certificates).unwrap_or_default()
}

/// Judges the firmware, and hands back the RIMs that verified so that their certificates can be asked about.
pub(super) fn judge(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    evidence: &DeviceEvidence,
    transcript: &Transcript<'_>,
    chain: &DeviceChain<'_>,
    findings: &mut Findings,
) -> Vec<VerifiedRim> {
    let claim = claims.name("firmware");
    let mut rims = Vec::new();
    match judge_rims(question, evidence, transcript, chain, &mut rims) {
        Ok(value) => {
            let text = "every measurement that the RIMs list has one of their values";
            findings.affirm(&claim, value, question.roots.anchor(), text);
            if rims.iter().any(|rim| rim.dates == DateCheck::Pinned) {
                findings.warn(&claim, "", Code::RimPinned, "");
            }
        }
        Err((Code::FirmwareUnknown, detail)) if question.rules.rim == Presence::Optional => {
            findings.warn(&claim, "", Code::FirmwareUnknown, detail);
        }
        Err((code, detail)) => findings.refuse(&claim, "", code, detail),
    }
    rims
}

fn judge_rims(
    question: &GpuQuestion<'_>,
    evidence: &DeviceEvidence,
    transcript: &Transcript<'_>,
    chain: &DeviceChain<'_>,
    rims: &mut Vec<VerifiedRim>,
) -> Result<String, Fault> {
    let opaque = &transcript.opaque;
    let fault = |error: OpaqueError| (error.entry(), error.to_string());
    let named = named(opaque, evidence).map_err(fault)?;
    for (said, Named { version, .. }) in said(evidence).into_iter().zip(&named) {
        if !said.eq_ignore_ascii_case(version) {
            return Err((Code::VersionOther, format!("stated {said}, signed {version}")));
        }
    }
    let chip = opaque.chip_info().map_err(fault)?.unwrap_or(chain.chip);
    let mut missing = None;
    for Named { id, version, .. } in &named {
        match question.collateral.rim(id) {
            Some(file) => rims.push(verify_rim(question, id, file, version, chip)?),
            None => missing = missing.or(Some((Code::FirmwareUnknown, id.clone()))),
        }
    }
    if let Some(missing) = missing {
        return Err(missing);
    }
    let held: Vec<_> = named.iter().zip(rims.iter()).map(|(it, rim)| (it.kind, &rim.rim)).collect();
    let nvdec0 = opaque.nvdec0().map_err(fault)?;
    let compared = compare_all(&transcript.measurements, &held, nvdec0)
        .map_err(|error| (error.entry(), error.to_string()))?;
    let versions: Vec<_> =
        named.iter().map(|it| format!("{} {}", it.kind.as_str(), it.version)).collect();
    Ok(format!(
        "{}, {} measurements, {} skipped",
        versions.join(", "),
        compared.matched,
        compared.skipped
    ))
}

/// What the document says of versions, in the order of the RIMs.
fn said(evidence: &DeviceEvidence) -> Vec<&str> {
    match evidence {
        DeviceEvidence::Gpu(evidence) => vec![&evidence.driver_version, &evidence.vbios_version],
        DeviceEvidence::Switch(evidence) => vec![&evidence.bios_version],
    }
}

/// The file is NVIDIA's, and for this version and chip.
fn verify_rim(
    question: &GpuQuestion<'_>,
    id: &str,
    file: &[u8],
    version: &str,
    chip: &str,
) -> Result<VerifiedRim, Fault> {
    let pinned = &question.rules.pinned_rims;
    let verified = VerifiedRim::verify(file, &question.roots.rim, question.time, pinned)
        .map_err(|error| (error.entry(), format!("{id}: {error}")))?;
    let Rim { version: found, product, .. } = &verified.rim;
    if !found.eq_ignore_ascii_case(version) {
        return Err((
            Code::RimVersion,
            format!("{id} is for {found}, the device signed {version}"),
        ));
    }
    // Certificates call the switch LS_10, everything else calls it LS10.
    if !product.replace('_', "").eq_ignore_ascii_case(&chip.replace('_', "")) {
        return Err((Code::RimProduct, format!("{id} is for {product}, the device is a {chip}")));
    }
    Ok(verified)
}
