//! Whether the GPU runs a release of NVIDIA's: its measurements against the two RIMs that its report names.

use super::{GpuQuestion, device::Claims};
use crate::{
    nvidia::{
        chain::DeviceChain,
        codes::Code,
        compare::compare,
        evidence::{Architecture, NvidiaEvidence},
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

/// The names of the two RIM files, from what the GPU signed.
pub(super) fn rim_ids(
    opaque: &Opaque,
    architecture: Architecture,
) -> Result<[(RimKind, String); 2], OpaqueError> {
    let driver = opaque.driver_version()?;
    let driver = match architecture {
        Architecture::Hopper => format!("NV_GPU_DRIVER_GH100_{driver}"),
        Architecture::Blackwell => {
            let chip = opaque.chip_info()?.unwrap_or(BLACKWELL_CHIP);
            format!("NV_GPU_CC_DRIVER_{chip}_{driver}")
        }
    };
    let vbios = format!(
        "NV_GPU_VBIOS_{}_{}_{}_{}",
        opaque.project()?,
        opaque.project_sku()?,
        opaque.chip_sku()?,
        opaque.vbios_version()?.replace('.', "")
    );
    Ok([(RimKind::Driver, driver), (RimKind::Vbios, vbios.to_ascii_uppercase())])
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
    evidence: &NvidiaEvidence,
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
    evidence: &NvidiaEvidence,
    transcript: &Transcript<'_>,
    chain: &DeviceChain<'_>,
    rims: &mut Vec<VerifiedRim>,
) -> Result<String, Fault> {
    let opaque = &transcript.opaque;
    let fault = |error: OpaqueError| (error.entry(), error.to_string());
    let driver_version = opaque.driver_version().map_err(fault)?;
    let vbios_version = opaque.vbios_version().map_err(fault)?;
    for (said, signed) in
        [(&evidence.driver_version, driver_version), (&evidence.vbios_version, &vbios_version)]
    {
        if !said.eq_ignore_ascii_case(signed) {
            return Err((Code::VersionOther, format!("stated {said}, signed {signed}")));
        }
    }
    let chip = opaque.chip_info().map_err(fault)?.unwrap_or(chain.chip);
    let mut missing = None;
    for (kind, id) in rim_ids(opaque, evidence.architecture).map_err(fault)? {
        let Some(file) = question.collateral.rim(&id) else {
            missing = missing.or(Some((Code::FirmwareUnknown, id)));
            continue;
        };
        let signed = match kind {
            RimKind::Driver => driver_version,
            RimKind::Vbios => &vbios_version,
        };
        rims.push(verify_rim(question, &id, file, signed, chip)?);
    }
    if let Some(missing) = missing {
        return Err(missing);
    }
    let [driver, vbios] = rims.as_slice() else {
        return Err((Code::FirmwareUnknown, String::new()));
    };
    let nvdec0 = opaque.nvdec0().map_err(fault)?;
    let compared = compare(&transcript.measurements, &driver.rim, &vbios.rim, nvdec0)
        .map_err(|error| (error.entry(), error.to_string()))?;
    Ok(format!(
        "driver {driver_version}, VBIOS {vbios_version}, {} measurements, {} skipped",
        compared.matched, compared.skipped
    ))
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
        return Err((Code::RimVersion, format!("{id} is for {found}, the GPU signed {version}")));
    }
    if !product.eq_ignore_ascii_case(chip) {
        return Err((Code::RimProduct, format!("{id} is for {product}, the GPU is a {chip}")));
    }
    Ok(verified)
}
