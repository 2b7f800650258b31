//! The host changes a byte of the training layer: the VM reads nothing that was changed, and nothing runs.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use sealtune_tests::{Customer, Daemon, Inputs, JOB, Job, Options, Stage, stage_or_skip};
use serde_json::Value;

const BLOCK: u64 = 4096;
/// Behind what a mount reads: files' contents.
const CONTENTS: u64 = 1 << 20;

/// A copy of the stage's layers in which these bytes are others.
fn changed_layers(stage: &Stage, folder: &Path, places: impl IntoIterator<Item = u64>) {
    fs::create_dir(folder).expect("a folder");
    for entry in fs::read_dir(&stage.layers).expect("the layers").flatten() {
        fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
    }
    let text = fs::read_to_string(&stage.layer).expect("the layer's description");
    let description: Value = serde_json::from_str(&text).expect("a description");
    let name = format!("{}.erofs", description["name"].as_str().expect("a name"));
    let file = File::options().read(true).write(true).open(folder.join(name)).expect("the layer");
    for place in places {
        let mut byte = [0; 1];
        file.read_exact_at(&mut byte, place).expect("a byte");
        file.write_all_at(&[byte[0] ^ 1], place).expect("another byte");
    }
}

fn number(stage: &Stage, name: &str) -> u64 {
    let text = fs::read_to_string(&stage.layer).expect("the layer's description");
    let description: Value = serde_json::from_str(&text).expect("a description");
    description[name].as_u64().expect("a number")
}

#[test]
fn a_changed_byte_of_a_layer_is_never_read() {
    let stage = stage_or_skip!();
    let (blocks, tree) = (number(&stage, "data_blocks"), number(&stage, "hash_offset"));
    let contents = (CONTENTS / BLOCK..blocks).map(|block| block * BLOCK + 7);
    let cases: [(&str, Vec<u64>, &str); 3] = [
        // Its superblock stands at 1024.
        ("data", vec![1024 + 40], "ST-AGENT-17"),
        // The tree begins with its top.
        ("tree", vec![tree + 5], "ST-AGENT-17"),
        ("contents", contents.collect(), "ST-AGENT-39"),
    ];
    for (what, places, code) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let layers = folder.path().join("layers");
        changed_layers(&stage, &layers, places);
        let daemon = Daemon::start(&stage, Options { layers: Some(layers), ..Options::default() });
        let customer = Customer::new(&stage);
        let inputs = Inputs::new("plain");
        customer.has_model(&daemon, &inputs);
        let job = customer.submit(&daemon, &Job::plain(&inputs, stage.script("ok_tiny.py")));
        let view = customer.wait(&daemon, &job, JOB);
        assert_eq!(view["failure"]["code"], code, "{what}: {view}\n{}", daemon.log());
        assert!(view["result"].is_null(), "{view}");
        let said = customer.logs(&daemon, &job);
        assert_eq!(said["log"].as_str().unwrap_or_default(), "", "{said}");
        println!("{what}: {code}, {} VMs", daemon.vms().len());
    }
}
