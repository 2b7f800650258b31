//! Whatever dies, no job is lost and none is done twice.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use sealtune_tests::{Customer, Daemon, Inputs, JOB, Job, Options, SOON, stage_or_skip, until};
use serde_json::Value;

/// The state as the operator sees it now. A job that has not arrived yet is as good as queued.
fn state(daemon: &Daemon, job: &str) -> String {
    let shown = daemon.operator(&["job", "show", job]);
    if shown.exit == 2 && shown.error_code() == "ST-STORE-06" {
        return "queued".to_owned();
    }
    shown.json()["state"].as_str().unwrap_or_default().to_owned()
}

const ORDER: [&str; 8] = [
    "queued",
    "awaiting-release",
    "fetching",
    "preparing",
    "training",
    "sealing",
    "delivering",
    "delivered",
];

fn rank(state: &str) -> usize {
    let found = ORDER.iter().position(|known| *known == state);
    found.unwrap_or_else(|| panic!("the job is {state}"))
}

/// Killed as soon as the job is seen in a state that it was not killed in before, until it has an end.
#[test]
fn a_daemon_that_is_killed_in_every_state_finishes_the_job() {
    let stage = stage_or_skip!();
    let mut daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("plain");
    customer.has_model(&daemon, &inputs);
    let job = customer.submit(&daemon, &Job::plain(&inputs, stage.script("ok_tiny.py")));

    let mut killed_in: Vec<String> = Vec::new();
    loop {
        let now = until(JOB, "the job moves on", || {
            let now = state(&daemon, &job);
            let is_new = !killed_in.contains(&now);
            is_new.then_some(now)
        });
        if rank(&now) == rank("delivered") {
            break;
        }
        daemon.kill();
        killed_in.push(now);
        daemon.start_again();
    }
    println!("killed in {killed_in:?}");
    assert!(killed_in.len() >= 2, "{killed_in:?}");
    let view = daemon.job(&job);
    // A VM is lost where the daemon died while it was starting it, or where that made its helper panic.
    let (lost, kept): (Vec<Value>, Vec<Value>) =
        daemon.vms().into_iter().partition(|vm| vm["state"] == "failed");
    for vm in &lost {
        println!("lost: {vm}");
        assert!(vm["ready_ms"].is_null() || daemon.has_lost_a_helper(), "{vm}");
    }
    assert_eq!(kept.len(), 1, "one job, one VM: {kept:?}");
    assert_eq!(view["attempt"], 1 + lost.len(), "{view}");
    if lost.is_empty() {
        finished_once(&view);
    }
    let (fetched, _) = customer.fetch(&daemon, &job, "result");
    assert_eq!(fetched.json()["files"], 1);
    until(SOON, "its VM is gone", || daemon.qemu_pids().is_empty().then_some(()));
}

#[track_caller]
fn finished_once(view: &Value) {
    assert_eq!(view["attempt"], 1, "{view}");
    assert!(view["result"]["sha256"].is_string(), "{view}");
    let history: Vec<(String, i64)> =
        serde_json::from_value(view["history"].clone()).expect("a history");
    let ranks: Vec<usize> = history.iter().map(|(state, _)| rank(state)).collect();
    assert!(ranks.is_sorted(), "it went backwards: {view}");
    assert!(history.iter().map(|(_, time)| time).is_sorted(), "{view}");
}

#[test]
fn a_sealed_job_whose_machine_dies_is_released_again() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("canary-dataset-2a77");
    customer.has_model(&daemon, &inputs);
    let job = Job::sealed(&inputs, stage.script("ok_tiny.py"));
    let mut submission = customer.submits(&daemon, &job);
    let id = submission.job();
    until(JOB, "the job is released", || (rank(&state(&daemon, &id)) >= 2).then_some(()));
    assert_eq!(daemon.kill_qemu(), 1);

    let ended = submission.ends(JOB);
    assert_eq!(ended.exit, 0, "{ended}\n{}", daemon.log());
    let view = daemon.job(&id);
    assert_eq!(view["state"], "delivered", "{view}");
    // One machine was killed. Under emulation a guest's kernel may die of itself while it boots: that is an attempt too.
    let lost: Vec<Value> = daemon.vms().into_iter().filter(|vm| vm["state"] == "failed").collect();
    let was_ready = lost.iter().filter(|vm| !vm["ready_ms"].is_null()).count();
    assert_eq!(was_ready, 1, "{lost:?}");
    assert_eq!(view["attempt"], 1 + lost.len(), "{view}");
    let (fetched, _) = customer.fetch(&daemon, &id, "result");
    assert_eq!(fetched.json()["verdict"]["outcome"], "accepted", "{fetched}");
    let record = customer.record(&id);
    let releases = record["releases"].as_array().expect("releases");
    assert_eq!(releases.len(), 2);
    assert_ne!(releases.first(), releases.last(), "each VM got a release of its own");
}

#[test]
fn a_sealed_job_survives_its_daemon_in_the_middle_of_training() {
    let stage = stage_or_skip!();
    let mut daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("canary-dataset-9d10");
    customer.has_model(&daemon, &inputs);
    let job = Job::sealed(&inputs, stage.script("ok_tiny.py"));
    let id = customer.submit(&daemon, &job);
    until(JOB, "the job runs", || (rank(&state(&daemon, &id)) >= rank("preparing")).then_some(()));
    daemon.kill();
    daemon.start_again();
    let view = customer.wait(&daemon, &id, JOB);
    assert_eq!(view["state"], "delivered", "{view}");
    finished_once(&view);
    let (fetched, _) = customer.fetch(&daemon, &id, "result");
    assert_eq!(fetched.json()["verdict"]["outcome"], "accepted", "{fetched}");
}
