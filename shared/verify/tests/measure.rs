//! `measure` by a recipe: what it needs, and what it says when it does not get it.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

use std::{fs, path::Path};

use clap::Parser as _;
use sealtune_evidence::{
    FileDigests, ImageFacts, ImageReference, Profile,
    measure::{Recipe, SHIPPED},
};
use sealtune_verify::{Arguments, Failure, Report, Surroundings, run};

fn measure(folder: &Path, recipe: &str) -> Result<Report, Failure> {
    let image = folder.display();
    let line = format!(
        "sealtune-verify measure --image {image} --firmware {image}/fw --recipe {recipe} --vcpus 2 --memory-mib 2048"
    );
    let arguments = Arguments::try_parse_from(line.split(' ')).expect("a command line");
    run(&arguments, &Surroundings::offline(1_795_333_794))
}

fn record(folder: &Path, evidence: &str, rest: &str) -> Result<Report, Failure> {
    let image = folder.display();
    let line = format!(
        "sealtune-verify record {image}/{evidence} --image {image} --firmware {image}/fw {rest}"
    );
    let arguments = Arguments::try_parse_from(line.split(' ')).expect("a command line");
    run(&arguments, &Surroundings::offline(1_795_333_794))
}

fn image(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("writes");
    let facts = ImageFacts {
        release: "0.1.0".into(),
        profile: Profile::Prod,
        cmdline: "a=1".into(),
        kernel: FileDigests::of(b"kernel"),
        initramfs: FileDigests::of(b"initramfs"),
        layers: vec![],
    };
    let reference = ImageReference::of(facts).expect("follows");
    write("reference-values.json", &serde_json::to_vec(&reference).expect("JSON"));
    write("metadata.json", br#"{"kernel":"k","initrd":"i","cmdline":"a=1","version":"0.1.0"}"#);
    write("k", b"kernel");
    write("i", b"initramfs");
    write("fw", b"no firmware");
}

#[test]
fn shipped_recipes_are_found_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    image(folder.path());
    for (name, text) in SHIPPED {
        Recipe::parse(text.as_bytes()).expect("a shipped recipe is one");
        // The firmware is none: that is what is said, and not that the recipe was not found.
        let failure = measure(folder.path(), name).expect_err("no firmware");
        assert!(failure.code().starts_with("ST-MEAS-"), "{failure}");
        assert!(!failure.fix().is_empty());
    }
}

#[test]
fn what_is_not_as_it_must_be_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    image(folder.path());
    let recipe = SHIPPED[0].0;
    assert_eq!(measure(folder.path(), "/nowhere/recipe").expect_err("no file").exit_code(), 3);
    fs::write(folder.path().join("odd"), "version = 9").expect("writes");
    let odd = folder.path().join("odd");
    let failure = measure(folder.path(), &odd.display().to_string()).expect_err("no recipe");
    assert!(failure.code().starts_with("ST-MEAS-"));
    fs::write(folder.path().join("k"), b"another").expect("writes");
    assert_eq!(measure(folder.path(), recipe).expect_err("another kernel").code(), "ST-VRFY-10");
    let outside = br#"{"kernel":"../k","initrd":"i"}"#;
    fs::write(folder.path().join("metadata.json"), outside).expect("writes");
    assert_eq!(measure(folder.path(), recipe).expect_err("a path").code(), "ST-VRFY-10");
    fs::write(folder.path().join("metadata.json"), "{}").expect("writes");
    assert_eq!(measure(folder.path(), recipe).expect_err("no names").code(), "ST-VRFY-10");
}

#[test]
fn only_evidence_of_a_real_boot_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    image(folder.path());
    let new = "--name mine";
    let missing = record(folder.path(), "nothing.json", new).expect_err("no file");
    assert_eq!((missing.code(), missing.exit_code()), ("ST-VRFY-01", 3));
    fs::write(folder.path().join("e.json"), "{}").expect("writes");
    let failure = record(folder.path(), "e.json", new).expect_err("no evidence");
    assert_eq!(failure.exit_code(), 1, "{failure}");
    let bundle = serde_json::json!({
        "version": 1, "tee": "tdx", "quote": "AA==", "event_log": [],
        "launch": "e30=", "claims": "e30=", "image": { "name": "sealtune", "version": "0.1.0" },
        "gpu": [],
    });
    fs::write(folder.path().join("e.json"), bundle.to_string()).expect("writes");
    let failure = record(folder.path(), "e.json", new).expect_err("no boot log");
    assert_eq!((failure.code(), failure.exit_code()), ("ST-MEAS-24", 1), "{failure}");
    let other = "--recipe debian-202608-qemu10.2";
    let failure = record(folder.path(), "e.json", other).expect_err("no boot log");
    assert_eq!(failure.code(), "ST-MEAS-24", "{failure}");
    fs::write(folder.path().join("k"), b"another").expect("writes");
    let failure = record(folder.path(), "e.json", new).expect_err("another kernel");
    assert_eq!(failure.code(), "ST-VRFY-10");

    let line = "sealtune-verify record e --image i --firmware f";
    assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "a new recipe has a name");
    let both = format!("{line} --name a --recipe b");
    assert!(Arguments::try_parse_from(both.split(' ')).is_err(), "an old one has one");
}
