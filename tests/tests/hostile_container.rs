//! A training script that tries every door out of its container finds all of them closed.

use sealtune_tests::{Customer, Daemon, Inputs, JOB, Job, Options, stage_or_skip};

/// As many as the script knows, at least.
const DOORS: usize = 60;

#[test]
fn every_door_is_closed() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("plain");
    customer.has_model(&daemon, &inputs);
    let job = Job::plain(&inputs, stage.hostile_script()).with(&["--time-limit", "240"]);
    let id = customer.submit(&daemon, &job);
    // It leaves no result, so it fails once it has tried all of them.
    let view = customer.wait(&daemon, &id, JOB);
    assert_eq!(view["failure"]["code"], "ST-AGENT-92", "{view}");

    let said = customer.logs(&daemon, &id);
    let log = said["log"].as_str().unwrap_or_default();
    let doors: Vec<&str> = log.lines().filter(|line| line.starts_with("door ")).collect();
    let open: Vec<&&str> = doors.iter().filter(|line| line.ends_with(": OPEN")).collect();
    println!("{}", doors.join("\n"));
    assert!(doors.len() >= DOORS, "only {} doors were tried: {log}", doors.len());
    assert!(open.is_empty(), "{open:?}");
    for vm in daemon.vms() {
        let console = daemon.console(vm["vm"].as_str().unwrap_or_default());
        assert!(!console.contains("door"), "{console}");
    }
}
