//! A sealed job: nobody but its owner learns anything, and its receipt says so.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::{process::Command, time::Duration};

use sealtune_tests::{
    Customer, Daemon, Inputs, JOB, Job, Options, ask, assert_nowhere, stage_or_skip, tell,
};

const IN_DATASET: &str = "canary-dataset-5f1c9e77ab";
const IN_PARAMETERS: &str = "canary-parameters-90c4d2";
const IN_ENVIRONMENT: &str = "canary-environment-1be0";

#[test]
fn a_sealed_job_leaves_no_trace_and_its_receipt_is_accepted() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new(IN_DATASET);
    customer.has_model(&daemon, &inputs);
    let parameters = format!("{{\"note\": \"{IN_PARAMETERS}\"}}");
    let job = Job::sealed(&inputs, stage.script("canary.py")).with(&[
        "--params",
        &parameters,
        "--env",
        &format!("CANARY={IN_ENVIRONMENT}"),
    ]);
    let mut submission = customer.submits(&daemon, &job);
    let id = submission.job();
    let ended = submission.ends(JOB);
    assert_eq!(ended.exit, 0, "{ended}\n{}", daemon.log());
    // The owner reads his log while it runs.
    assert!(ended.stderr.contains(IN_DATASET), "{ended}");

    let (fetched, out) = customer.fetch(&daemon, &id, "result");
    let answer = fetched.json();
    assert_eq!(answer["verdict"]["outcome"], "accepted", "{fetched}");
    assert_eq!(answer["verdict"]["simulated"], true, "{fetched}");
    let stolen = std::fs::read_to_string(out.join("output_model/stolen.txt")).expect("the result");
    for secret in [IN_DATASET, IN_PARAMETERS, IN_ENVIRONMENT] {
        assert!(stolen.contains(secret), "the script had its inputs");
    }

    // Everything that the host has of it, but for the files of the customer's own.
    let looked = assert_nowhere(daemon.folder(), &[IN_DATASET, IN_PARAMETERS, IN_ENVIRONMENT]);
    println!("no canary in {} files, {} bytes", looked.files, looked.bytes);
    for vm in daemon.vms() {
        let console = daemon.console(vm["vm"].as_str().unwrap_or_default());
        assert!(!console.contains("canary-"), "{console}");
    }

    verified_by_anybody(&stage, &daemon, &customer, &id, &out);
    published_to_whoever_knows_the_job(&stage, &daemon, &customer, &id);
    opened_by_its_owner(&daemon, &customer, &id, &out);
}

fn verified_by_anybody(
    stage: &sealtune_tests::Stage,
    daemon: &Daemon,
    customer: &Customer,
    id: &str,
    out: &std::path::Path,
) {
    let record = customer.record(id);
    let nonce = record["terms"]["nonce"].as_str().expect("a nonce");
    let root = record["terms"]["image"]["verity_root"].as_str().expect("a root");
    let verify = |nonce: &str, with_root: bool| {
        let mut verify = Command::new(&stage.verify);
        verify.arg("receipt").arg(out.join("receipt.json")).args(["--json", "--job", id]);
        verify.args(["--nonce", nonce, "--layer", root]);
        verify.arg("--result").arg(out.join("result.sealed"));
        if with_root {
            customer.trusting(daemon, &mut verify);
        } else {
            verify.arg("--reference").arg(&stage.reference);
        }
        tell(&mut verify)
    };
    let accepted = verify(nonce, true);
    assert_eq!(accepted.exit, 0, "{accepted}");
    assert_eq!(accepted.json()["outcome"], "accepted", "{accepted}");
    // Somebody else's nonce, or hardware wanted: no.
    assert_eq!(verify(&"00".repeat(32), true).exit, 1);
    assert_eq!(verify(nonce, false).exit, 1);
}

/// A verifier who has neither key nor receipt, but the job's id and nonce.
fn published_to_whoever_knows_the_job(
    stage: &sealtune_tests::Stage,
    daemon: &Daemon,
    customer: &Customer,
    id: &str,
) {
    let record = customer.record(id);
    let nonce = record["terms"]["nonce"].as_str().expect("a nonce");
    let root = record["terms"]["image"]["verity_root"].as_str().expect("a root");
    for purpose in ["start", "receipt"] {
        let path = format!("/v1/job/{id}/evidence/{purpose}");
        let said = ask(&daemon.provider(), "GET", &path, b"");
        assert_eq!(said.status, 200, "{}", said.json());
        let file = daemon.folder().join(format!("published-{purpose}.json"));
        std::fs::write(&file, &said.body).expect("the evidence is kept");
        let mut verify = Command::new(&stage.verify);
        verify.arg("evidence").arg(&file).args(["--nonce", nonce, "--purpose", purpose]);
        verify.args(["--job", id, "--layer", root, "--json"]);
        customer.trusting(daemon, &mut verify);
        let judged = tell(&mut verify);
        assert_eq!(judged.exit, 0, "{judged}");
    }
    for (purpose, status) in [("offer", 400), ("x", 400)] {
        let path = format!("/v1/job/{id}/evidence/{purpose}");
        assert_eq!(ask(&daemon.provider(), "GET", &path, b"").status, status);
    }
}

fn opened_by_its_owner(daemon: &Daemon, customer: &Customer, id: &str, out: &std::path::Path) {
    let mut open = customer.command(&["receipt", "open", "--job", id, "--dir"]);
    open.arg(out);
    customer.trusting(daemon, &mut open);
    let opened = tell(&mut open).json();
    let text = |name: &str| {
        let found = opened.as_array().into_iter().flatten().find(|one| one["name"] == name);
        found.and_then(|one| one["text"].as_str()).unwrap_or_default().to_owned()
    };
    assert!(text("parameters").contains(IN_PARAMETERS), "{opened}");
    assert!(text("dataset").starts_with("sha256:"), "{opened}");
}

#[test]
fn nothing_is_released_to_a_vm_that_its_owner_does_not_accept() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options { release_deadline: 20, ..Options::default() });
    let customer = Customer::new(&stage);
    let inputs = Inputs::new(IN_DATASET);
    customer.has_model(&daemon, &inputs);
    // Simulated evidence, and the owner wants hardware.
    let job = Job::sealed(&inputs, stage.script("ok_tiny.py")).with_hardware_only();
    let mut submission = customer.submits(&daemon, &job);
    let id = submission.job();
    let ended = submission.ends(JOB);
    ended.is_refusal(4, "ST-CLI-41");

    // Nobody releases it: the VM goes to the next.
    let view = customer.wait(&daemon, &id, Duration::from_secs(120));
    assert_eq!(view["state"], "failed", "{view}");
    assert_eq!(view["failure"]["code"], "ST-JOB-25", "{view}");
    assert_nowhere(daemon.folder(), &[IN_DATASET]);
    let (fetched, out) = customer.fetch(&daemon, &id, "nothing");
    assert_ne!(fetched.exit, 0, "{fetched}");
    assert!(!out.join("output_model").exists());
}

#[test]
fn a_machine_that_its_owner_does_not_know_gets_nothing() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new(IN_DATASET);
    customer.has_model(&daemon, &inputs);
    // The owner has measured the same image in a machine with more memory.
    let mut measure = Command::new(&stage.verify);
    measure.arg("measure").arg("--image").arg(&stage.image);
    measure.arg("--firmware").arg(&stage.firmware);
    measure.args(["--vcpus", &stage.vcpus.to_string()]);
    measure.args(["--memory-mib", &(stage.memory_mib + 1).to_string()]);
    let measured = tell(&mut measure);
    assert_eq!(measured.exit, 0, "{measured}");
    let other = inputs.file("reference.json", &measured.stdout);
    let mut submit = customer.submit_command(
        &daemon,
        &Job::sealed(&inputs, stage.script("ok_tiny.py")).with_references(&[other]),
    );
    tell(&mut submit).is_refusal(4, "ST-CLI-41");
    assert_nowhere(daemon.folder(), &[IN_DATASET]);
}
