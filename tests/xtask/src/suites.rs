//! Rust tests: built once for the whole workspace, then each executable run by itself, so that one that fails hides no other.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Outcome, Trouble, process, programs::SELECTION, summary::Tally, workspace::Workspace};

/// One executable with tests.
#[derive(Debug)]
pub(crate) struct Suite {
    package: String,
    /// `sealtune_wire`, or the name of a file in `tests/`.
    pub(crate) name: String,
    kind: String,
    executable: PathBuf,
    directory: PathBuf,
}

const STORIES: &str = "sealtune-tests";
/// A suite that takes longer hangs: it is ended and has failed.
const LONGEST: Duration = Duration::from_secs(600);

/// All executables, and whether some could not be built.
pub(crate) fn build(workspace: &Workspace) -> Outcome<(Vec<Suite>, bool)> {
    process::step("build all tests", || {
        let mut cargo = workspace.cargo("build");
        cargo.args(["--quiet", "--bins", "--tests", "--keep-going"]).args(SELECTION);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        let output = cargo
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Trouble::failed(format!("start cargo: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut suites: Vec<Suite> = text.lines().filter_map(suite).collect();
        suites.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
        Ok((suites, !output.status.success()))
    })
}

/// A line of cargo's messages, if it announces an executable with tests.
fn suite(line: &str) -> Option<Suite> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    Some(Suite {
        package: package_name(message["package_id"].as_str()?),
        name: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        executable: PathBuf::from(message["executable"].as_str()?),
        directory: manifest.parent()?.to_owned(),
    })
}

/// `path+file:///a/b#name@0.1.0`, or `…/name#0.1.0` where the directory has the package's name.
fn package_name(id: &str) -> String {
    let (path, rest) = id.rsplit_once('#').unwrap_or(("", id));
    match rest.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

/// xtask's own tests: it is not part of the selection, for its dependencies have other features.
pub(crate) fn run_own(workspace: &Workspace) -> Outcome<Tally> {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--quiet", "--package", "xtask", "--tests"]);
    let text = process::output(cargo.args(["--message-format", "json-render-diagnostics"]))?;
    let mut tally = Tally::default();
    for suite in text.lines().filter_map(suite) {
        tally.add(suite.run(&[], false)?);
    }
    Ok(tally)
}

impl Suite {
    /// Whether it needs VMs.
    pub(crate) fn is_story(&self) -> bool {
        self.package == STORIES && self.kind == "test"
    }

    /// Runs all of its tests; with `live`, one at a time and shown while they run.
    pub(crate) fn run(&self, environment: &[(&str, String)], live: bool) -> Outcome<Tally> {
        let start = Instant::now();
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if live {
            command.args(["--test-threads=1", "--nocapture"]);
        } else {
            command.arg("--show-output");
        }
        // One pipe for both, so that lines keep their order.
        let (reader, writer) =
            std::io::pipe().map_err(|error| Trouble::failed(format!("make a pipe: {error}")))?;
        let failed = |error: std::io::Error| {
            Trouble::failed(format!("run {}: {error}", self.executable.display()))
        };
        let second = writer.try_clone().map_err(failed)?;
        let mut child = command.stdout(writer).stderr(second).spawn().map_err(failed)?;
        // The command holds the pipe's writing end: without this the reading never ends.
        drop(command);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut text = String::new();
        let hangs = loop {
            match lines.recv_timeout(LONGEST.saturating_sub(start.elapsed())) {
                Ok(line) => {
                    if live {
                        eprintln!("   {line}");
                    }
                    text.push_str(&line);
                    text.push('\n');
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
                Err(mpsc::RecvTimeoutError::Timeout) => break true,
            }
        };
        if hangs {
            child.kill().map_err(failed)?;
        }
        let status = child.wait().map_err(failed)?;
        let label = format!("{} {}", self.package, self.name);
        let mut tally = tally(&label, &text);
        if hangs {
            let running = running(&text).join(", ");
            tally.failures.push(format!("{label}: hangs in {running}"));
        } else if !status.success() && tally.failures.is_empty() {
            tally.failures.push(format!("{label}: {status}"));
        }
        if !tally.failures.is_empty() && !live {
            eprint!("{text}");
        }
        let (passed, failures) = (tally.passed, tally.failures.len());
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("   {label}: {passed} passed, {failures} failed, {seconds:.1} s");
        Ok(tally)
    }
}

/// What libtest says. A test that says it was skipped did not pass.
fn tally(label: &str, text: &str) -> Tally {
    let mut tally = Tally::default();
    let mut skipping = 0;
    for line in text.lines() {
        if let Some(counts) = line.strip_prefix("test result: ") {
            tally.passed += count(counts, " passed");
            tally.skipped += count(counts, " ignored");
        } else if line.starts_with("skipped: ") {
            skipping += 1;
        }
    }
    tally.passed = tally.passed.saturating_sub(skipping);
    tally.skipped += skipping;
    // The list of names stands at the end, below the last "failures:".
    if let Some((_, names)) = text.rsplit_once("\nfailures:\n") {
        let names = names.lines().take_while(|line| line.starts_with("    "));
        tally.failures = names.map(|name| format!("{label}: {}", name.trim())).collect();
    }
    tally
}

/// Tests that libtest has said to be slow and not to have ended.
fn running(text: &str) -> Vec<&str> {
    let slow = text.lines().filter_map(|line| {
        line.strip_prefix("test ")?.strip_suffix(" has been running for over 60 seconds")
    });
    slow.filter(|name| !text.contains(&format!("test {name} ... "))).collect()
}

fn count(counts: &str, word: &str) -> usize {
    let before = counts.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_says_is_counted() {
        let text = "test a ... ok\nskipped: no vectors\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nboom\n\n\nfailures:\n    b\n\n\
                    test result: FAILED. 5 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let tally = tally("x", text);
        assert_eq!((tally.passed, tally.skipped), (4, 3));
        assert_eq!(tally.failures, ["x: b"]);
    }

    #[test]
    fn what_hangs_is_named() {
        let text = "test a has been running for over 60 seconds\n\
                    test b has been running for over 60 seconds\ntest a ... ok\n";
        assert_eq!(running(text), ["b"]);
    }

    #[test]
    fn package_names() {
        assert_eq!(package_name("path+file:///w/shared/wire#sealtune-wire@0.1.0"), "sealtune-wire");
        assert_eq!(package_name("path+file:///w/xtask#0.1.0"), "xtask");
    }
}
