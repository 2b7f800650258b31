//! The customer, and a job of his.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Daemon, Inputs, Stage,
    command::{Answer, line, tell},
};

/// Has a key and a place for records; nothing of it is on the provider's side.
#[derive(Debug)]
pub struct Customer {
    stage: Stage,
    folder: TempDir,
}

/// What a customer asks for.
#[derive(Debug, Clone)]
pub struct Job<'j> {
    script: PathBuf,
    inputs: &'j Inputs,
    plain: bool,
    simulated_root: bool,
    references: Vec<PathBuf>,
    more: Vec<String>,
}

impl<'j> Job<'j> {
    /// In the clear.
    pub fn plain(inputs: &'j Inputs, script: PathBuf) -> Self {
        Self {
            script,
            inputs,
            plain: true,
            simulated_root: true,
            references: Vec::new(),
            more: Vec::new(),
        }
    }

    pub fn sealed(inputs: &'j Inputs, script: PathBuf) -> Self {
        Self { plain: false, ..Self::plain(inputs, script) }
    }

    /// The customer does not accept simulated evidence.
    pub fn with_hardware_only(mut self) -> Self {
        self.simulated_root = false;
        self
    }

    /// Other reference values than the right ones.
    pub fn with_references(mut self, files: &[PathBuf]) -> Self {
        self.references = files.to_vec();
        self
    }

    pub fn with(mut self, words: &[&str]) -> Self {
        self.more.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }
}

impl Customer {
    pub fn new(stage: &Stage) -> Self {
        let folder = tempfile::Builder::new().prefix("customer-").tempdir().expect("a folder");
        let customer = Self { stage: stage.clone(), folder };
        let mut key = Command::new(&customer.stage.sealtune);
        tell(key.args(["key", "new", "--json", "--out"]).arg(customer.key())).json();
        customer
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("owner.key")
    }

    fn records(&self) -> PathBuf {
        self.folder.path().join("records")
    }

    /// `sealtune …` as this customer.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.stage.sealtune);
        command.arg("--json").args(words);
        command.env("SEALTUNE_KEY", self.key()).env("SEALTUNE_RECORDS_DIR", self.records());
        command
    }

    /// A command about a job at this provider.
    pub fn ask(&self, daemon: &Daemon, words: &[&str]) -> Answer {
        tell(self.command(words).arg("--provider").arg(daemon.provider()))
    }

    /// With what this customer trusts: his own reference values, and the simulated root.
    pub fn trusting(&self, daemon: &Daemon, command: &mut Command) {
        command.arg("--reference").arg(&self.stage.reference);
        command.arg("--simulated-root").arg(daemon.simulated_root());
    }

    /// The provider has the model from now on.
    pub fn has_model(&self, daemon: &Daemon, inputs: &Inputs) {
        daemon.operator(&["content", "put", &inputs.model.to_string_lossy()]).json();
    }

    pub fn submit_command(&self, daemon: &Daemon, job: &Job<'_>) -> Command {
        let mut submit = self.command(&["job", "submit"]);
        submit.arg("--provider").arg(daemon.provider());
        submit.arg("--model").arg(&job.inputs.model).args(["--model-format", "file"]);
        submit.arg("--dataset").arg(&job.inputs.dataset);
        submit.arg("--image-file").arg(&self.stage.layer).arg("--script").arg(&job.script);
        if job.plain {
            submit.arg("--plain");
        }
        if job.simulated_root {
            submit.arg("--simulated-root").arg(daemon.simulated_root());
        }
        let usual = [self.stage.reference.clone()];
        let references = if job.references.is_empty() { &usual[..] } else { &job.references };
        for reference in references {
            submit.arg("--reference").arg(reference);
        }
        submit.args(&job.more);
        submit
    }

    /// Submits and does not wait; gives the job's id.
    #[track_caller]
    pub fn submit(&self, daemon: &Daemon, job: &Job<'_>) -> String {
        let view = tell(self.submit_command(daemon, job).arg("--no-wait")).json();
        view["job"].as_str().expect("a job id").to_owned()
    }

    /// Submits, and stays: releases when asked, and follows.
    pub fn submits(&self, daemon: &Daemon, job: &Job<'_>) -> Submission {
        Submission::start(self.submit_command(daemon, job))
    }

    /// Waits for the end of a job, though not for ever, and shows how it is then.
    #[track_caller]
    pub fn wait(&self, daemon: &Daemon, job: &str, time: Duration) -> Value {
        let seconds = time.as_secs().to_string();
        let waited = self.ask(daemon, &["job", "wait", job, "--timeout", &seconds]);
        let view = self.ask(daemon, &["job", "show", job]).json();
        // Whether it was delivered is the exit code of the waiting.
        let is_delivered = matches!(view["state"].as_str(), Some("delivered" | "acknowledged"));
        assert_eq!(waited.exit == 0, is_delivered, "{waited}\n{view}");
        // 3: it goes on, as the view shows.
        assert!(matches!(waited.exit, 0 | 1 | 3), "{waited}");
        view
    }

    pub fn logs(&self, daemon: &Daemon, job: &str) -> Value {
        self.ask(daemon, &["job", "logs", job]).json()
    }

    /// Fetches to a folder of that name.
    pub fn fetch(&self, daemon: &Daemon, job: &str, name: &str) -> (Answer, PathBuf) {
        let out = self.folder.path().join(name);
        let mut fetch = self.command(&["job", "fetch", job, "--out"]);
        fetch.arg(&out).arg("--provider").arg(daemon.provider());
        self.trusting(daemon, &mut fetch);
        (tell(&mut fetch), out)
    }

    /// This customer's own record of a job.
    pub fn record(&self, job: &str) -> Value {
        let path = self.records().join("jobs").join(format!("{job}.json"));
        let text = std::fs::read_to_string(path).expect("the job's record");
        serde_json::from_str(&text).expect("a record")
    }
}

/// A `job submit` that runs. What it says arrives line by line.
#[derive(Debug)]
pub struct Submission {
    line: String,
    process: Option<Child>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Submission {
    fn start(mut command: Command) -> Self {
        let line = line(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("start sealtune job submit");
        let stderr = process.stderr.take().expect("its stderr");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { line, process: Some(process), lines, said: Vec::new() }
    }

    /// Reads on until a line holds `words`; panics with what was said if none does in time.
    #[track_caller]
    pub fn says(&mut self, words: &str, time: Duration) -> String {
        let start = Instant::now();
        loop {
            let left = time.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(_) => {
                    panic!("{} did not say {words:?} but\n{}", self.line, self.said.join("\n"))
                }
            }
        }
    }

    /// The id of its job, which is the first thing it says.
    #[track_caller]
    pub fn job(&mut self) -> String {
        let line = self.says("job ", crate::SOON);
        line.split_whitespace().nth(1).expect("a job id").trim_end_matches(':').to_owned()
    }

    /// Its end.
    #[track_caller]
    pub fn ends(mut self, time: Duration) -> Answer {
        let start = Instant::now();
        // Its stderr ends when it does.
        while let Ok(line) = self.lines.recv_timeout(time.saturating_sub(start.elapsed())) {
            self.said.push(line);
        }
        assert!(start.elapsed() < time, "{} goes on:\n{}", self.line, self.said.join("\n"));
        let process = self.process.take().expect("a process");
        let output = process.wait_with_output().expect("its output");
        let mut answer = Answer::new(self.line.clone(), output);
        answer.stderr = self.said.join("\n");
        answer
    }

    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        self.end();
    }
}
