//! Quotes of real hardware, from vectors beside the checkout and from the `dcap-qvl` package.

use std::path::PathBuf;

use serde_json::Value;

use super::scene::{NONCE, Scene};
use crate::{
    Anchor, Anchors, Collateral, EvidenceBundle, Expectation, ImageIdentity, JudgeTime, Purpose,
    TdxQuote, Tee, anchor::verify_quote, base64_bytes::Base64Bytes, codes::Code,
    event_log::EventLog, quote::without_padding,
};

pub(super) const UP_TO_DATE_AT: u64 = 1_772_708_331;

/// The bytes of a vector, or why the test is skipped.
pub(super) fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    let path = root.join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

pub(super) fn quote_of(report: &[u8], field: &str) -> Vec<u8> {
    let report: Value = serde_json::from_slice(report).expect("JSON");
    hex::decode(report[field].as_str().expect("hex")).expect("hex")
}

/// The padded quote of a report, and collateral of that day for its kind of machine.
fn recorded(report: &str) -> Option<(Vec<u8>, Collateral)> {
    let collateral = vector("tdx/gpu-vm-local-sgx.collateral.json")?;
    let collateral = Collateral::parse(&collateral).expect("collateral");
    Some((quote_of(&vector(report)?, "quote"), collateral))
}

#[test]
fn a_real_quote_is_up_to_date_at_its_time_and_no_longer_later() {
    let Some((padded, collateral)) = recorded("tdx/gpu-vm-local-sgx.quote-report.json") else {
        return;
    };
    assert_eq!(TdxQuote::parse(&padded).expect_err("padding").entry(), Code::QuoteTrailing);
    let quote = without_padding(&padded).expect("zero padding");
    let verified =
        verify_quote(quote, &collateral, &Anchors::default(), UP_TO_DATE_AT).expect("verifies");
    assert_eq!(verified.anchor, Anchor::Intel);
    assert_eq!(verified.platform.tcb.status.to_string(), "UpToDate");
    let parsed = TdxQuote::parse(quote).expect("parses");
    assert!(parsed.mrtd.to_string().starts_with("b24d3b24e9e3c160"));
    assert!(parsed.rtmr[3].to_string().starts_with("0f787c3877f3e950"));
    assert_eq!(parsed.check_attributes(), Ok(()));
    assert_eq!(parsed.check_xfam(), Ok(()));

    let later = verify_quote(quote, &collateral, &Anchors::default(), UP_TO_DATE_AT + 60 * 86_400);
    assert_eq!(later.expect_err("expired").entry(), Code::CollateralTime);
    let mut flipped = quote.to_vec();
    flipped[600] ^= 1;
    let error = verify_quote(&flipped, &collateral, &Anchors::default(), UP_TO_DATE_AT);
    assert_eq!(error.expect_err("flipped").entry(), Code::QuoteSignature);
}

/// The quote with another end behind its last certificate, and every length around it as it must be then.
fn with_end(quote: &[u8], end: &[u8]) -> Vec<u8> {
    const CERTIFICATE: &[u8] = b"-----END CERTIFICATE-----";
    let last = quote.windows(CERTIFICATE.len()).rposition(|part| part == CERTIFICATE);
    let cut = last.expect("certificates") + CERTIFICATE.len();
    let first = quote.windows(5).position(|part| part == b"-----").expect("certificates");
    let mut bytes = [&quote[..cut], end].concat();
    let length = bytes.len();
    // Of all signature data, behind header and body; of the certification data, behind signature and key; of the chain.
    for at in [632, 632 + 4 + 128 + 2, first - 4] {
        let rest = u32::try_from(length - at - 4).expect("short");
        bytes[at..at + 4].copy_from_slice(&rest.to_le_bytes());
    }
    bytes
}

#[test]
fn real_quotes_have_one_of_four_ends_and_nothing_behind_it() {
    let Some((padded, collateral)) = recorded("tdx/gpu-vm-local-sgx.quote-report.json") else {
        return;
    };
    let quote = without_padding(&padded).expect("zero padding");
    let verify = |quote: &[u8]| {
        verify_quote(quote, &collateral, &Anchors::default(), UP_TO_DATE_AT)
            .map(|verified| verified.anchor)
            .map_err(|error| error.entry())
    };
    assert_eq!(with_end(quote, b"\n\0"), quote, "what Intel's library writes");
    for end in [&b"\n\0"[..], b"\n", b"\0", b""] {
        assert_eq!(verify(&with_end(quote, end)), Ok(Anchor::Intel), "{end:?}");
    }
    for end in [&b"\0\0"[..], b"\n\n", b"\0\n", b"\r\n", b" ", b"\n\0\0", b"\n-----"] {
        assert_eq!(verify(&with_end(quote, end)), Err(Code::QuoteSignature), "{end:?}");
    }
}

#[test]
fn another_systems_vm_is_genuine_hardware_and_still_refused() {
    let Some((padded, collateral)) = recorded("tdx/gpu-vm-local-sgx.quote-report.json") else {
        return;
    };
    let mut scene = Scene::new();
    let bundle = EvidenceBundle {
        version: 1,
        tee: Tee::Tdx,
        quote: Base64Bytes(without_padding(&padded).expect("zero padding").to_vec()),
        event_log: EventLog::default(),
        collateral: Some(collateral),
        image: ImageIdentity { name: "other".into(), version: "1".into() },
        ..scene.evidence(Purpose::Identity)
    };
    scene.time = JudgeTime::At(UP_TO_DATE_AT);
    let expectation = Expectation::new(Purpose::Identity, Some(NONCE));
    let verdict = scene.appraise_for(&bundle, &expectation).verdict;
    assert_eq!(verdict.finding("quote").map(|f| f.value.as_str()), Some("intel"));
    assert!(!verdict.simulated, "the anchor is Intel's, whatever root was given besides");
    assert!(!verdict.is_accepted());
    for code in [Code::ReportData, Code::LogReplay, Code::FirmwareUnknown, Code::LaunchZero] {
        assert!(verdict.has(code), "{}\n{}", code.as_str(), verdict.render());
    }
}

#[test]
fn an_out_of_date_platform_verifies_and_is_refused_by_policy() {
    let Some((padded, collateral)) = recorded("tdx/gpu-vm-kms.llm-attestation-report.json") else {
        return;
    };
    let quote = without_padding(&padded).expect("zero padding");
    let verified = verify_quote(quote, &collateral, &Anchors::default(), UP_TO_DATE_AT)
        .expect("signatures verify");
    assert_eq!(verified.platform.tcb.status.to_string(), "OutOfDate");
    assert!(verified.platform.tcb.advisory_ids.contains(&"INTEL-SA-01036".to_owned()));
    let mut scene = Scene::new();
    let bundle = EvidenceBundle {
        quote: Base64Bytes(quote.to_vec()),
        collateral: Some(collateral),
        ..scene.evidence(Purpose::Identity)
    };
    scene.time = JudgeTime::At(UP_TO_DATE_AT);
    assert!(scene.appraise(&bundle, Purpose::Identity).verdict.has(Code::TcbStatus));
}

#[test]
fn a_debug_vm_is_refused() {
    let Some(quote) = vector("tdx/debug-td.quote.bin") else { return };
    let parsed = TdxQuote::parse(&quote).expect("parses, no padding");
    assert_eq!(parsed.check_attributes().expect_err("debug").entry(), Code::QuoteDebug);
    let mut scene = Scene::new();
    let bundle = EvidenceBundle { quote: Base64Bytes(quote), ..scene.evidence(Purpose::Identity) };
    let verdict = scene.appraise(&bundle, Purpose::Identity).verdict;
    assert!(verdict.has(Code::QuoteDebug) && !verdict.is_accepted());
}

/// The samples of the package that we verify with, where cargo has unpacked it.
fn sample(name: &str) -> Option<Vec<u8>> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let sources = std::fs::read_dir(home.join("registry/src")).ok()?;
    let found = sources.flatten().find_map(|index| {
        std::fs::read(index.path().join("dcap-qvl-0.7.1/sample").join(name)).ok()
    });
    if found.is_none() {
        println!("skipped: no sample {name}");
    }
    found
}

#[test]
fn samples_of_versions_four_and_five_verify_and_sgx_does_not() {
    for (name, version, at) in
        [("tdx_quote", 4, 1_751_624_163), ("tdx_quote_td15ex", 5, 1_792_714_186)]
    {
        let (Some(padded), Some(collateral)) =
            (sample(name), sample(&format!("{name}_collateral.json")))
        else {
            return;
        };
        let quote = without_padding(&padded).expect("zero padding");
        let collateral = Collateral::parse(&collateral).expect("collateral");
        let verified = verify_quote(quote, &collateral, &Anchors::default(), at).expect("verifies");
        assert_eq!(verified.anchor, Anchor::Intel);
        assert_eq!(verified.platform.tcb.status.to_string(), "UpToDate");
        assert_eq!(TdxQuote::parse(quote).expect("parses").version, version);
    }
    if let Some(quote) = sample("sgx_quote") {
        assert_eq!(TdxQuote::parse(&quote).expect_err("SGX").entry(), Code::QuoteNotTdx);
    }
}
