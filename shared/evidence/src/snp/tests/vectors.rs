//! Reports and certificates of real hardware, from vectors beside the checkout.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::scene::verdict_of;
use crate::{
    FixedHex, Hex32, Hex48, Purpose, Verdict,
    snp::{
        Addresses, Product, Report, Roots, Rule, SnpAnchor, SnpCollateral, SnpContext,
        SnpExpectation, SnpRules, Tcb, codes::Code, report::REPORT_BYTES, rules::MinimumTcb,
        verify_chain,
    },
};

/// 2026-09-01: within the validity of every certificate among the vectors.
const AT: u64 = 1_788_220_800;
const DAY: u64 = 86_400;

/// The bytes of a vector, or why the test is skipped.
pub(super) fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    let path = root.join("snp").join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

fn hex_vector(name: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8(vector(name)?).expect("text");
    Some(hex::decode(text.trim()).expect("hex"))
}

/// The report in dstack's file follows four bytes of its header.
fn dstack_report() -> Option<Vec<u8>> {
    let file: Value =
        serde_json::from_slice(&vector("dstack-sev-snp-attestation.json")?).expect("JSON");
    let bytes = hex::decode(file["attestation"].as_str().expect("hex")).expect("hex");
    Some(bytes[4..4 + REPORT_BYTES].to_vec())
}

fn pem(name: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8(vector(name)?).expect("text");
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Some(STANDARD.decode(body.trim()).expect("base64"))
}

fn milan(vek: &[u8]) -> Option<SnpCollateral> {
    let chain = vector("cert_chain_milan")?;
    Some(SnpCollateral::from_service(&chain, vek, None).expect("AMD's answers"))
}

/// Tolerates what these reports lack, and nothing else: old version, SMT, no list, host's ACPI, aliases.
fn rules(report: &Report) -> SnpRules {
    let of = |version: crate::snp::TcbVersion| version.of(Product::Milan).expect("Milan's layout");
    SnpRules {
        min_report_version: 2,
        minimum_tcb: vec![MinimumTcb {
            product: Product::Milan,
            reported: of(report.reported_tcb),
            committed: of(report.committed_tcb),
            launch: of(report.launch_tcb),
        }],
        revocation_list: Rule::Wished,
        no_smt: Rule::Wished,
        alias_check: Rule::Wished,
        measured_acpi: Rule::Wished,
        measured_job_start: Rule::Wished,
        ..SnpRules::default()
    }
}

fn verdict_at(
    bytes: &[u8],
    collateral: &SnpCollateral,
    rules: &SnpRules,
    now: u64,
) -> (Verdict, Option<crate::snp::SnpJudged>) {
    let report = Report::parse(bytes).expect("a report");
    let expectation = SnpExpectation {
        purpose: Purpose::Identity,
        report_data: report.report_data,
        host_data: report.host_data,
        measurements: &[report.measurement],
    };
    let context = SnpContext { rules, roots: &Roots::amd(), now };
    verdict_of(bytes, Some(collateral), &expectation, &context)
}

#[test]
fn a_milan_report_of_version_2_verifies_and_is_of_a_vm_without_host_data() {
    let (Some(bytes), Some(vek)) = (hex_vector("report_milan.hex"), vector("vcek_milan.der"))
    else {
        return;
    };
    let collateral = milan(&vek).expect("the chain is beside it");
    let report = Report::parse(&bytes).expect("a report");
    assert_eq!((report.version, report.policy.0, report.vmpl), (2, 0x3_0000, 0));
    assert!(report.measurement.to_string().starts_with("7a1e5c266c0108db"));
    assert_eq!(report.cpu, None);
    let (verdict, judged) = verdict_at(&bytes, &collateral, &rules(&report), AT);
    let judged = judged.expect("verifies");
    assert_eq!(judged.anchor, SnpAnchor::Amd(Product::Milan));
    assert_eq!(judged.anchor.to_string(), "amd:milan");
    let required: Vec<_> = verdict
        .claims
        .iter()
        .filter(|f| f.required && f.status != crate::Status::Affirming)
        .filter_map(|f| f.code)
        .collect();
    assert_eq!(required, [Code::HostDataZero.as_str()], "{}", verdict.render());
    let strict = verdict_at(&bytes, &collateral, &SnpRules::default(), AT).0;
    for code in [Code::ReportVersionLow, Code::Smt, Code::AliasCheck, Code::CrlMissing] {
        assert!(strict.has(code), "{}\n{}", code.as_str(), strict.render());
    }
    for now in [1_680_000_000, 1_950_000_000, u64::MAX] {
        let verdict = verdict_at(&bytes, &collateral, &rules(&report), now).0;
        assert!(verdict.has(Code::CertificateTime), "at {now}\n{}", verdict.render());
    }
}

#[test]
fn a_report_with_an_identity_block_verifies_under_its_own_certificate_only() {
    let (Some(bytes), Some(good), Some(bad), Some(other)) = (
        vector("test-report.bin"),
        vector("test-vcek.der"),
        vector("test-vcek-invalid-legacy.der"),
        vector("vcek_milan.der"),
    ) else {
        return;
    };
    let report = Report::parse(&bytes).expect("a report");
    assert_eq!((report.version, report.policy.abi(), report.guest_svn), (2, (0, 31), 4));
    let rules = rules(&report);
    let judge = |vek: &[u8]| verdict_at(&bytes, &milan(vek).expect("chain"), &rules, AT);
    let (verdict, judged) = judge(&good);
    assert!(judged.is_some() && verdict.has(Code::IdKey), "{}", verdict.render());
    let (verdict, judged) = judge(&bad);
    assert!(judged.is_none() && verdict.has(Code::CertificateSignature), "{}", verdict.render());
    let (verdict, judged) = judge(&other);
    assert!(judged.is_none() && verdict.has(Code::ReportSignature), "{}", verdict.render());
}

#[test]
fn dstacks_report_of_version_3_is_accepted_with_what_it_says() {
    let (Some(bytes), Some(ask), Some(vek)) =
        (dstack_report(), pem("sev_snp_ask.pem"), pem("sev_snp_vcek.pem"))
    else {
        return;
    };
    let chain = milan(&vek).expect("the chain is beside it");
    assert_eq!(chain.ask.0, ask, "the ASK in both places is AMD's one ASK for Milan");
    let report = Report::parse(&bytes).expect("a report");
    assert_eq!(Product::of_cpu(report.cpu.expect("version 3")), Some(Product::Milan));
    assert!(report.platform.alias_check_complete());
    let mut rules = rules(&report);
    rules.min_report_version = 3;
    rules.alias_check = Rule::Required;
    let (verdict, judged) = verdict_at(&bytes, &chain, &rules, AT);
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(!judged.expect("verifies").anchor.is_simulated());
    let tcb = Tcb { fmc: None, boot_loader: 4, tee: 0, snp: 23, microcode: 213 };
    assert_eq!(verdict.finding("tcb").map(|f| f.value.clone()), Some(tcb.to_string()));
    // Issued on 2026-06-17: judged a day earlier it is not yet valid.
    let early = verdict_at(&bytes, &chain, &rules, 1_781_658_304 - DAY).0;
    assert!(early.has(Code::CertificateTime), "{}", early.render());
    let other = SnpRules { vmpl: 1, ..rules };
    assert!(verdict_at(&bytes, &chain, &other, AT).0.has(Code::Vmpl));
    let wrong = SnpExpectation {
        purpose: Purpose::Identity,
        report_data: [0; 64],
        host_data: Hex32::ZERO,
        measurements: &[Hex48::ZERO],
    };
    let context = SnpContext { rules: &other, roots: &Roots::amd(), now: AT };
    let verdict = verdict_of(&bytes, Some(&chain), &wrong, &context).0;
    for code in [Code::ReportData, Code::HostData, Code::MeasurementUnknown] {
        assert!(verdict.has(code), "{}", verdict.render());
    }
}

#[test]
fn turins_chain_verifies_and_fits_no_milan_report() {
    let (Some(chain), Some(vek), Some(bytes), Some(milans)) = (
        vector("cert_chain_turin"),
        vector("vcek_turin.der"),
        hex_vector("report_milan.hex"),
        vector("vcek_milan.der"),
    ) else {
        return;
    };
    let turin = SnpCollateral::from_service(&chain, &vek, None).expect("AMD's answers");
    let verified = verify_chain(&turin, &Roots::amd(), AT).expect("verifies");
    assert_eq!(verified.anchor(), SnpAnchor::Amd(Product::Turin));
    let says = verified.vek().says();
    let tcb = Tcb { fmc: Some(0), boot_loader: 0, tee: 0, snp: 0, microcode: 9 };
    assert_eq!(says.tcb, tcb);
    let chip = says.chip_id.expect("a VCEK");
    assert_eq!(hex::encode(&chip[..8]), "1e550a8ee5cf9f4d");
    assert!(chip[8..].iter().all(|byte| *byte == 0));
    let report = Report::parse(&bytes).expect("a report");
    let (verdict, judged) = verdict_at(&bytes, &turin, &rules(&report), AT);
    assert!(judged.is_none() && verdict.has(Code::ReportSignature));
    // Parts of two products do not make one chain.
    let mixed = SnpCollateral::from_service(&chain, &milans, None).expect("within bounds");
    let error = verify_chain(&mixed, &Roots::amd(), AT).expect_err("mixed");
    assert_eq!(error.entry(), Code::CertificateSignature);
    let swapped = SnpCollateral { ark: milan(&vek).expect("chain").ark, ..turin };
    let error = verify_chain(&swapped, &Roots::amd(), AT).expect_err("swapped");
    assert_eq!(error.entry(), Code::CertificateSignature);
}

/// As AMD's service spells them.
#[test]
fn addresses_of_what_verifies_a_report() {
    let Some(bytes) = hex_vector("report_milan.hex") else { return };
    let report = Report::parse(&bytes).expect("a report");
    let addresses = Addresses::of(&report, Product::Milan).expect("shows its chip");
    assert_eq!(addresses.chain, "https://kdsintf.amd.com/vcek/v1/Milan/cert_chain");
    assert_eq!(addresses.crl, "https://kdsintf.amd.com/vcek/v1/Milan/crl");
    let vcek = addresses.vcek.expect("a VCEK");
    let chip = hex::encode(report.chip_id);
    let expected = format!(
        "https://kdsintf.amd.com/vcek/v1/Milan/{chip}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115"
    );
    assert_eq!(vcek, expected);
    let masked = Report { chip_key_masked: true, ..report.clone() };
    assert!(Addresses::of(&masked, Product::Milan).is_err());
    let turin = Report { reported_tcb: crate::snp::TcbVersion([1, 2, 3, 4, 0, 0, 0, 5]), ..report };
    let vcek = Addresses::of(&turin, Product::Turin).expect("shows its chip").vcek;
    let expected = format!(
        "https://kdsintf.amd.com/vcek/v1/Turin/{}?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=05",
        &chip[..16]
    );
    assert_eq!(vcek, Some(expected));
    let vlek = Report { signing_key: crate::snp::SigningKey::Vlek, ..turin };
    let addresses = Addresses::of(&vlek, Product::Turin).expect("needs no chip");
    assert_eq!(addresses.vcek, None);
    assert_eq!(addresses.crl, "https://kdsintf.amd.com/vlek/v1/Turin/crl");
}

/// Every byte of a real report's signed part and signature, and every byte of its certificates.
#[test]
fn no_byte_of_real_evidence_may_change() {
    let (Some(bytes), Some(vek)) = (dstack_report(), pem("sev_snp_vcek.pem")) else { return };
    let collateral = milan(&vek).expect("the chain is beside it");
    let chain = verify_chain(&collateral, &Roots::amd(), AT).expect("verifies");
    assert_eq!(chain.vek().verify_report(&bytes), Ok(()));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(chain.vek().verify_report(&flipped).is_err(), "byte {at}");
    }
    let parts: [fn(&mut SnpCollateral) -> &mut Vec<u8>; 3] =
        [|c| &mut c.ark.0, |c| &mut c.ask.0, |c| &mut c.vek.0];
    for part in parts {
        for at in 0..part(&mut collateral.clone()).len() {
            let mut flipped = collateral.clone();
            part(&mut flipped)[at] ^= 1 << (at % 8);
            assert!(verify_chain(&flipped, &Roots::amd(), AT).is_err(), "byte {at}");
        }
    }
    assert_eq!(FixedHex(chain.vek().says().chip_id.expect("a VCEK")).0, bytes[0x1a0..0x1e0]);
}
