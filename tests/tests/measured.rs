//! One byte changed in what a VM is started from: the VM boots, and its evidence names what was changed.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealtune_tests::{Customer, Daemon, Options, Stage, stage_or_skip, tell};
use serde_json::Value;

struct Change {
    what: &'static str,
    /// Works on copies of the image directory and the firmware.
    make: fn(&Path, &Path),
    code: &'static str,
}

const CHANGES: [Change; 4] = [
    Change {
        what: "firmware",
        make: |_, firmware| {
            // A letter of its name: nothing runs it, and all of it is measured.
            change(firmware, |bytes| {
                let at = bytes.windows(7).position(|name| name == b"SeaBIOS").expect("its name");
                bytes[at + 3] ^= 0x20;
            });
        },
        code: "ST-EVID-74",
    },
    Change {
        what: "kernel",
        make: |image, _| {
            // In the stub for another operating system, which no loader of today runs.
            change(&image.join("bzImage"), |bytes| bytes[0x30] ^= 1);
        },
        code: "ST-EVID-76",
    },
    Change {
        what: "initramfs",
        make: |image, _| {
            // Zero bytes behind an archive are no part of it.
            change(&image.join("initramfs.cpio.zst"), |bytes| bytes.extend([0; 4]));
        },
        code: "ST-EVID-77",
    },
    Change {
        what: "command line",
        make: |image, _| {
            change(&image.join("metadata.json"), |bytes| {
                let mut metadata: Value = serde_json::from_slice(bytes).expect("JSON");
                let line = metadata["cmdline"]
                    .as_str()
                    .expect("a line")
                    .replace("loglevel=4", "loglevel=5");
                metadata["cmdline"] = line.into();
                *bytes = serde_json::to_vec(&metadata).expect("JSON");
            });
        },
        code: "ST-EVID-77",
    },
];

fn change(file: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("a file of the machine");
    edit(&mut bytes);
    fs::write(file, bytes).expect("written");
}

#[test]
fn a_changed_byte_is_named_by_the_evidence_of_the_machine() {
    let stage = stage_or_skip!();
    let customer = Customer::new(&stage);
    let folder = tempfile::tempdir().expect("a folder");
    for change in &CHANGES {
        let (image, firmware) = copies(&stage, &folder.path().join(change.what));
        (change.make)(&image, &firmware);
        let mut changed = stage.clone();
        (changed.image, changed.firmware) = (image, firmware);
        let daemon = Daemon::start(&changed, Options::default());
        let verdict = attested(&daemon, &customer);
        let codes = || verdict["claims"].as_array().into_iter().flatten().map(|it| &it["code"]);
        assert_eq!(verdict["outcome"], "rejected", "{}: {verdict}", change.what);
        assert!(codes().any(|code| code == change.code), "{}: {verdict}", change.what);
        // And nothing else is wrong with it: the change alone is what is seen.
        let refused: Vec<&Value> = verdict["claims"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|it| it["status"] == "contraindicated")
            .map(|it| &it["claim"])
            .collect();
        assert_eq!(refused, ["boot"], "{}: {verdict}", change.what);
    }
    // The same machine without a change is accepted: it was the byte.
    let daemon = Daemon::start(&stage, Options::default());
    assert_eq!(attested(&daemon, &customer)["outcome"], "accepted");
}

fn copies(stage: &Stage, folder: &Path) -> (PathBuf, PathBuf) {
    let image = folder.join("image");
    fs::create_dir_all(&image).expect("a folder");
    for entry in fs::read_dir(&stage.image).expect("the image") {
        let path = entry.expect("a file").path();
        fs::copy(&path, image.join(path.file_name().expect("a name"))).expect("copied");
    }
    let firmware = folder.join("firmware.bin");
    fs::copy(&stage.firmware, &firmware).expect("copied");
    (image, firmware)
}

/// What a stranger finds with the original's reference values.
fn attested(daemon: &Daemon, customer: &Customer) -> Value {
    let started = daemon.operator(&["vm", "start"]).json();
    daemon.vm_becomes(started["vm"].as_str().expect("a name"), &["ready"]);
    let out = customer.folder().join("evidence.json");
    let mut attest = customer.command(&["attest"]);
    attest.arg("--provider").arg(daemon.provider()).arg("--out").arg(&out);
    customer.trusting(daemon, &mut attest);
    let said = tell(&mut attest);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said}"));
    answer["verdict"].clone()
}
