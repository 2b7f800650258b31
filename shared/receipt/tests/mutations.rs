//! Receipts with a byte, a digest or a part changed: never a panic, never accepted.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::time::{SystemTime, UNIX_EPOCH};

use ring::signature::Ed25519KeyPair;
use scene::{Boot, JOB, NOW, OWNER_NONCE, SPEC, completed, job};
use sealtune_evidence::{Anchors, Context, EvidenceBundle, JudgeTime, Policy, Verdict};
use sealtune_receipt::{Code, Envelope, ReceiptPackage, Request, verify_package};
use serde_json::Value;

struct Verifier {
    anchors: Anchors,
    references: [sealtune_evidence::ReferenceValues; 1],
    policy: Policy,
    request: Request,
}

impl Verifier {
    fn new() -> Self {
        let root = Boot::new(1).platform.root_der();
        Self {
            anchors: Anchors { simulated_root: Some(root), ..Anchors::default() },
            references: [scene::references()],
            policy: Policy::strict(),
            request: Request {
                nonce: Some(OWNER_NONCE),
                job: Some(JOB),
                spec: Some(SPEC),
                ..Request::default()
            },
        }
    }

    fn judge(&self, package: &ReceiptPackage) -> Verdict {
        let context = Context {
            policy: &self.policy,
            references: &self.references,
            anchors: &self.anchors,
            collateral: None,
            snp_collateral: None,
            gpu_collateral: None,
            time: JudgeTime::Now(NOW),
        };
        verify_package(package, &self.request, &context).verdict
    }

    fn refuses(&self, package: &ReceiptPackage, what: &str) -> Verdict {
        let verdict = self.judge(package);
        assert!(!verdict.is_accepted(), "{what}\n{}", verdict.render());
        verdict
    }
}

/// A seed that is printed; another one with `SEALTUNE_SEED`.
fn positions(length: usize, count: usize, random: bool) -> impl Iterator<Item = (usize, u8)> {
    let given = std::env::var("SEALTUNE_SEED").ok().and_then(|text| text.parse().ok());
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let seed: u64 = given.unwrap_or_else(|| if random { clock() } else { 0x5ea1_7a3e });
    println!("seed: SEALTUNE_SEED={seed}");
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (usize::try_from(state % length as u64).expect("a position"), 1 << (state >> 60 & 7))
    })
}

fn flips(count: usize, random: bool) {
    let verifier = Verifier::new();
    let (_, package) = job();
    let expected = verifier.judge(&package);
    assert!(expected.is_accepted());
    let text = package.to_bytes().expect("writes");
    for (at, bit) in positions(text.len(), count, random) {
        let mut flipped = text.clone();
        flipped[at] ^= bit;
        if let Ok(read) = ReceiptPackage::parse(&flipped) {
            let verdict = verifier.judge(&read);
            // What nothing reads (the sender's name for its image) may differ.
            let same = verdict == expected;
            assert!(!verdict.is_accepted() || same, "byte {at} ^ {bit:#x}\n{}", verdict.render());
        }
        assert!(ReceiptPackage::parse(&text[..at]).is_err(), "cut at {at}");
    }
}

fn parts(step: usize) {
    type Part = (&'static str, fn(&mut ReceiptPackage) -> &mut Vec<u8>);
    let verifier = Verifier::new();
    let (_, package) = job();
    let parts: [Part; 8] = [
        ("payload", |p| &mut p.statement.0.payload.0),
        ("signature", |p| &mut p.statement.0.signatures[0].sig.0),
        ("quote of the receipt", |p| &mut p.evidence.receipt.quote.0),
        ("claims of the receipt", |p| &mut p.evidence.receipt.claims.0),
        ("quote of the start", |p| &mut p.evidence.start.quote.0),
        ("claims of the start", |p| &mut p.evidence.start.claims.0),
        ("quote of the offer", |p| &mut p.evidence.offer.as_mut().expect("an offer").quote.0),
        ("claims of the offer", |p| &mut p.evidence.offer.as_mut().expect("an offer").claims.0),
    ];
    for (name, part) in parts {
        let length = part(&mut package.clone()).len();
        // Statement and claims are short.
        let step = if step > 1 && length < 2500 { 11 } else { step };
        for at in (0..length).step_by(step) {
            let mut flipped = package.clone();
            part(&mut flipped)[at] ^= 1 << (at % 8);
            verifier.refuses(&flipped, &format!("byte {at} of {name}"));
        }
        let mut cut = package.clone();
        part(&mut cut).pop();
        verifier.refuses(&cut, name);
    }
}

#[test]
fn a_changed_receipt_is_never_accepted() {
    flips(500, false);
    parts(199);
}

#[test]
#[ignore = "soak: every byte of the signed parts of a receipt, and 5000 positions of the file"]
fn every_byte_of_a_receipt_counts() {
    flips(5000, true);
    parts(1);
}

/// Each text of hex digits in a document, changed in its last digit.
fn with_one_digest_changed(
    value: &Value,
    path: &str,
    out: &mut Vec<(String, Value)>,
    whole: &Value,
) {
    match value {
        Value::String(text) => {
            let digits = text
                .split(':')
                .find(|part| part.len() >= 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let Some(digits) = digits else { return };
            let last = if digits.ends_with('0') { "1" } else { "0" };
            let other = format!("{}{last}", &digits[..digits.len() - 1]);
            let mut changed = whole.clone();
            *changed.pointer_mut(path).expect("is there") = text.replace(digits, &other).into();
            out.push((path.to_owned(), changed));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                with_one_digest_changed(item, &format!("{path}/{at}"), out, whole);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                with_one_digest_changed(value, &format!("{path}/{key}"), out, whole);
            }
        }
        _ => {}
    }
}

/// Every digest of the statement changed: as it is, signed again by the VM's own key, and signed by another key.
#[test]
fn no_digest_of_a_statement_can_be_another() {
    let verifier = Verifier::new();
    let (boot, package) = job();
    let payload: Value = serde_json::from_slice(&package.statement.0.payload.0).expect("JSON");
    let mut changed = Vec::new();
    with_one_digest_changed(&payload, "", &mut changed, &payload);
    let paths: Vec<_> = changed.iter().map(|(path, _)| path.as_str()).collect();
    for part in [
        "/subject/0/digest/sha256",
        "/predicate/job",
        "/predicate/spec",
        "/predicate/launch",
        "/predicate/previous",
        "/predicate/commitments/dataset",
        "/predicate/outcome/completed/result",
        "/predicate/image/verity",
        "/predicate/streams/log/last",
    ] {
        assert!(paths.contains(&part), "{part} is not among {paths:?}");
    }
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[0x42; 32]).expect("a key");
    for (path, value) in &changed {
        let bytes = sealtune_seal::canonical::to_vec(value).expect("canonical");
        let mut edited = package.clone();
        edited.statement.0.payload.0.clone_from(&bytes);
        let verdict = verifier.refuses(&edited, path);
        assert!(verdict.codes().any(|code| code == Code::SignatureInvalid.as_str()), "{path}");

        // The key is good for one statement only: its digest is in the evidence.
        edited.statement = Envelope::sign(bytes.clone(), &boot.key);
        let verdict = verifier.refuses(&edited, path);
        let payload = sealtune_evidence::Code::PayloadOther.as_str();
        assert!(verdict.codes().any(|code| code == payload), "{path}\n{}", verdict.render());

        edited.statement = Envelope::sign(bytes, &stranger);
        let verdict = verifier.refuses(&edited, path);
        assert!(verdict.codes().any(|code| code == Code::KeyOther.as_str()), "{path}");
    }
}

/// Another VM ran another attempt of the same job: whatever of its receipt is put into this one.
#[test]
fn no_part_of_another_vms_receipt_fits() {
    let verifier = Verifier::new();
    let (_, package) = job();
    let mut other = Boot::new(2);
    let offer = other.offer();
    let start = other.start(&offer);
    let statement = completed(&other, &start);
    let other = other.package(Some(offer), start, &statement);
    assert!(verifier.judge(&package).is_accepted() && verifier.judge(&other).is_accepted());
    type Splice = fn(&mut ReceiptPackage, &ReceiptPackage);
    let parts: [(&str, Splice); 4] = [
        ("statement", |p, o| p.statement = o.statement.clone()),
        ("offer", |p, o| p.evidence.offer.clone_from(&o.evidence.offer)),
        ("start", |p, o| p.evidence.start = o.evidence.start.clone()),
        ("receipt", |p, o| p.evidence.receipt = o.evidence.receipt.clone()),
    ];
    // Every choice of parts but none and all.
    for choice in 1..(1 << parts.len()) - 1 {
        let mut mixed = package.clone();
        let mut names = Vec::new();
        for (at, (name, splice)) in parts.iter().enumerate() {
            if choice >> at & 1 == 1 {
                splice(&mut mixed, &other);
                names.push(*name);
            }
        }
        verifier.refuses(&mixed, &names.join(", "));
    }
    // And within one bundle, field by field.
    type Field = (&'static str, fn(&mut EvidenceBundle, &EvidenceBundle));
    let fields: [Field; 2] = [
        ("quote", |b, o| b.quote = o.quote.clone()),
        ("claims", |b, o| b.claims = o.claims.clone()),
    ];
    for (name, splice) in fields {
        let mut mixed = package.clone();
        splice(&mut mixed.evidence.start, &other.evidence.start);
        verifier.refuses(&mixed, &format!("{name} of the start"));
        let mut mixed = package.clone();
        splice(&mut mixed.evidence.receipt, &other.evidence.receipt);
        verifier.refuses(&mixed, &format!("{name} of the receipt"));
    }
}

/// Without an offer nothing says what the owner released the job to: the verdict says so, and the start still counts.
#[test]
fn leaving_the_offer_out_hides_nothing_else() {
    let verifier = Verifier::new();
    let (_, mut package) = job();
    package.evidence.offer = None;
    let verdict = verifier.judge(&package);
    assert!(verdict.is_accepted() && verdict.codes().any(|it| it == Code::OfferAbsent.as_str()));
    package.evidence.start.quote.0[600] ^= 1;
    verifier.refuses(&package, "start");
}

/// A receipt as it was written when there was version 1; other tools read this file too (`tests/scripts/test_receipt.py`).
#[test]
fn the_sample_of_version_1_is_read_and_written_for_ever() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/receipt-v1.json");
    let sample = std::fs::read(path).unwrap_or_default();
    let (_, package) = job();
    let written = package.to_bytes().expect("writes");
    if std::env::var_os("SEALTUNE_WRITE_SAMPLES").is_some() {
        std::fs::write(path, &written).expect("writes");
        return;
    }
    let read = ReceiptPackage::parse(&sample).expect("reads");
    assert!(Verifier::new().judge(&read).is_accepted());
    assert!(sample == written, "the same receipt is written otherwise today");
}
