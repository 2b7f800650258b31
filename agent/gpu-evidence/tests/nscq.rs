//! The program itself over a stand-in for NSCQ: a library in C, compiled here, loaded by its name, hostile in one way at a
//! time. What passes between two compilers' code is the real thing; that NVIDIA's library is like it is not shown.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sealtune-gpu-evidence");

/// A folder with the library under this name. Whoever builds Rust programs has a C compiler: it links them.
fn library(name: &str, definitions: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nscq_double.c");
    let built = Command::new("cc")
        .args(["-std=c11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-pthread"])
        .args(definitions)
        .arg("-o")
        .arg(folder.path().join(name))
        .arg(source)
        .status();
    assert!(built.unwrap().success());
    folder
}

struct Answered {
    answer: Value,
    code: Option<i32>,
    error: String,
}

fn ask_for(folder: &Path, fault: &str, count: usize) -> Answered {
    let names: Vec<String> = (0..count).map(|number| format!("\"nvswitch{number}\"")).collect();
    let request = format!(
        r#"{{"version":1,"challenge":"{}","switches":[{}]}}"#,
        "0f".repeat(32),
        names.join(",")
    );
    let mut child = Command::new(PROGRAM)
        .arg("switches")
        .env_clear()
        .env("LD_LIBRARY_PATH", folder)
        .env("NSCQ_DOUBLE", fault)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Answered {
        answer: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        code: output.status.code(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn evidence(answered: &Answered) -> Vec<Value> {
    assert_eq!(answered.code, Some(0), "{} {}", answered.answer, answered.error);
    let switches = answered.answer["switches"].as_array().unwrap();
    switches
        .iter()
        .map(|switch| serde_json::from_str(switch["evidence"].as_str().unwrap()).unwrap())
        .collect()
}

#[test]
fn four_switches_answer_in_the_order_of_their_uuids() {
    let folder = library("libnvidia-nscq.so.2", &[]);
    let good = ask_for(folder.path(), "", 4);
    for (number, evidence) in evidence(&good).iter().enumerate() {
        assert_eq!(good.answer["switches"][number]["mode"], "locked");
        assert_eq!(evidence["device"], format!("nvswitch{number}"));
        assert_eq!(evidence["architecture"], "ls10");
        assert_eq!(evidence["bios_version"], "96.10.73.00.01");
    }
    // Zeros behind a report are cut; the threads of a library are its own; what comes too late or for nobody is nothing.
    for fault in ["padded", "thread", "late"] {
        assert_eq!(ask_for(folder.path(), fault, 4).answer, good.answer, "{fault}");
    }
    // A switch that is not locked has evidence, and the agent is told.
    for (fault, mode) in [("unlocked", "enabled"), ("failed", "failed")] {
        let answered = ask_for(folder.path(), fault, 4);
        assert_eq!(evidence(&answered).len(), 4);
        assert_eq!(answered.answer["switches"][3]["mode"], mode);
    }
}

#[test]
fn what_is_wrong_with_all_switches_ends_it() {
    let folder = library("libnvidia-nscq.so.2", &[]);
    for (fault, code) in [
        ("create-warning", "ST-GPUE-63"),
        ("create-error", "ST-GPUE-63"),
        ("create-nothing", "ST-GPUE-63"),
        ("observe-warning", "ST-GPUE-63"),
        ("list-error", "ST-GPUE-63"),
        ("null-uuid", "ST-GPUE-64"),
        ("many", "ST-GPUE-64"),
        ("nine", "ST-GPUE-65"),
        ("three", "ST-GPUE-65"),
        ("no-switch", "ST-GPUE-65"),
        ("duplicate", "ST-GPUE-66"),
    ] {
        let answered = ask_for(folder.path(), fault, 4);
        assert_eq!(answered.answer["error"]["code"], code, "{fault}: {}", answered.error);
        assert_eq!(answered.code, Some(1), "{fault}");
    }
}

#[test]
fn what_is_wrong_with_a_switch_is_said_of_it() {
    let folder = library("libnvidia-nscq.so.2", &[]);
    for (fault, code) in [
        ("label-error", "ST-GPUE-63"),
        ("label-endless", "ST-GPUE-63"),
        ("label-path", "ST-GPUE-63"),
        ("label-empty", "ST-GPUE-63"),
        ("callback-error", "ST-GPUE-63"),
        ("callback-warning", "ST-GPUE-63"),
        ("input-error", "ST-GPUE-63"),
        ("silent", "ST-GPUE-64"),
        ("twice", "ST-GPUE-64"),
        ("endless", "ST-GPUE-64"),
        ("other", "ST-GPUE-64"),
        ("null-device", "ST-GPUE-64"),
        ("null-data", "ST-GPUE-64"),
        ("older-switch", "ST-GPUE-67"),
        ("mode-unknown", "ST-GPUE-68"),
        ("mode-off", "ST-GPUE-69"),
        ("no-bios", "ST-GPUE-70"),
        ("stale", "ST-GPUE-43"),
        ("report-endless", "ST-GPUE-40"),
        ("report-one-more", "ST-GPUE-40"),
        ("report-nothing", "ST-GPUE-40"),
        ("chain-nothing", "ST-GPUE-45"),
        ("chain-garbage", "ST-GPUE-45"),
        ("chain-one-more", "ST-GPUE-44"),
    ] {
        let answered = ask_for(folder.path(), fault, 4);
        assert_eq!(answered.code, Some(1), "{fault}: {}", answered.error);
        for switch in answered.answer["switches"].as_array().unwrap() {
            assert_eq!(switch["error"]["code"], code, "{fault}: {switch}");
            assert!(switch.get("evidence").is_none() && switch.get("mode").is_none());
        }
    }
    // One of four: the others answer.
    let answered = ask_for(folder.path(), "no-architecture", 4);
    let refused: Vec<bool> = answered.answer["switches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|switch| switch["error"]["code"] == "ST-GPUE-64")
        .collect();
    assert_eq!((refused, answered.code), (vec![false, true, false, false], Some(1)));
}

#[test]
fn a_library_that_ends_the_process_leaves_no_answer() {
    let folder = library("libnvidia-nscq.so.2", &[]);
    let answered = ask_for(folder.path(), "crash", 4);
    assert_eq!((answered.answer, answered.code), (Value::Null, None));
}

#[test]
fn the_library_is_found_by_its_names_and_must_be_whole() {
    let code = |folder: &Path| ask_for(folder, "", 4).answer["error"]["code"].clone();
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(code(empty.path()), "ST-GPUE-60");
    let path: PathBuf = empty.path().join("libnvidia-nscq.so.2");
    std::fs::write(&path, "no library").unwrap();
    assert_eq!(code(empty.path()), "ST-GPUE-60");
    assert_eq!(code(library("libnvidia-nscq.so.1", &[]).path()), "ST-GPUE-60");
    assert_eq!(code(library("libnvidia-nscq.so.2", &["-DWITHOUT_INPUT"]).path()), "ST-GPUE-61");
    assert_eq!(code(library("libnvidia-nscq.so", &["-DVERSION=1"]).path()), "ST-GPUE-62");
    assert_eq!(code(library("libnvidia-nscq.so.2", &["-DVERSION=3"]).path()), "ST-GPUE-62");
    assert_eq!(evidence(&ask_for(library("libnvidia-nscq.so", &[]).path(), "", 4)).len(), 4);
}
