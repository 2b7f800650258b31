//! What no other test of whole appraisals shows: single bits of the attributes, and collateral of Intel's form that does not
//! fit the quote. The numbers are rows of `PITFALLS.md`.

use serde_json::{Value, json};

use super::scene::{NOW, Scene, platform};
use crate::{
    EvidenceBundle, Hex48, Policy, Purpose, TdxQuote,
    codes::Code,
    policy::{ListedImages, TcbStatus},
};

type Edit = fn(&mut Value);

fn nothing(_: &mut Value) {}

/// Evidence with collateral that is signed like any other and says something else.
fn judged(scene: &mut Scene, tcb_info: Edit, qe_identity: Edit) -> crate::Verdict {
    let mut bundle = scene.evidence(Purpose::Identity);
    let collateral = scene.platform.odd_collateral(NOW, &tcb_info, &qe_identity);
    bundle.collateral = Some(collateral.expect("signs"));
    scene.appraise(&bundle, Purpose::Identity).verdict
}

#[test]
fn collateral_must_be_of_the_machine_and_its_parts() {
    let accepted = judged(&mut Scene::new(), nothing, nothing);
    assert!(accepted.is_accepted(), "{}", accepted.render());
    let cases: [(&str, Code, Edit, Edit); 18] = [
        (
            "9: signer of the module",
            Code::QuoteSignature,
            |t| {
                t["tdxModuleIdentities"][0]["mrsigner"] = "11".repeat(48).into();
                t["tdxModule"]["mrsigner"] = "11".repeat(48).into();
            },
            nothing,
        ),
        (
            "9: attributes of the module",
            Code::QuoteSignature,
            |t| {
                t["tdxModuleIdentities"][0]["attributes"] = "0100000000000000".into();
                t["tdxModule"]["attributes"] = "0100000000000000".into();
            },
            nothing,
        ),
        (
            "10: module of no listed identity",
            Code::QuoteSignature,
            |t| {
                t["tdxModuleIdentities"][0]["id"] = "TDX_02".into();
            },
            nothing,
        ),
        (
            "22: platform out of date",
            Code::TcbStatus,
            |t| {
                t["tcbLevels"][0]["tcbStatus"] = "OutOfDate".into();
            },
            nothing,
        ),
        (
            "22: platform revoked",
            Code::TcbStatus,
            |t| {
                t["tcbLevels"][0]["tcbStatus"] = "Revoked".into();
            },
            nothing,
        ),
        (
            "22: platform below every level",
            Code::TcbStatus,
            |t| {
                t["tcbLevels"][0]["tcb"]["pcesvn"] = 60_000.into();
            },
            nothing,
        ),
        (
            "10: module below every level",
            Code::TcbStatus,
            |t| {
                t["tdxModuleIdentities"][0]["tcbLevels"] = json!([{
                    "tcb": { "isvsvn": 200 }, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate",
                }]);
            },
            nothing,
        ),
        (
            "22: needs hardening",
            Code::TcbStatus,
            |t| {
                t["tcbLevels"][0]["tcbStatus"] = "SWHardeningNeeded".into();
            },
            nothing,
        ),
        (
            "22: a status of the future",
            Code::QuoteSignature,
            |t| {
                t["tcbLevels"][0]["tcbStatus"] = "Excellent".into();
            },
            nothing,
        ),
        (
            "23: advisory",
            Code::TcbAdvisory,
            |t| {
                t["tcbLevels"][0]["advisoryIDs"] = json!(["SIMULATED-SA-00002"]);
            },
            nothing,
        ),
        ("24: quoting enclave out of date", Code::TcbStatus, nothing, |q| {
            q["tcbLevels"][0]["tcbStatus"] = "OutOfDate".into();
        }),
        ("24: quoting enclave below every level", Code::TcbStatus, nothing, |q| {
            q["tcbLevels"][0]["tcb"]["isvsvn"] = 5.into();
        }),
        ("25: signer of the quoting enclave", Code::QuoteSignature, nothing, |q| {
            q["mrsigner"] = "22".repeat(32).into();
        }),
        ("25: another enclave of the signer", Code::QuoteSignature, nothing, |q| {
            q["isvprodid"] = 3.into();
        }),
        ("25: attributes of the quoting enclave", Code::QuoteSignature, nothing, |q| {
            q["attributes"] = "13000000000000000000000000000000".into();
        }),
        ("34: PCEID", Code::QuoteSignature, |t| t["pceId"] = "0001".into(), nothing),
        (
            "34: no PCEID",
            Code::QuoteSignature,
            |t| {
                t.as_object_mut().expect("an object").remove("pceId");
            },
            nothing,
        ),
        (
            "another kind of machine",
            Code::QuoteSignature,
            |t| {
                t["fmspc"] = "511D00000001".into();
            },
            nothing,
        ),
    ];
    for (what, code, tcb_info, qe_identity) in cases {
        let verdict = judged(&mut Scene::new(), tcb_info, qe_identity);
        assert!(!verdict.is_accepted(), "{what}\n{}", verdict.render());
        assert!(verdict.has(code), "{what}: {}\n{}", code.as_str(), verdict.render());
        assert!(code == Code::QuoteSignature || !verdict.has(Code::QuoteSignature), "{what}");
    }
}

/// The laxest policy that is written down: what it lists is admitted, and nothing makes a revoked platform good.
#[test]
fn a_policy_admits_statuses_by_name() {
    let with = |status: &'static str| {
        let mut scene = Scene::new();
        scene.policy =
            Policy::by_name("dev", &ListedImages::default()).expect("is").expect("reads");
        let mut bundle = scene.evidence(Purpose::Identity);
        let edit = |t: &mut Value| t["tcbLevels"][0]["tcbStatus"] = status.into();
        let collateral = scene.platform.odd_collateral(NOW, &edit, &|_| {}).expect("signs");
        bundle.collateral = Some(collateral);
        scene.appraise(&bundle, Purpose::Identity).verdict
    };
    for status in ["UpToDate", "OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded"] {
        assert!(with(status).is_accepted(), "{status}\n{}", with(status).render());
    }
    assert!(!with("Revoked").is_accepted());
    // Row 14: another module runs than the one that started the VM.
    assert_eq!(Policy::strict().rules.tcb_statuses, [TcbStatus::UpToDate]);
}

/// Rows 1 to 8: every bit of the attributes and of XFAM is on a list or refused.
#[test]
fn attributes_are_lists_of_bits() {
    let mut scene = Scene::new();
    let quote = TdxQuote::parse(&scene.evidence(Purpose::Identity).quote.0).expect("parses");
    let code = |change: &dyn Fn(&mut TdxQuote)| {
        let mut quote = quote.clone();
        change(&mut quote);
        let checks = quote.check_attributes().and_then(|()| quote.check_xfam());
        checks.err().map(|error| error.entry())
    };
    assert_eq!(code(&|_| {}), None);
    for bit in 0..64 {
        let expected = match bit {
            0 => Some(Code::QuoteDebug),
            16 | 27 | 28 | 30 => None,
            _ => Some(Code::QuoteAttributes),
        };
        assert_eq!(code(&|q| q.attributes |= 1 << bit), expected, "attribute {bit}");
        let harmless = matches!(bit, 0..=2 | 5..=7 | 9 | 11 | 12 | 14 | 17..=19);
        let expected = (!harmless).then_some(Code::QuoteXfam);
        assert_eq!(code(&|q| q.xfam |= 1 << bit), expected, "XFAM {bit}");
    }
    assert_eq!(code(&|q| q.attributes &= !(1 << 28)), Some(Code::QuoteAttributes));
    for bit in [0, 1] {
        assert_eq!(code(&|q| q.xfam &= !(1 << bit)), Some(Code::QuoteXfam));
    }
    let service = |value| move |q: &mut TdxQuote| q.mr_service_td = Some(value);
    assert_eq!(code(&service(Hex48::ZERO)), None);
    assert_eq!(code(&service(crate::FixedHex([1; 48]))), Some(Code::ServiceTd));
}

/// Row 19: the chain in collateral is the sender's choice and is not read.
#[test]
fn the_chain_in_the_quote_counts() {
    let mut scene = Scene::new();
    let good = scene.evidence(Purpose::Identity);
    let expected = scene.appraise(&good, Purpose::Identity).verdict;
    for chain in [String::new(), "no certificate".to_owned(), "x".repeat(10_000)] {
        let mut bundle = good.clone();
        bundle.collateral.as_mut().expect("collateral").pck_certificate_chain = Some(chain);
        assert_eq!(scene.appraise(&bundle, Purpose::Identity).verdict, expected);
    }
}

/// A simulated platform in the clothes of a real one: whatever it is called, its root is not Intel's.
#[test]
fn simulated_evidence_stays_so_under_any_name() {
    let mut scene = Scene::new();
    let good = scene.evidence(Purpose::Offer);
    type Dress = (&'static str, fn(&mut EvidenceBundle));
    let dressed: [Dress; 4] = [
        ("image", |b| b.image.name = "intel".into()),
        ("collateral of another", |b| {
            b.collateral = Some(platform(2).collateral(NOW).expect("collateral"));
        }),
        ("issuer chains of nobody", |b| {
            let collateral = b.collateral.as_mut().expect("collateral");
            collateral.tcb_info_issuer_chain.clear();
        }),
        ("no collateral", |b| b.collateral = None),
    ];
    for (what, dress) in dressed {
        let mut bundle = good.clone();
        dress(&mut bundle);
        let given = scene.appraise(&bundle, Purpose::Offer).verdict;
        assert!(given.simulated, "{what}");
        let mut real = Scene::new();
        real.anchors = crate::Anchors::default();
        let verdict = real.appraise(&bundle, Purpose::Offer).verdict;
        assert!(!verdict.is_accepted(), "{what}");
        let affirmed = verdict.finding("hardware").is_some();
        assert!(!affirmed, "{what}: {}", verdict.render());
    }
    let text = String::from_utf8(good.to_bytes().expect("writes")).expect("text");
    for extra in ["\"simulated\":false,", "\"trust_root\":\"intel\",", "\"anchor\":\"intel\","] {
        let changed = text.replacen('{', &format!("{{{extra}"), 1);
        let error = EvidenceBundle::parse(changed.as_bytes()).expect_err(extra);
        assert_eq!(error.entry(), Code::BundleUnreadable);
    }
}

/// Rows 13 and 45: the log of a boot may be missing, since its registers are compared whole; that of register 3 may not.
#[test]
fn registers_without_a_log_are_compared_whole() {
    let mut scene = Scene::new();
    let good = scene.evidence(Purpose::Offer);
    let mut bundle = good.clone();
    bundle.event_log.events.retain(|event| event.imr == 3);
    let verdict = scene.appraise(&bundle, Purpose::Offer).verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    let finding = verdict.finding("event-log").expect("judged");
    assert_eq!((finding.value.as_str(), finding.anchor.as_str()), ("1 events", "RTMR3"));
    for register in 0..3 {
        let mut other = scene.references.clone();
        let row = &mut other[0].registers[0];
        let rtmr0 = row.rtmr0.as_mut().expect("known");
        let value = [rtmr0, &mut row.rtmr1, &mut row.rtmr2];
        value.into_iter().nth(register).expect("a register").0[0] ^= 1;
        let mut changed = Scene::new();
        changed.references = other;
        assert!(!changed.appraise(&bundle, Purpose::Offer).verdict.is_accepted(), "{register}");
    }
    // A part of a log is the log of no boot.
    for register in 0..3 {
        let mut part = good.clone();
        part.event_log.events.retain(|event| event.imr != register);
        let verdict = scene.appraise(&part, Purpose::Offer).verdict;
        assert!(!verdict.is_accepted() && verdict.has(Code::LogReplay), "without {register}");
    }
    bundle.event_log.events.clear();
    let verdict = scene.appraise(&bundle, Purpose::Offer).verdict;
    assert!(!verdict.is_accepted() && verdict.has(Code::LogReplay));
    assert!(verdict.has(Code::LogLaunchMissing), "{}", verdict.render());
}
