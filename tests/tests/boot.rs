//! A VM answers, is shown, outlives its daemon, and stops in order.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::process::Command;

use sealtune_tests::{BOOT, Daemon, Options, SOON, Stage, ask, stage_or_skip, tell, until};

#[test]
fn a_vm_boots_outlives_its_daemon_and_stops() {
    let stage = stage_or_skip!();
    let mut daemon = Daemon::start(&stage, Options::default());

    let started = daemon.operator(&["vm", "start"]).json();
    let name = started["vm"].as_str().expect("a name").to_owned();
    daemon.vm_becomes(&name, &["ready"]);
    // What the agent says of itself comes with its first sign of life after that.
    let vm = until(SOON, "the agent says how much memory it has", || {
        let vm = daemon.vm(&name);
        vm["resident_kib"].is_u64().then_some(vm)
    });
    let resident = vm["resident_kib"].as_u64().expect("a size");
    println!("ready after {} ms, agent {resident} KiB", vm["ready_ms"]);
    assert!(resident < 8 << 10, "{vm}");
    assert_eq!(vm["accelerator"], "tcg", "{vm}");
    assert_eq!(vm["instance"].as_str().map(str::len), Some(64), "{vm}");
    assert!(!daemon.console(&name).is_empty(), "a dev image writes to its console");
    assert_eq!(daemon.vms().len(), 1);
    let machine = daemon.qemu_pids();
    assert_eq!(machine.len(), 1);

    // A second daemon on the same state would run every job twice.
    let second = tell(daemon.serve_command().arg("--json"));
    second.is_refusal(3, "ST-STORE-02");
    assert_eq!(daemon.vm(&name)["state"], "ready");

    daemon.kill();
    assert_eq!(daemon.qemu_pids(), machine, "the VM outlives its daemon");
    daemon.start_again();
    let again = daemon.vm_becomes(&name, &["ready"]);
    assert_eq!(again["instance"], vm["instance"], "it is the same boot");
    assert_eq!(daemon.qemu_pids(), machine);
    assert_eq!(daemon.vms().len(), 1);

    strangers_ask(&stage, &daemon);

    daemon.operator(&["vm", "stop", &name]).json();
    let stopped = daemon.vm_becomes(&name, &["stopped"]);
    assert!(stopped["failure"].is_null(), "{stopped}");
    until(SOON, "QEMU is gone", || daemon.qemu_pids().is_empty().then_some(()));
    daemon.operator(&["vm", "rm", &name]).json();
    assert!(daemon.vms().is_empty());
}

/// Anybody may ask what runs here, in any number of ways and not any number of times.
fn strangers_ask(stage: &Stage, daemon: &Daemon) {
    let provider = daemon.provider();
    let nonce = "5a".repeat(32);
    let challenge = |purpose: &str| {
        let body = format!(r#"{{"nonce":"{nonce}","purpose":"{purpose}"}}"#);
        ask(&provider, "POST", "/v1/attestation", body.as_bytes())
    };
    for purpose in ["identity", "offer"] {
        let said = challenge(purpose);
        assert_eq!(said.status, 200, "{purpose}: {}", said.json());
        let file = daemon.folder().join(format!("{purpose}.json"));
        std::fs::write(&file, &said.body).expect("the evidence is kept");
        let judge = |nonce: &str, purpose: &str| {
            let mut verify = Command::new(&stage.verify);
            verify.arg("evidence").arg(&file).args(["--nonce", nonce, "--purpose", purpose]);
            verify.arg("--reference").arg(&stage.reference).arg("--simulated-root");
            tell(verify.arg(daemon.simulated_root()).arg("--json"))
        };
        let accepted = judge(&nonce, purpose);
        assert_eq!(accepted.exit, 0, "{accepted}");
        assert_eq!(judge(&"5b".repeat(32), purpose).exit, 1, "another's nonce");
        let other = if purpose == "offer" { "identity" } else { "offer" };
        assert_eq!(judge(&nonce, other).exit, 1, "another purpose");
    }
    // The same by our own program, into the directory that it is called in.
    for purpose in ["identity", "offer"] {
        let mut attest = Command::new(&stage.sealtune);
        attest.current_dir(daemon.folder()).args(["attest", "--provider", &provider]);
        attest.args(["--purpose", purpose, "--state-dir", "customer", "--json", "--reference"]);
        attest.arg(&stage.reference).arg("--simulated-root").arg(daemon.simulated_root());
        let attested = tell(&mut attest);
        assert_eq!(attested.exit, 0, "{attested}");
        assert_eq!(attested.json()["purpose"], purpose, "{attested}");
        assert!(daemon.folder().join("evidence.json").exists());
    }
    // The VM keeps half of the offers that it remembers for owners.
    let more = (0..12).map(|_| challenge("offer")).find(|said| said.status != 200);
    let refused = more.expect("somebody is sent away");
    assert_eq!((refused.status, refused.code().as_str()), (429, "ST-API-09"));
    assert!(refused.retry_after.is_some_and(|seconds| seconds > 60), "{refused:?}");

    let no_job = format!("/v1/job/{}/evidence/start", "00".repeat(16));
    let cases: [(&str, &str, &[u8], u16, &str); 6] = [
        ("POST", "/v1/attestation", b"{", 400, "ST-API-01"),
        ("POST", "/v1/attestation", br#"{"nonce":"00"}"#, 400, "ST-API-01"),
        ("GET", "/v1/attestation", b"", 405, "ST-API-01"),
        ("GET", "/v1/job/x/evidence/start", b"", 400, "ST-API-01"),
        ("GET", &no_job, b"", 404, "ST-API-04"),
        ("GET", "/v1/nothing", b"", 404, "ST-API-04"),
    ];
    for (method, path, body, status, code) in cases {
        let said = ask(&provider, method, path, body);
        assert_eq!((said.status, said.code().as_str()), (status, code), "{method} {path}");
    }
}

#[test]
fn a_vm_whose_machine_dies_has_failed() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let started = daemon.operator(&["vm", "start"]).json();
    let name = started["vm"].as_str().expect("a name").to_owned();
    until(BOOT, "a machine runs", || (daemon.kill_qemu() == 1).then_some(()));
    let failed = daemon.vm_becomes(&name, &["failed"]);
    assert!(failed["failure"].as_str().is_some_and(|why| !why.is_empty()), "{failed}");
    // There is room for the next one.
    daemon.operator(&["vm", "start"]).json();
}
