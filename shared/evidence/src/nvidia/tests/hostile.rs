//! Flips and cuts of everything that comes from outside: never a panic, never accepted.

use super::scene::Scene;
use crate::nvidia::{
    NvidiaCollateral, NvidiaEvidence,
    codes::Code,
    collateral::fuzz_nvidia_collateral,
    evidence::{MAX_EVIDENCE_BYTES, fuzz_nvidia_evidence},
    fuzz_nvidia_chain,
    ocsp::fuzz_nvidia_ocsp,
    rim::{VerifiedRim, fuzz_nvidia_rim},
    transcript::{Transcript, fuzz_nvidia_transcript},
};

/// Positions that look random and are the same in every run.
fn positions(length: usize, count: usize) -> impl Iterator<Item = (usize, u8)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state % length as u64).expect("small");
        (at, 1 << (state >> 60 & 7))
    })
}

#[test]
fn transcripts() {
    let scene = Scene::new(1);
    let leaf = scene.gpus[0].leaf.point();
    let bytes = scene.evidence(0).transcript.0;
    fuzz_nvidia_transcript(&bytes);
    let accepted =
        |bytes: &[u8]| Transcript::parse(bytes).is_ok_and(|read| read.is_signed_by(&leaf));
    assert!(accepted(&bytes));
    // Headers, the first blocks, and from the responder's nonce on: every byte.
    let tail = bytes.len() - 400;
    for at in (0..200).chain(tail..bytes.len()) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(!accepted(&flipped), "byte {at}");
        fuzz_nvidia_transcript(&flipped);
    }
    for (at, bit) in positions(bytes.len(), 400) {
        let mut flipped = bytes.clone();
        flipped[at] ^= bit;
        assert!(!accepted(&flipped), "byte {at}");
    }
    for length in 0..bytes.len() {
        assert!(!accepted(&bytes[..length]));
    }
}

#[test]
fn certificates() {
    let scene = Scene::new(1);
    let pem = scene.gpus[0].pem().into_bytes();
    fuzz_nvidia_chain(&pem);
    for der in &scene.gpus[0].chain {
        fuzz_nvidia_chain(der);
        for at in 0..der.len() {
            let mut flipped = der.clone();
            flipped[at] ^= 1 << (at % 8);
            fuzz_nvidia_chain(&flipped);
            fuzz_nvidia_chain(&der[..at]);
        }
    }
    for (at, bit) in positions(pem.len(), 200) {
        let mut flipped = pem.clone();
        flipped[at] ^= bit;
        fuzz_nvidia_chain(&flipped);
    }
}

#[test]
fn rim_files() {
    let scene = Scene::new(1);
    let root = scene.maker.roots().rim;
    let file = &scene.collateral.rims[0].file.0;
    fuzz_nvidia_rim(file);
    let accepted =
        |bytes: &[u8]| VerifiedRim::verify(bytes, &root, scene.time, &[]).map(|it| it.rim).ok();
    let rim = accepted(file).expect("verifies");
    for (at, bit) in positions(file.len(), 600) {
        let mut flipped = file.clone();
        flipped[at] ^= bit;
        // White space inside a tag may change without a change to the document.
        assert!(accepted(&flipped).is_none_or(|other| other == rim), "byte {at}");
        fuzz_nvidia_rim(&flipped);
    }
    for length in (0..file.len() - 1).step_by(37) {
        assert!(accepted(&file[..length]).is_none(), "{length} bytes");
        fuzz_nvidia_rim(&file[..length]);
    }
}

#[test]
fn evidence_documents() {
    let scene = Scene::new(1);
    let bytes = serde_json::to_vec(&scene.evidence(0)).expect("JSON");
    fuzz_nvidia_evidence(&bytes);
    assert!(scene.judge_bytes(&[("gpu-0", &bytes)]).verdict.is_accepted());
    let text = String::from_utf8(bytes.clone()).expect("text");
    for (code, changed) in [
        (Code::EvidenceUnreadable, text.replacen('{', "{\"debug\":true,", 1)),
        (Code::EvidenceUnreadable, text.replacen('{', "{\"version\":1,", 1)),
        (Code::EvidenceUnreadable, text.replace("\"prod\"", "\"test\"")),
        (Code::EvidenceUnreadable, text.replace(",\"mig\":\"off\"", "")),
        (Code::EvidenceUnreadable, "[]".to_owned()),
        (Code::EvidenceVersion, text.replacen("\"version\":1", "\"version\":2", 1)),
        (Code::EvidenceField, text.replacen("550.90.07", "550.90.07\\n", 1)),
        (Code::EvidenceField, text.replacen("\"gpu-0\"", "\"\"", 1)),
        (Code::EvidenceTooLong, " ".repeat(MAX_EVIDENCE_BYTES + 1)),
        (Code::VerdictInstead, "{\"claims\":[],\"detached_eat\":[]}".to_owned()),
        (Code::VerdictInstead, "[[\"JWT\",\"eyJ\"],{}]".to_owned()),
        (Code::VerdictInstead, "eyJhbGciOiJub25lIn0.eyJ9.".to_owned()),
        (Code::DeviceNameOther, text.replacen("gpu-0", "gpu-1", 1)),
    ] {
        assert_ne!(changed, text);
        let verdict = scene.judge_bytes(&[("gpu-0", changed.as_bytes())]).verdict;
        let finding = verdict.finding("gpu.0.evidence").expect("judged");
        assert_eq!(finding.code, Some(code.as_str()), "{}", verdict.render());
        assert!(!verdict.is_accepted());
        fuzz_nvidia_evidence(changed.as_bytes());
    }
    let whole = scene.evidence(0);
    for (at, bit) in positions(bytes.len(), 300) {
        let mut flipped = bytes.clone();
        flipped[at] ^= bit;
        let verdict = scene.judge_bytes(&[("gpu-0", &flipped)]).verdict;
        // A flip in a base64 line end or a letter's case may leave the document what it was.
        let same = NvidiaEvidence::parse(&flipped).is_ok_and(|read| {
            read.transcript == whole.transcript || read.vbios_version != whole.vbios_version
        });
        assert!(!verdict.is_accepted() || same, "byte {at}");
    }
    for length in (0..bytes.len()).step_by(101) {
        assert!(!scene.judge_bytes(&[("gpu-0", &bytes[..length])]).verdict.is_accepted());
    }
}

/// This text stays readable for ever.
#[test]
fn a_first_sample_reads() {
    let sample = concat!(
        r#"{"architecture":"hopper","cc":{"environment":"prod","feature":"on","gpus_ready":false,"multi_gpu":"none"},"#,
        r#""certificates":"AA==","device":"0000:41:00.0","driver_version":"550.90.07","mig":"off","transcript":"EeA=","#,
        r#""vbios_version":"96.00.9F.00.01","version":1,"virtualization":"pass-through"}"#
    );
    let evidence = NvidiaEvidence::parse(sample.as_bytes()).expect("reads");
    assert_eq!(evidence.to_bytes().expect("canonical"), sample.as_bytes());
}

#[test]
fn collateral_documents() {
    let scene = Scene::new(1);
    let bytes = scene.collateral.to_bytes().expect("canonical");
    fuzz_nvidia_collateral(&bytes);
    assert_eq!(NvidiaCollateral::parse(&bytes).expect("reads"), scene.collateral);
    let mut twice = scene.collateral.clone();
    twice.rims.push(twice.rims[0].clone());
    assert!(twice.to_bytes().is_err());
    let mut twice = scene.collateral.clone();
    twice.ocsp.push(twice.ocsp[0].clone());
    assert!(twice.to_bytes().is_err());
    let mut long = scene.collateral.clone();
    long.rims[0].file.0 = vec![0; 256 * 1024 + 1];
    assert_eq!(long.to_bytes().expect_err("too long").entry(), Code::CollateralUnreadable);
    for text in [
        "{}",
        "{\"version\":2,\"rims\":[],\"ocsp\":[]}",
        "{\"version\":1,\"rims\":[],\"ocsp\":[],\"x\":1}",
    ] {
        assert!(NvidiaCollateral::parse(text.as_bytes()).is_err(), "{text}");
    }
    let other = NvidiaCollateral::default().digest().expect("a digest");
    assert_ne!(scene.collateral.digest().expect("a digest"), other);
    for answer in &scene.collateral.ocsp {
        fuzz_nvidia_ocsp(&answer.response.0);
    }
}

proptest::proptest! {
    #[test]
    fn no_decoder_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        fuzz_nvidia_chain(&bytes);
        fuzz_nvidia_transcript(&bytes);
        fuzz_nvidia_rim(&bytes);
        fuzz_nvidia_ocsp(&bytes);
        fuzz_nvidia_evidence(&bytes);
        fuzz_nvidia_collateral(&bytes);
    }
}
