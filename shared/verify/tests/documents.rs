//! The program on documents that say too much: keys twice, spellings that mean the same, texts that steer a terminal; and at
//! clocks far off.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Parser as _;
use sealtune_evidence::verdict::is_invisible;
use sealtune_verify::{Arguments, Failure, Report, Surroundings, run};
use serde_json::Value;

use desk::Folder;
use scene::{Boot, JOB, NOW, OFFER_NONCE, OWNER_NONCE, job};

const DAY: u64 = 86_400;

struct Files(Folder);

impl Files {
    fn new() -> Self {
        Self(Folder::with(&Boot::new(1).offer()))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        self.0.write(name, bytes);
    }

    fn line(&self, command: &str, rest: &str) -> String {
        let folder = self.0.path().display();
        let asked = match command {
            "evidence" => format!("--purpose offer --nonce {OFFER_NONCE}"),
            _ => format!("--nonce {OWNER_NONCE}"),
        };
        format!(
            "sealtune-verify {command} {folder}/file.json {asked} --job {JOB} \
             --reference {folder}/reference.json --simulated-root {folder}/root.der {rest}"
        )
    }

    fn run_at(&self, now: u64, command: &str, rest: &str) -> Result<Report, Failure> {
        let line = self.line(command, rest);
        let arguments = Arguments::try_parse_from(line.split_whitespace()).expect("a command line");
        run(&arguments, &Surroundings::offline(now))
    }

    fn judge(&self, command: &str, text: &str, rest: &str) -> Result<Report, Failure> {
        self.write("file.json", text.as_bytes());
        self.run_at(NOW, command, rest)
    }
}

fn offer() -> Value {
    let bytes = Boot::new(1).offer().to_bytes().expect("writes");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn receipt() -> Value {
    serde_json::from_slice(&job().1.to_bytes().expect("writes")).expect("JSON")
}

/// JSON in which the `target`th object says its first key twice; how many objects there are.
fn write_twice(value: &Value, target: usize, seen: &mut usize, out: &mut String) {
    let mut list = |open, close, parts: Vec<String>| {
        out.push(open);
        out.push_str(&parts.join(","));
        out.push(close);
    };
    let inner = |value: &Value| {
        let mut text = String::new();
        write_twice(value, target, seen, &mut text);
        text
    };
    match value {
        Value::Array(items) => list('[', ']', items.iter().map(inner).collect()),
        Value::Object(fields) => {
            let this = *seen == target;
            *seen += 1;
            let mut parts = Vec::new();
            for (at, (key, value)) in fields.iter().enumerate() {
                let mut text = String::new();
                let mut later = *seen;
                write_twice(value, target, &mut later, &mut text);
                *seen = later;
                let part = format!("{}:{text}", Value::from(key.as_str()));
                if this && at == 0 {
                    parts.push(part.clone());
                }
                parts.push(part);
            }
            list('{', '}', parts);
        }
        other => out.push_str(&other.to_string()),
    }
}

fn objects(value: &Value) -> usize {
    let mut seen = 0;
    write_twice(value, usize::MAX, &mut seen, &mut String::new());
    seen
}

fn twice(value: &Value, target: usize) -> String {
    let (mut seen, mut text) = (0, String::new());
    write_twice(value, target, &mut seen, &mut text);
    text
}

#[test]
fn no_key_is_said_twice_at_any_depth() {
    let files = Files::new();
    for (command, value, code) in
        [("evidence", offer(), "ST-EVID-32"), ("receipt", receipt(), "ST-RCPT-02")]
    {
        assert!(files.judge(command, &value.to_string(), "").expect("judges").accepted);
        let count = objects(&value);
        assert!(count > 7, "{count} objects");
        for target in 0..count {
            let text = twice(&value, target);
            assert_ne!(text.len(), value.to_string().len(), "object {target}");
            let failure = files.judge(command, &text, "").expect_err("a key twice");
            assert_eq!((failure.code(), failure.exit_code()), (code, 1), "object {target}");
        }
    }
}

/// Documents within the document: launch configuration and claims, whose bytes travel as base64.
#[test]
fn documents_inside_are_canonical_or_refused() {
    let files = Files::new();
    let value = offer();
    for (field, code) in [("claims", "ST-EVID-10"), ("launch", "ST-EVID-01")] {
        let bytes = STANDARD.decode(value[field].as_str().expect("base64")).expect("base64");
        let text = String::from_utf8(bytes).expect("text");
        let inner: Value = serde_json::from_str(&text).expect("JSON");
        // Claims write numbers as texts, the launch configuration as numbers.
        let version = ["\"version\":1", "\"version\":\"1\""].into_iter();
        let version = version.filter(|it| text.contains(it)).max().expect("a version");
        let mut spellings: Vec<String> =
            (0..objects(&inner)).map(|target| twice(&inner, target)).collect();
        spellings.extend([
            format!(" {text}"),
            format!("{text}\n"),
            format!("\u{feff}{text}"),
            format!("{text}{text}"),
            text.replacen(':', ": ", 1),
            text.replace(version, "\"version\":1.0"),
            text.replace(version, "\"version\":1e0"),
            text.replace(version, "\"version\":01"),
            text.replace(version, "\"version\":true"),
            text.replacen("worker", "w\\u006frker", 1),
            text.replacen("worker", "WORKER", 1),
            text.replacen("{", "{\"trusted\":true,", 1),
            format!("[{text}]"),
            "null".to_owned(),
            String::new(),
        ]);
        for spelling in spellings {
            assert_ne!(spelling, text);
            let mut changed = value.clone();
            changed[field] = STANDARD.encode(&spelling).into();
            let report = files.judge("evidence", &changed.to_string(), "").expect("judges");
            assert!(!report.accepted, "{field}: {spelling}");
            assert!(report.stdout.contains(code), "{field}: {spelling}\n{}", report.stdout);
        }
    }
}

#[test]
fn what_is_not_one_json_document_is_refused() {
    let files = Files::new();
    let good = offer().to_string();
    let deep = |open: &str, count: usize| open.repeat(count);
    for text in [
        String::new(),
        " ".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "\"{}\"".to_owned(),
        format!("\u{feff}{good}"),
        format!("{good}{good}"),
        format!("{good} x"),
        format!("[{good}]"),
        good.replacen("\"version\":1", "\"version\":1.0", 1),
        good.replacen("\"version\":1", "\"version\":-1", 1),
        good.replacen("\"version\":1", "\"version\":99999999999", 1),
        good.replacen("\"tee\":\"tdx\"", "\"tee\":null", 1),
        good.replacen("\"tee\":\"tdx\"", "\"tee\":\"TDX\"", 1),
        deep("[", 100_000),
        deep("{\"version\":", 100_000),
    ] {
        assert_ne!(text, good);
        let failure = files.judge("evidence", &text, "").expect_err("no bundle");
        assert_eq!(failure.exit_code(), 1, "{}", failure.message());
        assert!(failure.code().starts_with("ST-EVID-3"), "{}", failure.message());
    }
}

/// Files of the user's own that somebody prepared for him: nested beyond reason, in each language that is read.
#[test]
fn no_depth_is_a_stack_overflow() {
    let files = Files::new();
    files.write("file.json", offer().to_string().as_bytes());
    let file = files.0.path().join("deep").display().to_string();
    // Each within its file's limit. Nested sequences of indefinite and of made-up length.
    let der = |head: &[u8]| head.repeat(16_000 / head.len());
    for (option, bytes) in [
        ("--policy", format!("a = {}", "[".repeat(60_000)).into_bytes()),
        ("--policy", format!("a = {}", "{a=".repeat(20_000)).into_bytes()),
        ("--policy", format!("[{}a]", "a.".repeat(30_000)).into_bytes()),
        ("--collateral", "[".repeat(200_000).into_bytes()),
        ("--snp-collateral", "{\"ark\":".repeat(10_000).into_bytes()),
        ("--gpu-collateral", "{\"rims\":[".repeat(10_000).into_bytes()),
        ("--simulated-root", der(&[0x30, 0x80])),
        ("--simulated-root", der(&[0x30, 0x82, 0x3e, 0x00])),
    ] {
        files.write("deep", &bytes);
        let line = match option {
            "--simulated-root" => {
                let line = files.line("evidence", "");
                let (before, _) = line.split_once("--simulated-root").expect("an option");
                format!("{before} {option} {file}")
            }
            _ => files.line("evidence", &format!("{option} {file}")),
        };
        let arguments = Arguments::try_parse_from(line.split_whitespace()).expect("a command line");
        match run(&arguments, &Surroundings::offline(NOW)) {
            Ok(report) => assert!(!report.accepted, "{option}"),
            Err(failure) => assert!(!failure.fix().is_empty(), "{option}: {failure}"),
        }
    }
}

#[test]
fn no_clock_however_wrong_makes_a_yes() {
    let files = Files::new();
    files.write("file.json", offer().to_string().as_bytes());
    let now = |now| files.run_at(now, "evidence", "").expect("judges");
    assert!(now(NOW).accepted);
    for (clock, code) in [
        (0, "ST-EVID-89"),
        (1, "ST-EVID-89"),
        (1_793_491_199, "ST-EVID-89"),
        (NOW - 20 * DAY, "ST-EVID-51"),
        (NOW + 2 * DAY, "ST-EVID-97"),
        (NOW + 31 * DAY, "ST-EVID-51"),
        (u64::from(u32::MAX), "ST-EVID-51"),
        (i64::MAX as u64, "ST-EVID-51"),
        (u64::MAX, "ST-EVID-51"),
    ] {
        let report = now(clock);
        assert!(!report.accepted, "at {clock}");
        assert!(report.stdout.contains(code), "at {clock}: {}", report.stdout);
    }
    // The same as times of the user's: the exit is that of the judgement at his time.
    for at in ["0", "1", "253402300799", "9223372036854775807", "18446744073709551615"] {
        let report = files.run_at(NOW, "evidence", &format!("--at {at}")).expect("judges");
        assert!(!report.accepted && report.stdout.contains("ST-EVID-51"), "{}", report.stdout);
        assert!(
            report.stdout.ends_with("good then: REJECTED\nSIMULATED would pass now: ACCEPTED\n")
        );
    }
    let both = files.run_at(NOW + 40 * DAY, "evidence", &format!("--at {NOW}")).expect("judges");
    assert!(both.accepted && both.stdout.contains("ST-EVID-88"));
    assert!(both.stdout.ends_with("good then: ACCEPTED\nSIMULATED would pass now: REJECTED\n"));
    // A nonce that is older than an offer may be, or of the future.
    for (asked, accepted) in [(NOW, true), (NOW - 600, true), (NOW - 601, false), (0, false)] {
        let report = files.run_at(NOW, "evidence", &format!("--asked-at {asked}")).expect("judges");
        assert_eq!(report.accepted, accepted, "{}", report.stdout);
    }
    for wrong in ["-1", "1e9", "18446744073709551616", "2026-13-01T00:00:00Z", "now", "0x10"] {
        let line = files.line("evidence", &format!("--at={wrong}"));
        let error = Arguments::try_parse_from(line.split_whitespace()).expect_err(wrong);
        assert_eq!(error.exit_code(), 2, "{wrong}");
    }
}

#[test]
fn a_receipt_says_what_dates_it() {
    let files = Files::new();
    let text = receipt().to_string();
    let report = files.judge("receipt", &text, "").expect("judges");
    assert!(report.accepted && report.stdout.contains("time             unanchored  (ST-EVID-87)"));
    let report = files.judge("receipt", &text, "--json").expect("judges");
    let value: Value = serde_json::from_str(&report.stdout).expect("JSON");
    let claims = value["claims"].as_array().expect("claims");
    for part in ["start.time", "receipt.time"] {
        let claim = claims.iter().find(|claim| claim["claim"] == part).expect(part);
        assert_eq!(claim["value"], "unanchored");
    }
}

#[test]
fn words_of_the_command_line_have_one_length_and_spelling() {
    let files = Files::new();
    files.write("file.json", offer().to_string().as_bytes());
    let good = files.line("evidence", "");
    let nonce = OFFER_NONCE.to_string();
    let refused = |line: String, what: &str| {
        let error = Arguments::try_parse_from(line.split_whitespace()).expect_err(what);
        assert_eq!(error.exit_code(), 2, "{what}");
    };
    for wrong in [
        String::new(),
        "12".into(),
        nonce[2..].to_owned(),
        format!("{nonce}12"),
        format!("0x{nonce}"),
        nonce.replace('1', "A"),
        nonce.replace('1', "g"),
        "１".repeat(64),
    ] {
        refused(good.replace(&format!("--nonce {nonce}"), &format!("--nonce={wrong}")), &wrong);
        refused(good.replace(&format!("--job {JOB}"), &format!("--job={wrong}")), &wrong);
        refused(format!("{good} --spec={wrong}"), &wrong);
        refused(format!("{good} --layer={wrong}"), &wrong);
    }
    refused(good.replace(&nonce, &"00".repeat(33)), "33 bytes");
    refused(good.replace("--purpose offer", "--purpose Offer"), "purpose");
    refused(format!("{good} --nonce {nonce}"), "a nonce twice");
    refused(good.replace("--reference", "--references"), "unknown option");
    // A nonce of zeros is a nonce that nobody asked with.
    let zero = good.replace(&nonce, &"00".repeat(32));
    let arguments = Arguments::try_parse_from(zero.split_whitespace()).expect("a command line");
    let report = run(&arguments, &Surroundings::offline(NOW)).expect("judges");
    assert!(!report.accepted && report.stdout.contains("ST-EVID-62"));
}

const HOSTILE: &str =
    "x\u{1b}[2J\u{1b}]0;t\u{7}\r\nACCEPTED\n\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\u{7f}\0";

/// Each text and each key of a document in turn replaced by `with`.
fn replaced(value: &Value, with: &str) -> Vec<Value> {
    match value {
        Value::String(_) => vec![with.into()],
        Value::Array(items) => {
            let each = |(at, item): (usize, &Value)| {
                replaced(item, with).into_iter().map(move |new| (at, new)).collect::<Vec<_>>()
            };
            let put = |(at, new): (usize, Value)| {
                let mut all = items.clone();
                all[at] = new;
                Value::from(all)
            };
            items.iter().enumerate().flat_map(each).map(put).collect()
        }
        Value::Object(fields) => {
            let mut all = Vec::new();
            for (key, value) in fields {
                let mut renamed = fields.clone();
                renamed.remove(key);
                renamed.insert(with.to_owned(), value.clone());
                all.push(renamed.into());
                for new in replaced(value, with) {
                    let mut changed = fields.clone();
                    changed.insert(key.clone(), new);
                    all.push(changed.into());
                }
            }
            all
        }
        _ => vec![],
    }
}

/// What a terminal would get, whatever came of it.
fn shown(result: Result<Report, Failure>, json: bool, good: &str, what: &str) -> String {
    match result {
        Ok(report) => {
            // There are texts that nothing reads, like a chain that the quote has too.
            assert!(!report.accepted || report.stdout == good, "{what}");
            report.stdout
        }
        Err(failure) if json => failure.to_json(),
        Err(failure) => failure.message(),
    }
}

fn check_shown(text: &str, what: &str) {
    assert!(!text.chars().any(|c| c != '\n' && is_invisible(c)), "{what}: {}", text.escape_debug());
    assert!(!text.lines().any(|line| line.trim() == "ACCEPTED"), "{what}: {text}");
}

#[test]
fn nothing_in_a_document_steers_a_terminal_or_fills_it() {
    let files = Files::new();
    let long = format!("{HOSTILE}{}", "A".repeat(64 << 10));
    let mut offers = replaced(&offer(), HOSTILE);
    for field in ["claims", "launch"] {
        let bytes = STANDARD.decode(offer()[field].as_str().expect("base64")).expect("base64");
        let inner: Value = serde_json::from_slice(&bytes).expect("JSON");
        for changed in replaced(&inner, HOSTILE).into_iter().chain(replaced(&inner, &long)) {
            let mut whole = offer();
            let canonical = sealtune_seal::canonical::to_vec(&changed).expect("canonical");
            whole[field] = STANDARD.encode(canonical).into();
            offers.push(whole);
        }
    }
    let mut event = offer();
    event["event_log"][0]["name"] = long.as_str().into();
    offers.push(event);
    let mut image = offer();
    image["image"]["name"] = long.as_str().into();
    offers.push(image);
    assert!(offers.len() > 100, "{}", offers.len());
    check_all(&files, "evidence", &offer(), offers.into_iter());
    // A receipt has three bundles, which are read by the same functions: some of each.
    let receipts = replaced(&receipt(), HOSTILE).into_iter().step_by(7);
    check_all(&files, "receipt", &receipt(), receipts);
}

fn check_all(files: &Files, command: &str, good: &Value, all: impl Iterator<Item = Value>) {
    let good = ["", "--json"]
        .map(|rest| files.judge(command, &good.to_string(), rest).expect("judges").stdout);
    for (number, value) in all.enumerate() {
        let text = value.to_string();
        let json = number % 2 == 1;
        let rest = if json { "--json" } else { "" };
        let what = format!("{command} {rest} {}", &text[..text.len().min(300)]);
        let result = files.judge(command, &text, rest);
        let shown = shown(result, json, &good[usize::from(json)], &what);
        check_shown(&shown, &what);
        if json {
            serde_json::from_str::<Value>(&shown).expect("JSON");
        } else {
            assert!(shown.len() < 40_000, "{} bytes: {what}", shown.len());
        }
    }
}

/// The same through the process: what is written to standard error.
#[test]
fn errors_are_one_line_and_a_fix() {
    let files = Files::new();
    let text = offer().to_string().replacen('{', &format!("{{{}:1,", Value::from(HOSTILE)), 1);
    files.write("file.json", text.as_bytes());
    let line = files.line("evidence", "--no-memory");
    let program = env!("CARGO_BIN_EXE_sealtune-verify");
    let output = |rest: &str| {
        let line = format!("{line} {rest}");
        let words = line.split_whitespace().skip(1);
        Command::new(program).args(words).output().expect("starts")
    };
    let plain = output("");
    let said = String::from_utf8(plain.stderr).expect("text");
    check_shown(&said, "stderr");
    assert_eq!((plain.status.code(), said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.starts_with("error: failed to use ") && said.contains("(ST-EVID-32)\nfix: "));
    let json = output("--json");
    let said = String::from_utf8(json.stderr).expect("text");
    check_shown(&said, "stderr");
    let value: Value = serde_json::from_str(&said).expect("JSON");
    let keys = value["error"].as_object().expect("an object");
    assert_eq!(keys.len(), 3, "{said}");
    assert_eq!(value["error"]["code"], "ST-EVID-32");
    assert!(value["error"]["fix"].is_string() && value["error"]["message"].is_string());
    assert!(plain.stdout.is_empty() && json.stdout.is_empty());
}
