//! Jobs in the clear: the one that works, and every way to end badly.

use sealtune_tests::{Customer, Daemon, Inputs, JOB, Job, Options, stage_or_skip};
use serde_json::Value;

/// How a script ends, and what its owner is told.
struct Ending {
    script: &'static str,
    more: &'static [&'static str],
    code: &'static str,
    log: &'static str,
}

const ENDINGS: [Ending; 8] = [
    Ending { script: "exit1.py", more: &[], code: "ST-JOB-20", log: "about to exit with 1" },
    Ending { script: "killed.py", more: &[], code: "ST-JOB-21", log: "about to be killed" },
    Ending { script: "orphans.py", more: &[], code: "ST-JOB-20", log: "all orphans were reaped" },
    Ending {
        script: "oom.py",
        more: &["--memory-mib", "128"],
        code: "ST-JOB-22",
        log: "holding 64 MiB",
    },
    Ending { script: "hang.py", more: &["--time-limit", "15"], code: "ST-JOB-23", log: "hanging" },
    Ending {
        script: "endless_stdout.py",
        more: &["--time-limit", "15", "--log-bytes", "65536"],
        code: "ST-JOB-23",
        log: "xxxxxxxx",
    },
    Ending { script: "writes_nothing.py", more: &[], code: "ST-AGENT-92", log: "nothing to do" },
    Ending {
        script: "fill_disk.py",
        more: &["--memory-mib", "960", "--output-bytes", "1073741824"],
        code: "ST-JOB-20",
        log: "stopped by ENOSPC",
    },
];

/// All jobs stand in one queue, two VMs at a time.
#[test]
fn every_ending_has_its_code_and_only_success_has_a_result() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options { max_vms: 2, ..Options::default() });
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("plain");
    customer.has_model(&daemon, &inputs);

    let good = customer.submit(&daemon, &Job::plain(&inputs, stage.script("ok_tiny.py")));
    let bad: Vec<(String, &Ending)> = ENDINGS
        .iter()
        .map(|ending| {
            let job = Job::plain(&inputs, stage.script(ending.script)).with(ending.more);
            (customer.submit(&daemon, &job), ending)
        })
        .collect();

    let view = customer.wait(&daemon, &good, JOB);
    assert_eq!(view["state"], "delivered", "{view}\n{}", daemon.log());
    let said = customer.logs(&daemon, &good);
    let log = said["log"].as_str().unwrap_or_default();
    assert!(log.contains("step 5 of 5") && log.contains("done"), "{said}");
    let steps: Vec<f64> = said["metrics"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|metric| metric["step"].as_f64())
        .collect();
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 5.0], "{said}");
    let (fetched, out) = customer.fetch(&daemon, &good, "good");
    assert_eq!(fetched.json()["files"], 1);
    let result = std::fs::read_to_string(out.join("output_model/result.txt")).expect("a result");
    assert_eq!(result.trim().len(), 64, "{result}");

    let mut wrong = Vec::new();
    for (job, ending) in &bad {
        let view = customer.wait(&daemon, job, JOB);
        if let Err(why) = ended_as_expected(&daemon, &customer, job, &view, ending) {
            wrong.push(why);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn ended_as_expected(
    daemon: &Daemon,
    customer: &Customer,
    job: &str,
    view: &Value,
    ending: &Ending,
) -> Result<(), String> {
    let script = ending.script;
    if view["state"] != "failed" || view["failure"]["code"] != ending.code {
        return Err(format!("{script}: expected {} in {view}", ending.code));
    }
    if view["failure"]["fix"].as_str().is_none_or(str::is_empty) || !view["result"].is_null() {
        return Err(format!("{script}: expected a fix and no result in {view}"));
    }
    let said = customer.logs(daemon, job);
    let log = said["log"].as_str().unwrap_or_default();
    if !log.contains(ending.log) {
        return Err(format!("{script}: expected {:?} in {said}", ending.log));
    }
    // Half a result is none.
    let (fetched, out) = customer.fetch(daemon, job, script);
    if fetched.exit != 1 || out.join("output_model").exists() {
        return Err(format!("{script}: a failed job was fetched: {fetched}"));
    }
    println!("{script}: {}", ending.code);
    Ok(())
}

#[test]
fn what_the_provider_does_not_have_is_named() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("plain");
    // The model was never put there.
    let job = customer.submit(&daemon, &Job::plain(&inputs, stage.script("ok_tiny.py")));
    let view = customer.wait(&daemon, &job, JOB);
    assert_eq!(view["failure"]["code"], "ST-SOURCE-01", "{view}");
    let fix = view["failure"]["fix"].as_str().unwrap_or_default();
    assert!(fix.contains("content id"), "{view}");
}
