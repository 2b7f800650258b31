//! Running a command and reading what it answers.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// How a command ended, and what it said.
#[derive(Debug, Clone)]
pub struct Answer {
    line: String,
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn tell(command: &mut Command) -> Answer {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("start `{line}`: {error}"));
    Answer::new(line, output)
}

pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

impl Answer {
    pub(crate) fn new(line: String, output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            line,
            // A signal counts as no exit code that any command has.
            exit: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The JSON that a command answers with `--json`, when it did what it was told.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.exit, 0, "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The code of the error that a command reports with `--json`.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.error()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn error(&self) -> Value {
        // Progress goes to stderr too; the error is the last of it.
        let begins = self.stderr.rfind("{\"error\"").or_else(|| self.stderr.rfind("{\n"));
        let begins = begins.unwrap_or_else(|| panic!("no error in {self}"));
        let text = self.stderr.get(begins..).unwrap_or_default();
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {self}"));
        value["error"].clone()
    }

    /// That the command ended with `exit` and the error `code`, and told how to go on.
    #[track_caller]
    pub fn is_refusal(&self, exit: i32, code: &str) {
        assert_eq!((self.exit, self.error_code().as_str()), (exit, code), "{self}");
        assert!(self.error()["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{self}");
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, exit, stdout, stderr } = self;
        write!(f, "`{line}`: exit {exit}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_found_behind_the_progress() {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 'job 1: training' >&2; echo '{"error":{"code":"ST-X-01","message":"m","fix":"f"}}' >&2; exit 4"#]);
        tell(&mut command).is_refusal(4, "ST-X-01");
    }
}
