//! The program as a process, given files that are none: endless, absent, of no text, a gigabyte long. Each is refused with a
//! code, soon, and in little memory.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use sealtune_evidence::simulated::SimulatedPlatform;
use sealtune_seal::{Secret, commitment::Opening};

use desk::{Folder, keys};
use scene::{Boot, DATASET, JOB, OFFER_NONCE, OWNER_NONCE, RESULT, commitment_key};

/// Address space of a run, in KiB: far below the gigabyte that it is given.
const MOST_MEMORY_KIB: u32 = 400 << 10;
const PATIENCE_SECONDS: u32 = 30;
const GIGABYTE: u64 = 1 << 30;

struct Files {
    folder: Folder,
}

impl Files {
    /// Everything that a verifier has, made by a platform of today, and things that are no files.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let made = SimulatedPlatform::create(&Secret::new([1; 32]), now).expect("creates");
        let mut boot = Boot::new(1);
        boot.platform = SimulatedPlatform::load(&made).expect("loads");
        let offer = boot.offer();
        let start = boot.start(&offer);
        let statement = scene::completed(&boot, &start);
        let collateral = serde_json::to_vec(&offer.collateral).expect("JSON");
        let folder = Folder::with(&offer);
        let write = |name: &str, bytes: &[u8]| folder.write(name, bytes);
        let package = boot.package(Some(offer), start, &statement);
        write("receipt.json", &package.to_bytes().expect("writes"));
        write("root.der", &boot.platform.root_der());
        write("collateral.json", &collateral);
        write("result", RESULT);
        let opening = Opening::new(&commitment_key(), "dataset", DATASET);
        write("opening.json", &serde_json::to_vec(&opening).expect("JSON"));
        write("keys.json", &serde_json::to_vec(&keys()).expect("JSON"));
        write("empty", b"");
        write("binary", &[0xff, 0xfe, 0x00, 0xc3, 0x28]);
        fs::create_dir(folder.path().join("folder")).expect("a folder");
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).expect("a link");
        let sparse = File::create(folder.path().join("gigabyte")).expect("creates");
        sparse.set_len(GIGABYTE).expect("a sparse file");
        let pipe = Command::new("mkfifo").arg(folder.path().join("pipe")).status();
        assert!(pipe.expect("mkfifo").success());
        Self { folder }
    }

    /// Runs with little memory, and not for ever.
    fn run(&self, line: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_sealtune-verify");
        let limits = format!("ulimit -v {MOST_MEMORY_KIB}; exec timeout {PATIENCE_SECONDS}");
        let output = Command::new("sh")
            .args(["-c", &format!("{limits} {program} {line}")])
            .current_dir(self.folder.path())
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .expect("starts");
        assert_ne!(output.status.code(), Some(124), "still running: {line}");
        output
    }

    /// Exit and code of what must fail.
    fn refused(&self, line: &str) -> (i32, String) {
        let output = self.run(&format!("{line} --json"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        let value: serde_json::Value =
            serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{line}: {text}"));
        let field = |name: &str| value["error"][name].as_str().expect(name).to_owned();
        assert!(!field("message").is_empty() && !field("fix").is_empty(), "{line}: {text}");
        (output.status.code().expect("an exit"), field("code"))
    }
}

fn offer(rest: &str) -> String {
    format!(
        "evidence offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} \
         --reference reference.json --simulated-root root.der {rest}"
    )
}

fn receipt(rest: &str) -> String {
    format!(
        "receipt receipt.json --nonce {OWNER_NONCE} --job {JOB} --reference reference.json \
         --simulated-root root.der {rest}"
    )
}

/// Exit and code.
type Refusal = (i32, &'static str);

/// Each file of the command line: a line with `@` in its place, the code and exit of what is too long there, and of what is
/// no text.
fn places() -> Vec<(String, Refusal, Refusal)> {
    let long = (2, "ST-VRFY-02");
    let report_data = "00".repeat(64);
    let digest = "22".repeat(32);
    vec![
        (offer("").replace("offer.json", "@"), (1, "ST-EVID-31"), (1, "ST-EVID-32")),
        (receipt("").replace("receipt.json", "@"), (1, "ST-RCPT-01"), (1, "ST-RCPT-02")),
        (
            format!(
                "dstack @ --report-data {report_data} --policy dstack --compose-hash {digest} \
                 --os-image {digest} --reference reference.json"
            ),
            (1, "ST-EVID-17"),
            (1, "ST-EVID-17"),
        ),
        (offer("").replace("reference.json", "@"), long, (2, "ST-EVID-71")),
        (offer("").replace("root.der", "@"), long, (2, "ST-VRFY-03")),
        (offer("--policy @"), long, (2, "ST-EVID-82")),
        (offer("--collateral @"), long, (2, "ST-EVID-50")),
        (offer("--snp-collateral @"), long, (2, "ST-SNP-27")),
        (offer("--gpu-collateral @"), long, (2, "ST-GPU-74")),
        (offer("--manifest @ --release-keys keys.json"), long, (2, "ST-REL-02")),
        (offer("--manifest offer.json --release-keys @"), long, (2, "ST-REL-12")),
        (receipt("--opening @"), long, (2, "ST-VRFY-04")),
    ]
}

#[test]
fn no_file_is_read_without_end() {
    let files = Files::new();
    let good = files.run(&offer("--collateral collateral.json"));
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    for (line, long, binary) in places() {
        let of = |name: &str| files.refused(&line.replace('@', name));
        let is = |(exit, code): (i32, &str)| (exit, code.to_owned());
        assert_eq!(of("gigabyte"), is(long), "{line}");
        assert_eq!(of("binary"), is(binary), "{line}");
        for other in ["/dev/zero", "pipe", "folder", "./missing", "loop", "/dev/null"] {
            assert_eq!(of(other), is((3, "ST-VRFY-01")), "{other}: {line}");
        }
        // An empty policy is a policy.
        if !line.contains("--policy @") {
            assert_eq!(of("empty"), is(binary), "{line}");
        }
    }
}

#[test]
fn a_result_is_hashed_in_little_memory() {
    let files = Files::new();
    assert!(files.run(&receipt("--result result --opening opening.json")).status.success());
    let output = files.run(&receipt("--result gigabyte"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ST-RCPT-28"), "{text}");
    for other in ["/dev/zero", "pipe", "folder", "missing"] {
        assert_eq!(files.refused(&receipt(&format!("--result {other}"))).0, 3);
    }
}

#[test]
fn measured_files_are_bounded_too() {
    let files = Files::new();
    let line = "measure --image @ --firmware empty --vcpus 1 --memory-mib 64";
    assert_eq!(files.refused(&line.replace('@', "gigabyte")).0, 2);
    for other in ["/dev/zero", "pipe", "missing", "folder"] {
        assert_eq!(files.refused(&line.replace('@', other)), (3, "ST-VRFY-01".to_owned()));
    }
}

#[test]
fn a_wrong_command_line_is_an_error_like_others() {
    let files = Files::new();
    let usage = (2, "ST-VRFY-19".to_owned());
    for line in ["", "nonsense", "dstack", "evidence offer.json --nonce 12", "explain a b"] {
        assert_eq!(files.refused(line), usage, "{line}");
        let plain = files.run(line);
        let said = String::from_utf8_lossy(&plain.stderr).into_owned();
        assert_eq!(plain.status.code(), Some(2), "{said}");
        assert!(said.contains("Usage: ") || said.contains("--help"), "{said}");
    }
    for line in ["--help", "--version", "evidence --help", "--help --json"] {
        let answer = files.run(line);
        assert!(answer.status.success() && answer.stderr.is_empty() && !answer.stdout.is_empty());
    }
}

/// The reader of the answer is gone, or has no room: the exit says it nevertheless.
#[test]
fn a_closed_pipe_is_no_panic() {
    let files = Files::new();
    let program = env!("CARGO_BIN_EXE_sealtune-verify");
    for (line, exit) in [
        (offer(""), 0),
        (offer("").replace(&JOB.to_string(), &"00".repeat(16)), 1),
        ("explain".to_owned(), 0),
        ("completions bash".to_owned(), 0),
        (offer("").replace("offer.json", "missing"), 3),
    ] {
        for output in ["| true", "> /dev/full", ">&-", "2>/dev/full"] {
            let script = match output {
                "| true" => format!("({program} {line} 2>err; echo $? >exit) {output}"),
                _ => format!("{program} {line} 2>err {output}; echo $? >exit"),
            };
            let mut shell = Command::new("sh");
            shell.args(["-c", &script]).current_dir(files.folder.path());
            shell.env("XDG_STATE_HOME", files.folder.path().join("state"));
            assert!(shell.stdout(Stdio::null()).status().expect("runs").success());
            let mut found = String::new();
            let read = File::open(files.folder.path().join("exit"));
            read.expect("an exit").read_to_string(&mut found).expect("reads");
            assert_eq!(found.trim(), exit.to_string(), "{output}: {line}");
            let said = fs::read(files.folder.path().join("err")).expect("reads");
            assert!(!String::from_utf8_lossy(&said).contains("panicked"), "{output}: {line}");
        }
    }
}

#[test]
fn a_memory_is_a_file_that_can_be_written() {
    let files = Files::new();
    // Simulated platforms are not remembered, so the memory of releases is what is opened here: beside the other.
    let state = files.folder.path().join("odd");
    fs::create_dir(&state).expect("a folder");
    let beside = state.join("release-memory.json");
    let line = offer("--memory odd/collateral.json");
    assert!(files.run(&line).status.success(), "no memory is an empty one");
    for (make, exit, code) in [
        ("mkdir odd/release-memory.json", 3, "ST-VRFY-08"),
        ("mkfifo odd/release-memory.json", 3, "ST-VRFY-08"),
        ("ln -s /dev/zero odd/release-memory.json", 3, "ST-VRFY-08"),
        ("cp gigabyte odd/release-memory.json", 2, "ST-REL-19"),
        ("cp binary odd/release-memory.json", 2, "ST-REL-19"),
        ("cp empty odd/release-memory.json", 2, "ST-REL-19"),
    ] {
        let made = Command::new("sh").args(["-c", make]).current_dir(files.folder.path()).status();
        assert!(made.expect("runs").success(), "{make}");
        assert_eq!(files.refused(&line), (exit, code.to_owned()), "{make}");
        remove(&beside);
    }
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).expect("is there").is_dir() {
        fs::remove_dir(path).expect("removes");
    } else {
        fs::remove_file(path).expect("removes");
    }
}
