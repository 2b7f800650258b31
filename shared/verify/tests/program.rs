//! The program's commands on real files: outcomes, exits and what is printed.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::fs;

use sealtune_seal::commitment::Opening;
use sealtune_verify::{Failure, Report, Surroundings};

use desk::Folder;
use scene::{Boot, DATASET, JOB, NOW, OFFER_NONCE, OWNER_NONCE, RESULT, commitment_key, job};

/// A directory with everything that a verifier has.
fn files() -> Folder {
    let boot = Boot::new(1);
    let files = Folder::with(&boot.offer());
    let write = |name: &str, bytes: &[u8]| files.write(name, bytes);
    write("receipt.json", &job().1.to_bytes().expect("writes"));
    write("root.pem", boot.platform.root_pem().as_bytes());
    write("result", RESULT);
    write("empty", b"");
    let opening = Opening::new(&commitment_key(), "dataset", DATASET);
    write("opening.json", &serde_json::to_vec(&opening).expect("writes"));
    write("policy.toml", b"simulated_root = \"root.der\"\n");
    files
}

fn verify(files: &Folder, line: &str) -> Result<Report, Failure> {
    files.run(line, &Surroundings::offline(NOW))
}

fn offer_line(rest: &str) -> String {
    format!(
        "evidence @offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} --reference @reference.json {rest}"
    )
}

#[test]
fn an_offer_is_accepted_with_its_root_only() {
    let files = files();
    for root in ["@root.der", "@root.pem"] {
        let report = verify(&files, &offer_line(&format!("--simulated-root {root}")));
        let report = report.expect("judges");
        assert!(report.accepted, "{}", report.stdout);
        assert!(report.stdout.ends_with("SIMULATED ACCEPTED\n"));
    }
    let report = verify(&files, &offer_line("")).expect("judges");
    assert!(!report.accepted && report.stdout.contains("ST-EVID-57"), "{}", report.stdout);
    assert!(report.stdout.ends_with("REJECTED\n"));
}

#[test]
fn the_readme_shows_what_is_printed() {
    let files = files();
    let report = verify(&files, &offer_line("--simulated-root @root.der")).expect("judges");
    assert!(include_str!("../README.md").contains(&report.stdout), "{}", report.stdout);
}

#[test]
fn policies_have_names() {
    let files = files();
    let line = |rest: &str| offer_line(&format!("--simulated-root @root.der {rest}"));
    for name in ["strict", "0g", "dev"] {
        let report = verify(&files, &line(&format!("--policy {name}"))).expect("judges");
        assert!(report.accepted && report.stdout.contains(&format!("policy {name} (sha256 ")));
    }
    let unfilled = verify(&files, &line("--policy dstack")).expect_err("lists nothing");
    assert_eq!((unfilled.exit_code(), unfilled.code()), (2, "ST-EVID-83"));
    let digest = "22".repeat(32);
    let filled = format!("--policy dstack --compose-hash {digest} --os-image {digest}");
    let report = verify(&files, &line(&filled)).expect("judges");
    assert!(report.stdout.contains("policy dstack (sha256 "));
    let unread = verify(&files, &line(&format!("--os-image {digest}")));
    assert_eq!(unread.expect_err("strict reads no such list").exit_code(), 2);
    let unknown = verify(&files, &line("--policy lax")).expect_err("no file");
    assert_eq!((unknown.exit_code(), unknown.code()), (2, "ST-VRFY-12"));
    assert!(unknown.fix().contains("strict, dstack, 0g"), "{}", unknown.fix());
}

#[test]
fn a_program_without_a_client_says_so() {
    let files = files();
    let failure = verify(&files, &offer_line("--collateral fetch")).expect_err("no client");
    assert_eq!((failure.exit_code(), failure.code()), (2, "ST-VRFY-09"));
}

#[test]
fn the_answer_is_one_json_object() {
    let files = files();
    let line = offer_line("--simulated-root @root.der --json");
    let report = verify(&files, &line).expect("judges");
    let value: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!(value["outcome"], "accepted");
    assert_eq!(value["simulated"], true);
    assert!(value["claims"].as_array().is_some_and(|claims| claims.len() > 10));
}

#[test]
fn a_receipt_with_its_opening_and_result() {
    let files = files();
    let line = format!(
        "receipt @receipt.json --nonce {OWNER_NONCE} --job {JOB} --reference @reference.json \
         --simulated-root @root.der --opening @opening.json --result @result"
    );
    let report = verify(&files, &line).expect("judges");
    assert!(report.accepted, "{}", report.stdout);
    assert!(report.stdout.contains("opening.dataset"));
    let other = verify(&files, &line.replace("@result", "@empty")).expect("judges");
    assert!(!other.accepted && other.stdout.contains("ST-RCPT-28"));
}

#[test]
fn exits_say_whose_fault_it_is() {
    let files = files();
    let exit = |line: &str| verify(&files, line).expect_err(line);
    let hostile_policy = exit(&offer_line("--simulated-root @root.der --policy @policy.toml"));
    assert_eq!((hostile_policy.exit_code(), hostile_policy.code()), (2, "ST-EVID-96"));
    let empty_references = exit(&offer_line("").replace("@reference.json", "@empty"));
    assert_eq!(empty_references.exit_code(), 2);
    let no_evidence = exit(&offer_line("").replace("@offer.json", "@empty"));
    assert_eq!((no_evidence.exit_code(), no_evidence.code()), (1, "ST-EVID-32"));
    let missing = exit(&offer_line("").replace("@offer.json", "@nowhere"));
    assert_eq!((missing.exit_code(), missing.code()), (3, "ST-VRFY-01"));
    let bad_root = exit(&offer_line("--simulated-root @result"));
    assert_eq!((bad_root.exit_code(), bad_root.code()), (2, "ST-VRFY-03"));
    for failure in [hostile_policy, empty_references, no_evidence, missing, bad_root] {
        assert!(!failure.fix().is_empty(), "{failure}");
        let value: serde_json::Value = serde_json::from_str(&failure.to_json()).expect("JSON");
        assert_eq!(value["error"]["code"], failure.code());
    }
}

#[test]
fn measure_makes_the_reference_values_that_the_judge_needs() {
    let files = files();
    let write = |name: &str, text: &str| fs::write(files.path().join(name), text).expect("writes");
    write("firmware", "firmware");
    let values = scene::references();
    let row = values.registers[0];
    let kernel = serde_json::to_string(&values.kernel).expect("JSON");
    let initramfs = serde_json::to_string(&values.initramfs).expect("JSON");
    let event =
        |name: &str, payload: &[u8]| sealtune_evidence::event_log::event_digest(name, payload);
    let image = format!(
        r#"{{"version":1,"release":"0.1.0","profile":"dev","cmdline":"{}","kernel":{kernel},"initramfs":{initramfs},
        "simulated_layout_1":{{"rtmr1":"{}","rtmr2":"{}","events":[
        {{"register":1,"name":"kernel","digest":"{}"}},{{"register":2,"name":"cmdline","digest":"{}"}},
        {{"register":2,"name":"initramfs","digest":"{}"}}]}}}}"#,
        values.cmdline,
        row.rtmr1,
        row.rtmr2,
        event("kernel", &values.kernel.sha384.0),
        event("cmdline", values.cmdline.as_bytes()),
        event("initramfs", &values.initramfs.sha384.0),
    );
    write("reference-values.json", &image);
    let line = "measure --image @. --firmware @firmware --vcpus 2 --memory-mib 2048";
    let report = verify(&files, line).expect("measures");
    let made = sealtune_evidence::ReferenceValues::parse(report.stdout.as_bytes());
    assert_eq!(made.expect("reads"), values);

    write("reference-values.json", &image.replace(&row.rtmr2.to_string(), &row.rtmr1.to_string()));
    assert_eq!(verify(&files, line).expect_err("contradicts itself").code(), "ST-EVID-73");
}

#[test]
fn explains_every_code() {
    let files = files();
    for entry in sealtune_verify::all_codes() {
        let report = verify(&files, &format!("explain {}", entry.code)).expect(entry.code);
        assert!(report.stdout.contains(entry.cause) && report.stdout.contains(entry.fix));
        assert!(!entry.cause.is_empty() && !entry.fix.is_empty());
    }
    assert_eq!(verify(&files, "explain ST-NONE-00").expect_err("unknown").exit_code(), 2);
    let all = verify(&files, "explain --json").expect("lists").stdout;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&all).expect("an array");
    assert_eq!(rows.len(), sealtune_verify::all_codes().count());
}

#[test]
fn completions_for_every_shell() {
    let files = files();
    for shell in ["bash", "zsh", "fish"] {
        let report = verify(&files, &format!("completions {shell}")).expect("prints");
        assert!(report.stdout.contains("sealtune-verify"));
    }
}
