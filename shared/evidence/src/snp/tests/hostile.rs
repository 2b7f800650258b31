//! Hostile bytes: a report, its certificates and firmware with bytes changed, cut or made up never pass and never panic.

use proptest::prelude::*;

use super::{measurement::synthetic, scene::Scene, simulated::Plan};
use crate::snp::{
    SnpCollateral, SnpRules,
    certificates::fuzz_snp_certificates,
    codes::Code,
    collateral::MAX_SNP_COLLATERAL_BYTES,
    ovmf::fuzz_snp_ovmf,
    report::{ReportError, fuzz_snp_report, verify_signature},
};

#[test]
fn no_bit_of_a_signed_report_may_change_and_no_length_will_do() {
    let scene = Scene::new();
    let collateral = scene.plan.collateral();
    let report = scene.signed();
    for at in 0..report.len() {
        let mut flipped = report.clone();
        flipped[at] ^= 1 << (at % 8);
        let (verdict, judged) = scene.judge_parts(&flipped, Some(&collateral));
        assert!(judged.is_none() && !verdict.is_accepted(), "byte {at}\n{}", verdict.render());
    }
    for end in 0..report.len() {
        let verdict = scene.judge_parts(&report[..end], Some(&collateral)).0;
        assert!(verdict.has(Code::ReportLength), "{end}");
    }
    let longer = [report, vec![0]].concat();
    assert!(scene.judge_parts(&longer, Some(&collateral)).0.has(Code::ReportLength));
}

#[test]
fn no_byte_of_certificates_or_list_may_change_and_no_length_will_do() {
    let scene = Scene::new();
    let good = scene.plan.collateral();
    let report = scene.signed();
    assert!(scene.judge_parts(&report, Some(&good)).0.is_accepted());
    let parts: [fn(&mut SnpCollateral) -> &mut Vec<u8>; 4] = [
        |c| &mut c.ark.0,
        |c| &mut c.ask.0,
        |c| &mut c.vek.0,
        |c| &mut c.crl.as_mut().expect("a list").0,
    ];
    for part in parts {
        let length = part(&mut good.clone()).len();
        for at in 0..length {
            let mut bad = good.clone();
            part(&mut bad)[at] ^= 1 << (at % 8);
            let verdict = scene.judge_parts(&report, Some(&bad)).0;
            assert!(!verdict.is_accepted(), "byte {at}\n{}", verdict.render());
            part(&mut bad).truncate(at);
            assert!(!scene.judge_parts(&report, Some(&bad)).0.is_accepted(), "cut at {at}");
        }
        let mut bad = good.clone();
        part(&mut bad).push(0);
        assert!(!scene.judge_parts(&report, Some(&bad)).0.is_accepted());
    }
}

#[test]
fn collateral_is_bounded_closed_and_has_one_digest() {
    let good = Plan::default().collateral();
    let bytes = good.to_bytes().expect("writes");
    let read = SnpCollateral::parse(&bytes).expect("reads");
    assert_eq!(read, good);
    assert_eq!(read.digest().ok(), good.digest().ok());
    let spaced = serde_json::to_vec_pretty(&good).expect("JSON");
    let spaced = SnpCollateral::parse(&spaced).expect("need not be canonical");
    assert_eq!(spaced.digest().ok(), good.digest().ok());
    let mut other = good.clone();
    other.crl = None;
    assert_ne!(other.digest().ok(), good.digest().ok());
    let text = String::from_utf8(bytes).expect("text");
    for bad in [
        text.replacen("{", "{\"root\":\"\",", 1),
        text.replace("\"version\":1", "\"version\":2"),
        text.replacen("{", "{\"version\":1,", 1),
        text.replace("\"ark\"", "\"ARK\""),
        " ".repeat(MAX_SNP_COLLATERAL_BYTES + 1),
    ] {
        let error = SnpCollateral::parse(bad.as_bytes()).expect_err("refused");
        assert_eq!(error.entry(), Code::CollateralUnreadable);
    }
    let mut long = good;
    long.vek.0.resize(9000, 0);
    assert!(long.check_bounds().is_err());
    let scene = Scene::new();
    assert!(scene.judge_parts(&scene.signed(), Some(&long)).0.has(Code::CollateralUnreadable));
}

/// A file of version 1 reads for ever, and is named by the same digest.
#[test]
fn a_file_of_version_1_keeps_its_digest() {
    let text = r#"{"version":1,"ark":"AQ==","ask":"Ag==","vek":"Aw==","crl":"BA=="}"#;
    let collateral = SnpCollateral::parse(text.as_bytes()).expect("reads");
    let digest = collateral.digest().expect("a digest").to_string();
    assert_eq!(digest, "79a47feb5f084446bc1439ff6bb796bfa08a923f7d75a31e35613e94c13b1039");
    let canonical = r#"{"ark":"AQ==","ask":"Ag==","crl":"BA==","vek":"Aw==","version":1}"#;
    assert_eq!(collateral.to_bytes().expect("writes"), canonical.as_bytes());
}

/// The simulated chain's keys sign for no real product, whatever the rules say.
#[test]
fn the_simulated_chain_is_nothing_to_amds_roots() {
    let mut scene = Scene::new();
    scene.roots = Some(crate::snp::Roots::amd());
    scene.rules = SnpRules { min_report_version: 2, ..SnpRules::default() };
    let (verdict, judged) = scene.judge_parts(&scene.signed(), Some(&scene.plan.collateral()));
    assert!(judged.is_none() && verdict.has(Code::RootUnknown));
}

type Fuzz = fn(&[u8]);

fn documents() -> Vec<(Fuzz, Vec<u8>)> {
    let collateral = Plan::default().collateral();
    vec![
        (fuzz_snp_report, Scene::new().signed()),
        (fuzz_snp_certificates, collateral.to_bytes().expect("writes")),
        (fuzz_snp_certificates, collateral.vek.0.clone()),
        (fuzz_snp_certificates, collateral.crl.expect("a list").0),
        (fuzz_snp_ovmf, synthetic(2, true)),
    ]
}

#[test]
fn decoders_hold_their_invariants_on_good_documents_and_their_parts() {
    for (fuzz, document) in documents() {
        fuzz(&document);
        for end in (0..document.len()).step_by(document.len() / 60 + 1) {
            fuzz(&document[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn decoders_hold_their_invariants_on_changed_documents(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        noise in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        for (fuzz, mut document) in documents() {
            for (index, byte) in &changes {
                let at = index.index(document.len());
                document[at] = *byte;
            }
            fuzz(&document);
            fuzz(&noise);
        }
    }
}

/// Found by fuzzing: bytes that nobody parsed before.
#[test]
fn a_signature_of_other_lengths_is_refused() {
    for length in [0, 1, 671, 672, 720, 1183, 1185, 1860, 5000] {
        for fill in [0, 1] {
            let error = verify_signature(&vec![fill; length], &[4; 97]).expect_err("no report");
            assert_eq!(error, ReportError::Length(length));
        }
    }
}
