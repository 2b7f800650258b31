//! What a command prints: for people, or one JSON value. Only this goes to stdout.

use std::io::Write as _;

use serde::Serialize;

use crate::client::{CliError, ClientError, Progress};

#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    progress: Progress,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, progress: Progress::new() }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The answer: `value` with `--json`, else what `text` says.
    pub(crate) fn answer<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        let shown = if self.json {
            serde_json::to_string_pretty(value)
                .map_err(|error| ClientError::Bug(format!("write the answer: {error}")))?
        } else {
            text()
        };
        self.write(shown.trim_end());
        Ok(())
    }

    /// Text that comes piece by piece, for people only.
    pub(crate) fn stream(&self, text: &str) {
        if !self.json {
            let mut stdout = std::io::stdout().lock();
            // A reader that left has seen what it wanted.
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
    }

    /// Text whose form is right already.
    #[cfg(feature = "daemon")]
    pub(crate) fn text(&self, text: &str) {
        self.write(text.trim_end());
    }

    fn write(&self, text: &str) {
        if !text.is_empty() {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }
}

/// Columns, as wide as their widest cell.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&heads.map(str::to_owned))];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "running".to_owned()], ["long".to_owned(), "x".to_owned()]];
        assert_eq!(table(["VM", "STATE"], &rows), "VM    STATE\na     running\nlong  x");
    }
}
