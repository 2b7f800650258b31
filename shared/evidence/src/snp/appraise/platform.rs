//! The machine: product, TCB, chip, and what the platform does for its VMs.

use ring::digest;

use super::{Code, Findings, Product, Report, Rule, SigningKey, SnpContext, VerifiedChain, unmet};
use crate::snp::{product::Tcb, report::FirmwareVersion};

pub(super) fn judge(
    report: &Report,
    chain: &VerifiedChain,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    judge_product(report, chain, context, findings);
    judge_key(report, chain, context, findings);
    judge_tcb(report, chain, context, findings);
    judge_firmware(report, context, findings);
    judge_chip(report, chain, context, findings);
    judge_features(report, context, findings);
}

/// The product follows from the root key; the processor that the report names must be one of it.
fn judge_product(
    report: &Report,
    chain: &VerifiedChain,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    const CLAIM: &str = "product";
    let product = chain.product();
    let lowest = context.rules.min_report_version;
    if report.version < lowest {
        let detail = format!("version {}, expected {lowest} or higher", report.version);
        findings.refuse(CLAIM, product.as_str(), Code::ReportVersionLow, detail);
        return;
    }
    let Some(cpu) = report.cpu else {
        let detail = format!("version {}", report.version);
        findings.warn(CLAIM, product.as_str(), Code::ReportVersionLow, detail);
        return;
    };
    let value =
        format!("family {:#x}, model {:#x}, stepping {}", cpu.family, cpu.model, cpu.stepping);
    if Product::of_cpu(cpu) == Some(product) {
        findings.affirm(CLAIM, value, chain.anchor().to_string(), "a processor of this product");
    } else {
        findings.refuse(CLAIM, value, Code::ProductOther, product.as_str());
    }
}

fn judge_key(
    report: &Report,
    chain: &VerifiedChain,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    const CLAIM: &str = "signing-key";
    let anchor = chain.anchor().to_string();
    match report.signing_key {
        SigningKey::Vcek => findings.affirm(CLAIM, "VCEK", anchor, "the chip's own key"),
        SigningKey::Vlek => {
            let provider = chain.vek().says().csp_id.as_deref().unwrap_or_default();
            let value = format!("VLEK of {provider}");
            if context.rules.cloud_providers.iter().any(|known| known == provider) {
                findings.affirm(CLAIM, value, anchor, "a cloud provider that you list");
            } else {
                findings.refuse(CLAIM, value, Code::VlekNotAllowed, "");
            }
        }
    }
}

fn judge_tcb(
    report: &Report,
    chain: &VerifiedChain,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    const CLAIM: &str = "tcb";
    let product = chain.product();
    let versions =
        [report.reported_tcb, report.committed_tcb, report.launch_tcb, report.current_tcb]
            .map(|version| version.of(product));
    let [Ok(reported), Ok(committed), Ok(launch), Ok(_)] = versions else {
        findings.refuse(CLAIM, "", Code::TcbForm, product.as_str());
        return;
    };
    let value = reported.to_string();
    let certified = chain.vek().says().tcb;
    if certified != reported {
        // Firmware can state any TCB, but sign with the key of its own only.
        findings.refuse(CLAIM, value, Code::TcbCertificate, format!("certified: {certified}"));
        return;
    }
    let Some(minimum) = context.rules.minimum_of(product) else {
        findings.refuse(CLAIM, value, Code::TcbNoMinimum, product.as_str());
        return;
    };
    let pairs: [(Tcb, Tcb, Code); 3] = [
        (reported, minimum.reported, Code::TcbReported),
        (committed, minimum.committed, Code::TcbCommitted),
        (launch, minimum.launch, Code::TcbLaunch),
    ];
    let mut low = false;
    for (found, lowest, code) in pairs {
        if !found.is_at_least(&lowest) {
            low = true;
            findings.refuse(CLAIM, found.to_string(), code, format!("lowest: {lowest}"));
        }
    }
    if !low {
        findings.affirm(
            CLAIM,
            value,
            chain.anchor().to_string(),
            "certified for this chip; reported, committed and launch TCB are what you ask for",
        );
    }
}

fn judge_firmware(report: &Report, context: &SnpContext<'_>, findings: &mut Findings) {
    const CLAIM: &str = "firmware-version";
    let (major, minor, build) = context.rules.min_firmware;
    let lowest = FirmwareVersion { major, minor, build };
    let value = report.committed.to_string();
    if report.committed < lowest {
        findings.refuse(CLAIM, value, Code::FirmwareLow, format!("lowest: {lowest}"));
    } else {
        findings.affirm(CLAIM, value, "report", "committed: the platform cannot go below it");
    }
}

/// Persistent machine identities are shown as digests only.
fn judge_chip(
    report: &Report,
    chain: &VerifiedChain,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    const CLAIM: &str = "platform";
    let rules = context.rules;
    let hidden = report.chip_id.iter().all(|byte| *byte == 0);
    let value = hex::encode(digest::digest(&digest::SHA256, &report.chip_id).as_ref());
    if report.chip_key_masked || hidden {
        // Half of it, or a list of chips to compare with, needs the id in any case.
        let needed = !hidden || !rules.chips.is_empty();
        let rule = if needed { Rule::Required } else { rules.chip_id };
        unmet(rule, CLAIM, "", Code::ChipMasked, findings);
        return;
    }
    // A VLEK is the same on many chips: its certificate names none.
    if chain.vek().says().chip_id.is_some_and(|certified| certified != report.chip_id) {
        findings.refuse(CLAIM, value, Code::ChipOther, "");
    } else if rules.chips.is_empty() {
        findings.warn(CLAIM, value, Code::ChipNotPinned, "");
    } else if rules.chips.iter().any(|pin| pin.to_string() == value) {
        findings.affirm(CLAIM, value, "policy", "one of the machines that you pinned");
    } else {
        findings.refuse(CLAIM, value, Code::ChipUnlisted, "");
    }
}

fn judge_features(report: &Report, context: &SnpContext<'_>, findings: &mut Findings) {
    let rules = context.rules;
    for (claim, holds, rule, code, text) in [
        (
            "alias-check",
            report.platform.alias_check_complete(),
            rules.alias_check,
            Code::AliasCheck,
            "no two addresses lead to the same memory",
        ),
        (
            "ciphertext-hiding",
            report.platform.hides_ciphertext(),
            rules.ciphertext_hiding,
            Code::CiphertextHiding,
            "the host sees no ciphertext",
        ),
    ] {
        if holds {
            findings.affirm(claim, "on", "report", text);
        } else {
            unmet(rule, claim, "off", code, findings);
        }
    }
    let unknown = report.platform.unknown_bits();
    if unknown != 0 {
        findings.warn("platform-features", format!("{unknown:#x}"), Code::PlatformBits, "");
    }
}
