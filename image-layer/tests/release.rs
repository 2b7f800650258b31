//! `sealtune-image release` as its users run it: from keys to a manifest that verifies.
#![expect(clippy::unwrap_used, reason = "scenery of tests: what fails here fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sealtune_evidence::release::{Manifest, Reference, TrustedKeys};
use sealtune_image::digest::sha256_hex;
use sealtune_image::image::json;
use sealtune_image::metadata::{digest_text, reference_values, sums_text};
use sealtune_image::profile::Profile;
use serde_json::{Value, json};

const CMDLINE: &str = "sealtune.profile=prod a=1";
const RULES: &str = "--number 7 --edition 1 --min-release 5 --not-before 2026-11-01T00:00:00Z --not-after 2027-06-01T00:00:00Z";
const AT: &str = "--at 2027-01-01T00:00:00Z";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.image("image", "prod", "initramfs");
        place.write("firmware", b"firmware");
        place.did("measure --image image --firmware firmware --vcpus 2 --memory-mib 2048 --reference-values reference.json");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn image(&self, directory: &str, profile: &str, initramfs: &str) {
        let folder = self.path(directory);
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        let metadata = format!(
            r#"{{"kernel":"k","initrd":"i","cmdline":"{CMDLINE}","version":"0.7.0","is_dev":{},"sealtune":{{"profile":"{profile}",
            "suite":"s","kernel_package":"p","kernel_package_version":"1","kernel_release":"r","agent_sha256":"","modules":[]}}}}"#,
            profile == "dev"
        );
        let files = [("k", "kernel"), ("i", initramfs), ("metadata.json", metadata.as_str())];
        for (name, text) in files {
            write(name, text.as_bytes());
        }
        let sums = sums_text(&files.map(|(name, text)| (name, sha256_hex(text.as_bytes()))));
        write("sha256sum.txt", sums.as_bytes());
        write("digest.txt", digest_text(&sums).as_bytes());
        let profile = if profile == "dev" { Profile::Dev } else { Profile::Prod };
        let values =
            reference_values(profile, "0.7.0", CMDLINE, b"kernel", initramfs.as_bytes()).unwrap();
        write("reference-values.json", &json(&values).unwrap());
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sealtune-image"))
            .args(line.split_whitespace())
            .arg("--json")
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    fn did(&self, line: &str) -> Value {
        let output = self.run(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Code and exit status.
    fn refused(&self, line: &str) -> (String, i32) {
        let output = self.run(line);
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert!(output.stdout.is_empty() && error["error"]["fix"] != "", "{line}: {error}");
        (error["error"]["code"].as_str().unwrap().to_owned(), output.status.code().unwrap())
    }

    /// Keys of ada and grace, and their set.
    fn keys(&self) {
        let entry =
            |name: &str| self.did(&format!("release new-key --holder {name} --out {name}.key"));
        let set = json!({"version": 1, "threshold": 2, "keys": [entry("ada"), entry("grace")]});
        self.write("keys.json", set.to_string().as_bytes());
    }
}

fn is(code: &str, exit: i32) -> (String, i32) {
    (code.to_owned(), exit)
}

fn make(rest: &str) -> String {
    format!("release make --image image --reference reference.json {RULES} {rest}")
}

#[test]
fn two_holders_release() {
    let place = Place::new();
    place.keys();
    let made = place.did(&make("--out release.json"));
    assert_eq!((&made["release"], &made["number"]), (&json!("0.7.0"), &json!(7)));
    assert_eq!(made["signatures"], json!([]));
    let digest = String::from_utf8(place.read("image/digest.txt")).unwrap();
    assert_eq!(made["images"][0]["os_image"], digest.trim());
    let unsigned = place.read("release.json");
    let seen = place.did("release sign release.json");
    assert_eq!(seen["statement"], made["statement"]);
    assert_eq!(place.read("release.json"), unsigned, "looking signs nothing");

    for name in ["ada", "grace"] {
        let line = format!("release sign release.json --key {name}.key --out {name}.json");
        assert_eq!(place.did(&line)["statement"], made["statement"]);
    }
    assert_eq!(
        place.refused(&format!("release verify ada.json --keys keys.json {AT}")),
        is("ST-REL-06", 1)
    );
    let merged = place.did("release merge ada.json grace.json --out whole.json");
    assert_eq!(merged["signatures"].as_array().unwrap().len(), 2);
    let verified = place.did(&format!("release verify whole.json --keys keys.json {AT}"));
    assert_eq!(verified["signers"], json!(["ada", "grace"]));
    assert_eq!(verified["statement"], made["statement"]);

    // The same, one after the other in one file.
    place.did("release sign ada.json --key grace.key");
    place.did(&format!("release verify ada.json --keys keys.json {AT}"));
    assert_eq!(place.refused("release sign ada.json --key ada.key"), is("ST-REL-22", 1));
    for (time, code) in
        [("2026-10-31T23:59:59Z", "ST-REL-10"), ("2027-06-01T00:00:00Z", "ST-REL-11")]
    {
        let line = format!("release verify whole.json --keys keys.json --at {time}");
        assert_eq!(place.refused(&line), is(code, 1));
    }

    // The library reads what was written.
    let keys = TrustedKeys::parse(&place.read("keys.json")).unwrap();
    let manifest = Manifest::verify(&place.read("whole.json"), &keys, 1_798_761_600).unwrap();
    assert_eq!(manifest.reference_values().count(), 1);
    let people = Command::new(env!("CARGO_BIN_EXE_sealtune-image"))
        .args(["release", "sign", "whole.json"])
        .current_dir(place.0.path())
        .output()
        .unwrap();
    let text = String::from_utf8(people.stdout).unwrap();
    assert!(text.contains("release      0.7.0\n") && text.contains("(not checked)"), "{text}");
}

#[test]
fn a_key_is_private_and_never_overwritten() {
    let place = Place::new();
    let output =
        place.run("release new-key --holder ada --out ada.key --not-after 2028-01-01T00:00:00Z");
    let key = place.read("ada.key");
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("ada.key"), 0o600);
    let entry: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&entry["holder"], &entry["purpose"]), (&json!("ada"), &json!("release")));
    assert_eq!(entry["not_after"], "2028-01-01T00:00:00Z");
    // PKCS#8 v2: the seed is at 16, after its two headers.
    let seed = &key[16..48];
    for stream in [&output.stdout, &output.stderr] {
        assert!(!stream.windows(32).any(|window| window == seed));
        assert!(!String::from_utf8_lossy(stream).contains(&hex::encode(seed)));
    }
    assert_eq!(place.refused("release new-key --holder eve --out ada.key"), is("ST-IMAGE-19", 2));
    assert_eq!(place.read("ada.key"), key);
    assert_eq!(place.refused("release new-key --holder= --out other.key"), is("ST-IMAGE-15", 2));
    assert!(!place.path("other.key").exists());
    assert_eq!(leftovers(place.0.path()), 0);

    place.did(&make("--out release.json"));
    fs::set_permissions(place.path("ada.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(place.refused("release sign release.json --key ada.key"), is("ST-IMAGE-21", 2));
    for (name, bytes) in [("cut.key", &key[..40]), ("empty.key", &[]), ("long.key", &[0x30; 2048])]
    {
        place.write(name, bytes);
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        let line = format!("release sign release.json --key {name}");
        assert_eq!(place.refused(&line), is("ST-IMAGE-20", 2), "{name}");
    }
    assert_eq!(place.refused("release sign release.json --key none.key"), is("ST-IMAGE-12", 3));
}

fn leftovers(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".sealtune-image-")).count()
}

#[test]
fn a_manifest_is_of_whole_prod_images() {
    let place = Place::new();
    let measure = |image: &str| {
        place.did(&format!("measure --image {image} --firmware firmware --vcpus 2 --memory-mib 2048 --reference-values {image}.json"));
    };
    place.image("dev", "dev", "initramfs of dev");
    place.image("second", "prod", "another initramfs");
    measure("dev");
    measure("second");
    let line = |rest: &str| format!("release make {RULES} --out release.json {rest}");
    for (rest, refusal) in [
        ("--image dev --reference dev.json", is("ST-REL-09", 1)),
        ("--image image --reference second.json", is("ST-IMAGE-23", 2)),
        ("--image image --reference reference.json --reference second.json", is("ST-IMAGE-24", 2)),
        ("--image image --reference firmware", is("ST-EVID-71", 2)),
        (
            "--image image --image second --reference reference.json --reference second.json",
            is("ST-REL-09", 1),
        ),
        ("--image firmware --reference reference.json", is("ST-IMAGE-13", 1)),
        ("--image image --reference reference.json --revoked firmware", is("ST-IMAGE-22", 2)),
        ("--image image --reference reference.json --min-release 8", is("ST-IMAGE-15", 2)),
        ("--image image", is("ST-IMAGE-15", 2)),
    ] {
        assert_eq!(place.refused(&line(rest)), refusal, "{rest}");
    }
    let both =
        "--image prod=image --image gpu=second --reference second.json --reference reference.json";
    let made = place.did(&line(both));
    assert_eq!(made["images"][1]["name"], "gpu");
    assert_ne!(made["images"][0]["os_image"], made["images"][1]["os_image"]);

    fs::remove_file(place.path("release.json")).unwrap();
    place.write("image/i", b"changed");
    assert_eq!(place.refused(&make("--out release.json")), is("ST-IMAGE-13", 1));
    assert!(!place.path("release.json").exists(), "nothing was written");
}

#[test]
fn layers_revocations_and_files_beside() {
    let place = Place::new();
    place.keys();
    let root = "ab".repeat(32);
    place.write("n.layer.json", format!(
        r#"{{"version":1,"name":"n","root":"{root}","data_blocks":2,"hash_offset":8192,"hash_algorithm":"sha256",
        "data_block_size":4096,"hash_block_size":4096,"salt":"","file_bytes":12288,"packages":[]}}"#
    ).as_bytes());
    let revoked = |digest: &str| {
        let list = json!([{"digest": digest, "reason": "a hole", "since": "2026-11-20T00:00:00Z"}]);
        place.write("revoked.json", list.to_string().as_bytes());
    };
    let line = make(
        "--by-digest --aml-sandbox --layer n.layer.json --revoked revoked.json --key ada.key --out release.json",
    );
    revoked(&root);
    assert_eq!(place.refused(&line), is("ST-REL-09", 1), "it revokes its own layer");
    revoked(&"cd".repeat(32));
    place.did(&line);
    place.did("release sign release.json --key grace.key");
    let verified = place.did(&format!("release verify release.json --keys keys.json {AT}"));
    assert_eq!(verified["layers"], json!([format!("n {root}")]));
    assert_eq!(verified["revoked"], json!([format!("{} a hole", "cd".repeat(32))]));
    let keys = TrustedKeys::parse(&place.read("keys.json")).unwrap();
    let manifest = Manifest::verify(&place.read("release.json"), &keys, 1_798_761_600).unwrap();
    let image = &manifest.manifest().images[0];
    assert!(image.aml_sandbox && matches!(image.reference, Reference::Sha256(_)));
    assert!(manifest.admit_reference(&place.read("reference.json")).is_ok());
}

#[test]
fn what_is_no_manifest_is_not_signed() {
    let place = Place::new();
    place.keys();
    place.did(&make("--out release.json"));
    place.did("release sign release.json --key ada.key --out ada.json");
    place.did(&make("--key grace.key --out other.json").replace("--edition 1", "--edition 2"));
    assert_eq!(place.refused("release merge ada.json other.json --out o"), is("ST-REL-21", 1));
    assert_eq!(place.refused("release merge ada.json release.json --out o"), is("ST-REL-02", 1));
    place.write("empty", b"");
    assert_eq!(place.refused("release sign empty --key ada.key"), is("ST-IMAGE-22", 2));
    let text = String::from_utf8(place.read("release.json")).unwrap();
    place.write("field.json", text.replacen("\"number\"", "\"numbers\"", 1).as_bytes());
    assert_eq!(place.refused("release sign field.json --key ada.key"), is("ST-IMAGE-22", 2));
    place.write("rule.json", text.replacen("\"number\": 7", "\"number\": 1", 1).as_bytes());
    assert_eq!(place.refused("release sign rule.json --key ada.key"), is("ST-REL-09", 1));
    let signed = String::from_utf8(place.read("ada.json")).unwrap();
    place.write("type.json", signed.replacen("in-toto+json", "other", 1).as_bytes());
    assert_eq!(place.refused("release sign type.json --key grace.key"), is("ST-REL-03", 1));
    assert_eq!(place.refused("release verify ada.json --keys empty"), is("ST-REL-12", 2));
    assert!(!place.path("o").exists());
    assert_eq!(
        place.refused("release verify ada.json --keys keys.json --at soon"),
        is("ST-IMAGE-15", 2)
    );
}
