//! A VM answers, is shown, outlives its daemon, and stops in order.

use sealtune_tests::{BOOT, Daemon, Options, SOON, stage_or_skip, tell, until};

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

    daemon.operator(&["vm", "stop", &name]).json();
    let stopped = daemon.vm_becomes(&name, &["stopped"]);
    assert!(stopped["failure"].is_null(), "{stopped}");
    until(SOON, "QEMU is gone", || daemon.qemu_pids().is_empty().then_some(()));
    daemon.operator(&["vm", "rm", &name]).json();
    assert!(daemon.vms().is_empty());
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
