//! A job is cancelled in each of its states; it ends there, and its VM and its files with it.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::path::PathBuf;

use sealtune_content::{
    Scheme,
    archive::{ArchiveError, PackMethod, pack},
};
use sealtune_tests::{
    BOOT, ContentServer, Customer, Daemon, Inputs, JOB, Job, Manner, Options, SOON, stage_or_skip,
    until,
};

/// Leaves so much that sealing and delivering it take a while.
const LARGE_RESULT: &str = r#"
import os, sys
out = sys.argv[sys.argv.index("--output_dir") + 1]
open(os.path.join(out, "noise.bin"), "wb").write(os.urandom(24 << 20))
"#;

/// So many files that laying them out takes a while.
fn large_archive(inputs: &Inputs) -> PathBuf {
    let path = inputs.file("many.zip", "");
    let names = (0..20_000).map(|number| format!("data/{number:05}.txt"));
    let files = names.map(|name| Ok::<_, ArchiveError>((name, &b"a line of a small file\n"[..])));
    let file = std::fs::File::create(&path).expect("an archive");
    pack(files, PackMethod::Store, u64::MAX, file).expect("an archive");
    path
}

fn job_is(daemon: &Daemon, job: &str, wanted: &str) {
    until(JOB, &format!("the job is {wanted}"), || {
        let shown = daemon.operator(&["job", "show", job]);
        // It may not have arrived yet.
        let state = if shown.exit == 0 { shown.json()["state"].clone() } else { "none".into() };
        let is_over = matches!(state.as_str(), Some("failed" | "delivered" | "cancelled"));
        assert!(!is_over || state == wanted, "the job is {state}: {shown}\n{}", daemon.log());
        (state == wanted).then_some(())
    });
}

/// Cancels, and looks that nothing of it is left.
#[track_caller]
fn cancel(daemon: &Daemon, customer: &Customer, job: &str, state: &str) {
    job_is(daemon, job, state);
    let view = customer.ask(daemon, &["job", "cancel", job]).json();
    assert_eq!(view["state"], "cancelled", "{view}");
    let history = view["history"].to_string();
    assert!(history.contains(&format!("\"{state}\"")), "it was not {state}: {view}");

    // To say it twice changes nothing.
    let again = customer.ask(daemon, &["job", "cancel", job]);
    again.is_refusal(1, "ST-JOB-12");
    assert_eq!(daemon.job(job), view);

    until(BOOT, "its VM is gone", || {
        let mut vms = daemon.vms().into_iter().filter(|vm| vm["job"] == job);
        vms.all(|vm| vm["state"] == "stopped" || vm["state"] == "failed").then_some(())
    });
    for folder in ["datasets", "results"] {
        let left = || std::fs::read_dir(daemon.state().join(folder)).expect("a folder").flatten();
        let is_left = || left().any(|file| file.file_name().to_string_lossy().starts_with(job));
        until(SOON, &format!("nothing of it is left in {folder}"), || (!is_left()).then_some(()));
    }
    assert_eq!(daemon.job(job)["state"], "cancelled");
    println!("cancelled: {state}");
}

#[test]
fn a_job_is_cancelled_in_each_state() {
    let stage = stage_or_skip!();
    let server = ContentServer::start();
    let more = vec!["--content-url".to_owned(), server.template()];
    let daemon = Daemon::start(&stage, Options { more, ..Options::default() });
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("a dataset of a job that is cancelled");
    customer.has_model(&daemon, &inputs);
    let ok = stage.script("ok_tiny.py");

    // Its owner accepts no simulated evidence, and so does not release it.
    let unreleased = Job::sealed(&inputs, ok.clone()).with_hardware_only();
    let mut submission = customer.submits(&daemon, &unreleased);
    let waiting = submission.job();
    submission.ends(JOB).is_refusal(4, "ST-CLI-41");
    // There is one VM, and the other job has it.
    let queued = customer.submit(&daemon, &Job::plain(&inputs, ok.clone()));
    cancel(&daemon, &customer, &queued, "queued");
    cancel(&daemon, &customer, &waiting, "awaiting-release");

    let half = [7; 100_000];
    let held = server.offers(&half, Scheme::Sha256, Manner::HoldsAt(half.len() / 2));
    let mut fetching = Inputs::new("plain");
    fetching.model = held.to_string().into();
    let job = customer.submit(&daemon, &Job::plain(&fetching, ok.clone()));
    until(JOB, "the source is asked", || (!server.asked_from(&held).is_empty()).then_some(()));
    cancel(&daemon, &customer, &job, "fetching");

    let mut many = Inputs::new("plain");
    many.model = inputs.model.clone();
    many.dataset = large_archive(&many);
    let job = customer.submit(&daemon, &Job::plain(&many, ok.clone()));
    cancel(&daemon, &customer, &job, "preparing");

    let mut training = customer.submits(&daemon, &Job::sealed(&inputs, stage.script("hang.py")));
    let job = training.job();
    training.says("hanging", JOB);
    cancel(&daemon, &customer, &job, "training");
    training.ends(JOB).is_refusal(1, "ST-CLI-50");

    let large = inputs.file("large.py", LARGE_RESULT);
    for state in ["sealing", "delivering"] {
        let job = customer.submit(&daemon, &Job::sealed(&inputs, large.clone()));
        cancel(&daemon, &customer, &job, state);
    }
    assert!(daemon.qemu_pids().is_empty());

    // There is room for the next, and what has ended cannot be cancelled.
    let job = customer.submit(&daemon, &Job::plain(&inputs, ok));
    let view = customer.wait(&daemon, &job, JOB);
    assert_eq!(view["state"], "delivered", "{view}\n{}", daemon.log());
    customer.ask(&daemon, &["job", "cancel", &job]).is_refusal(1, "ST-JOB-12");
    let (fetched, _) = customer.fetch(&daemon, &job, "result");
    assert_eq!(fetched.json()["files"], 1);
}
