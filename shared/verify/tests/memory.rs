//! The memory of collateral, with a quote of real hardware: only such a one is remembered.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use sealtune_evidence::{
    Collateral, anchor::INTEL_ROOT_KEY_ID, base64_bytes::Base64Bytes, quote::without_padding,
};
use sealtune_verify::{Failure, Surroundings};
use serde_json::Value;

use desk::{Folder, vector};
use scene::{Boot, JOB, OFFER_NONCE};

/// When the collateral was valid.
const THEN: u64 = 1_772_708_331;

/// An offer around a real quote: its own parts do not belong to it, and its collateral does.
fn files() -> Option<Folder> {
    let report = vector("tdx/gpu-vm-local-sgx.quote-report.json")?;
    let collateral = vector("tdx/gpu-vm-local-sgx.collateral.json")?;
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let quote = hex::decode(report["quote"].as_str().expect("hex")).expect("hex");
    let mut offer = Boot::new(1).offer();
    offer.quote = Base64Bytes(without_padding(&quote).expect("a quote").to_vec());
    offer.collateral = Some(Collateral::parse(&collateral).expect("collateral"));
    Some(Folder::with(&offer))
}

/// The findings about the memory: claim, status and code.
fn remembered(files: &Folder, memory: &Path, rest: &str) -> Result<Value, Failure> {
    let line = format!(
        "evidence @offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} --json \
         --reference @reference.json {rest}"
    );
    let memory = memory.to_owned();
    let surroundings = Surroundings { memory: Some(&memory), ..Surroundings::offline(THEN) };
    let report = files.run(&line, &surroundings)?;
    Ok(serde_json::from_str(&report.stdout).expect("JSON"))
}

fn finding(verdict: &Value) -> (String, String) {
    let claims = verdict["claims"].as_array().expect("claims");
    let found: Vec<_> =
        claims.iter().filter(|claim| claim["claim"] == "collateral-memory").collect();
    let [one] = found.as_slice() else { return ("none".into(), String::new()) };
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("code"))
}

fn is(status: &str, code: &str) -> (String, String) {
    (status.to_owned(), code.to_owned())
}

#[test]
fn what_was_seen_of_real_machines_may_not_fall() {
    let Some(files) = files() else { return };
    let memory = files.path().join("state/sealtune/memory.json");
    let see = |rest: &str| remembered(&files, &memory, rest).expect("judges");
    assert_eq!(finding(&see("--no-memory")), is("unknown", "ST-COLL-14"));
    assert!(!memory.exists());
    for _ in 0..2 {
        assert_eq!(finding(&see("")), is("affirming", ""));
    }
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&memory), 0o600);
    assert_eq!(mode(memory.parent().expect("a folder")), 0o700);

    let kept = fs::read_to_string(&memory).expect("reads");
    let value: Value = serde_json::from_str(&kept).expect("JSON");
    let numbers = value["roots"][INTEL_ROOT_KEY_ID.to_string()].clone();
    for (path, code) in [
        ("/tcb_evaluation/90c06f000000", "ST-COLL-05"),
        ("/qe_evaluation", "ST-COLL-06"),
        ("/root_crl", "ST-COLL-07"),
        ("/pck_crl/platform", "ST-COLL-08"),
    ] {
        let mut raised = numbers.clone();
        let number = raised.pointer_mut(path).expect(path);
        *number = (number.as_u64().expect("a number") + 1).into();
        let mut whole = value.clone();
        whole["roots"][INTEL_ROOT_KEY_ID.to_string()] = raised;
        fs::write(&memory, whole.to_string()).expect("writes");
        assert_eq!(finding(&see("")), is("contraindicated", code));
        let after: Value =
            serde_json::from_slice(&fs::read(&memory).expect("reads")).expect("JSON");
        assert_eq!(after, whole, "what was seen stays");
    }

    // At another time nothing is held against the memory, at the clock it is.
    let both = see("--at 2026-03-05T10:58:51Z");
    assert_eq!(finding(&both["at"]), is("unknown", "ST-COLL-13"));
    assert_eq!(finding(&both["now"]), is("contraindicated", "ST-COLL-08"));
}

#[test]
fn a_memory_that_cannot_be_used_is_no_judgement() {
    let Some(files) = files() else { return };
    let memory = files.path().join("memory.json");
    for (text, code) in [("", "ST-COLL-09"), ("{\"roots\":{},\"version\":2}", "ST-COLL-10")] {
        fs::write(&memory, text).expect("writes");
        let failure = remembered(&files, &memory, "").expect_err(text);
        assert_eq!((failure.code(), failure.exit_code()), (code, 2));
        assert_eq!(fs::read_to_string(&memory).expect("reads"), text, "nothing was forgotten");
    }
    fs::write(&memory, "").expect("writes");
    let below_a_file = memory.join("memory.json");
    let failure = remembered(&files, &below_a_file, "").expect_err("no folder");
    assert_eq!((failure.code(), failure.exit_code()), ("ST-VRFY-08", 3));
    // The command line's file comes before the default.
    let other = files.path().join("other.json");
    let line = format!("--memory {}", other.display());
    assert!(remembered(&files, &memory, &line).is_ok() && other.exists());
}
