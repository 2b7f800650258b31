//! A host that lacks something is told what, and nothing is half-started.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use sealtune_tests::{Daemon, Options, stage_or_skip, tell};

/// A program that answers `--version` like a QEMU of this version.
fn qemu_of_version(folder: &Path, version: &str) -> String {
    let path = folder.join("old-qemu");
    fs::write(&path, format!("#!/bin/sh\necho QEMU emulator version {version}\n")).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path.to_string_lossy().into_owned()
}

#[test]
fn what_is_missing_is_named() {
    let stage = stage_or_skip!();
    let mut daemon = Daemon::start(&stage, Options::default());
    daemon.kill();
    // SIGKILL leaves it; from here on whoever makes one gave a promise that he cannot keep.
    fs::remove_file(daemon.socket()).expect("the socket of the daemon that was killed");
    let folder = daemon.folder().to_owned();
    let old = qemu_of_version(&folder, "6.0.0");
    let fake = folder.join("kvm");
    fs::write(&fake, "").expect("a fake device");
    let fake = fake.to_string_lossy().into_owned();
    let bare = folder.join("bare-image");
    fs::create_dir(&bare).expect("a folder");
    for name in ["metadata.json", "bzImage", "initramfs.cpio.zst"] {
        fs::copy(stage.image.join(name), bare.join(name)).expect("copy");
    }
    let bare = bare.to_string_lossy().into_owned();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--qemu", "/nowhere/qemu"], 3, "ST-VM-01"),
        (&["--qemu", &old], 3, "ST-VM-02"),
        (&["--vsock-helper", "/nowhere/helper"], 3, "ST-VM-04"),
        (&["--accelerator", "kvm", "--kvm-device", &fake], 3, "ST-VM-05"),
        (&["--image", &bare], 3, "ST-VM-22"),
        (&["--image", "/nowhere"], 3, "ST-VM-20"),
        (&["--memory-mib", "1"], 2, "ST-CONFIG-03"),
        (&["--listen", "here"], 2, "ST-CONFIG-03"),
    ];
    for (words, exit, code) in cases {
        let mut serve = daemon.serve_command_with(words);
        tell(serve.arg("--json")).is_refusal(exit, code);
        assert!(!daemon.socket().exists(), "{words:?} left a socket");
    }
    assert!(daemon.qemu_pids().is_empty());
    // Nothing of that is in the way of a right start.
    daemon.start_again();
    assert_eq!(daemon.vms(), Vec::<serde_json::Value>::new());
}
