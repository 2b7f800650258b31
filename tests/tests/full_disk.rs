//! The disk of the state directory is full: what cannot be done is refused or waits, nothing breaks, and all goes on
//! when there is space again.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::process::Command;

use sealtune_tests::{
    Customer, Daemon, Inputs, JOB, Job, Options, SOON, stage_or_skip, tell, until,
};

const DISK_MIB: u32 = 24;
const MIB: u64 = 1 << 20;

/// More than the disk holds, and does not compress.
const TOO_LARGE_A_RESULT: &str = r#"
import os, sys
out = sys.argv[sys.argv.index("--output_dir") + 1]
open(os.path.join(out, "noise.bin"), "wb").write(os.urandom(30 << 20))
"#;

/// Goes on for a while, and says so.
const SLOW: &str = r#"
import os, sys, time
out = sys.argv[sys.argv.index("--output_dir") + 1]
for number in range(60):
    print(f"line {number}.", flush=True)
    time.sleep(0.1)
open(os.path.join(out, "result.txt"), "w").write("done")
"#;

#[test]
fn a_full_disk_refuses_waits_and_recovers() {
    let stage = stage_or_skip!();
    let daemon = match Daemon::start_on_small_disk(&stage, Options::default(), DISK_MIB) {
        Ok(daemon) => daemon,
        Err(why) => {
            println!("skipped: a small disk cannot be mounted: {why}");
            return;
        }
    };
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("plain");
    customer.has_model(&daemon, &inputs);
    let large = inputs.file("large.jsonl", &"a line of a large dataset\n".repeat(1_200_000));

    operators_upload_is_refused(&daemon, &large);
    customers_upload_is_refused(&daemon, &customer, &inputs, &large);
    no_room_for_a_result(&daemon, &customer, &inputs);
    a_job_outlives_a_full_disk(&daemon, &customer, &inputs);
    database_is_whole(&daemon);
}

fn operators_upload_is_refused(daemon: &Daemon, large: &std::path::Path) {
    let before = daemon.disk().free();
    let put = daemon.operator(&["content", "put", &large.to_string_lossy()]);
    put.is_refusal(3, "ST-SOURCE-03");
    let contents = daemon.operator(&["content", "ls"]).json();
    assert_eq!(contents.as_array().map(Vec::len), Some(1), "{contents}");
    until(SOON, "what came of it is gone", || (daemon.disk().free() + MIB > before).then_some(()));
}

fn customers_upload_is_refused(
    daemon: &Daemon,
    customer: &Customer,
    inputs: &Inputs,
    large: &std::path::Path,
) {
    let mut inputs_too_large = Inputs::new("plain");
    inputs_too_large.model = inputs.model.clone();
    inputs_too_large.dataset = large.to_owned();
    for kind in [Job::plain, Job::sealed] {
        let before = daemon.disk().free();
        let script = inputs.file("train.py", "print('it ran')\n");
        let submit = customer.submit_command(daemon, &kind(&inputs_too_large, script));
        tell(&mut { submit }).is_refusal(3, "ST-SOURCE-03");
        // The job waits for the rest of its dataset; its owner gives it up.
        let jobs = daemon.operator(&["job", "ls"]).json();
        let mut open = jobs.as_array().into_iter().flatten().filter(|job| job["state"] == "queued");
        let job = open.next().expect("the job")["job"].as_str().expect("an id").to_owned();
        assert!(daemon.vms().is_empty(), "no VM before the dataset is there");
        let view = customer.ask(daemon, &["job", "cancel", &job]).json();
        assert_eq!(view["state"], "cancelled", "{view}");
        assert!(daemon.disk().free() + MIB > before, "its dataset is gone");
    }
}

fn no_room_for_a_result(daemon: &Daemon, customer: &Customer, inputs: &Inputs) {
    let script = inputs.file("too_large.py", TOO_LARGE_A_RESULT);
    let job = customer.submit(daemon, &Job::sealed(inputs, script));
    let view = customer.wait(daemon, &job, JOB);
    assert_eq!(view["failure"]["code"], "ST-VM-42", "{view}\n{}", daemon.log());
    assert!(view["failure"]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{view}");
    assert!(view["result"].is_null(), "{view}");
    until(SOON, "what came of it is gone", || (daemon.disk().free() > 12 * MIB).then_some(()));
}

fn a_job_outlives_a_full_disk(daemon: &Daemon, customer: &Customer, inputs: &Inputs) {
    let script = inputs.file("slow.py", SLOW);
    let mut submission = customer.submits(daemon, &Job::sealed(inputs, script.clone()));
    let job = submission.job();
    submission.says("line 5.", JOB);
    daemon.disk().fill();
    // Whoever only follows may be told that calls cannot be remembered; the job goes on without him.
    submission.kill();

    // Nothing more can be promised; what there is can be looked at.
    let another = customer.submit_command(daemon, &Job::plain(inputs, script));
    let refused = tell(&mut { another });
    assert_ne!(refused.exit, 0, "{refused}");
    assert!(matches!(refused.error_code().as_str(), "ST-STORE-04" | "ST-SOURCE-03"), "{refused}");
    assert_eq!(daemon.job(&job)["attempt"], 1);
    assert_eq!(daemon.qemu_pids().len(), 1, "the VM goes on");

    daemon.disk().relieve();
    let view = customer.wait(daemon, &job, JOB);
    assert_eq!(view["state"], "delivered", "{view}\n{}", daemon.log());
    let said = customer.logs(daemon, &job);
    for number in 0..60 {
        let line = format!("line {number}.");
        let times = said["log"].as_str().unwrap_or_default().matches(&line).count();
        assert_eq!(times, 1, "{line} in {said}");
    }
    let (fetched, _) = customer.fetch(daemon, &job, "result");
    assert_eq!(fetched.json()["verdict"]["outcome"], "accepted", "{fetched}");
    assert_eq!(daemon.job(&job)["attempt"], 1);
}

fn database_is_whole(daemon: &Daemon) {
    let mut python = Command::new("python3");
    python.args(["-c", "import sqlite3, sys\nprint(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])"]);
    let answer = tell(python.arg(daemon.state().join("sealtune.db")));
    assert_eq!(answer.stdout.trim(), "ok", "{answer}");
}
