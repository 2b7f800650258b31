//! Counting what passed and what failed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::process::minutes;

/// What an area found. Nothing stops at the first failure.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) skipped: usize,
    /// Names, each with the reason if there is a short one.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    pub(crate) fn record(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                eprintln!("   ok: {name}");
                self.passed += 1;
            }
            Err(reason) => {
                eprintln!("   FAILED: {name}\n{reason}");
                let first = reason.lines().next().unwrap_or_default();
                self.failures.push(format!("{name}: {first}"));
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

#[derive(Debug)]
pub(crate) struct AreaReport {
    pub(crate) name: &'static str,
    pub(crate) time: Duration,
    pub(crate) tally: Tally,
}

/// The closing lines; the last one is `N passed, N failed`.
pub(crate) fn text(reports: &[AreaReport]) -> String {
    let mut lines = Vec::new();
    for report in reports {
        for failure in &report.tally.failures {
            lines.push(format!("failed: {}: {failure}", report.name));
        }
    }
    for AreaReport { name, time, tally } in reports {
        let (passed, failed, skipped) = (tally.passed, tally.failures.len(), tally.skipped);
        let time = minutes(*time);
        lines.push(format!(
            "{name:<8} {time:>9}  {passed:>4} passed  {failed:>3} failed  {skipped:>3} skipped"
        ));
    }
    let (passed, failed) = totals(reports);
    lines.push(format!("{passed} passed, {failed} failed"));
    lines.join("\n")
}

pub(crate) fn json(reports: &[AreaReport]) -> Value {
    let areas: Vec<Value> = reports
        .iter()
        .map(|report| {
            json!({
                "area": report.name,
                "seconds": report.time.as_secs(),
                "passed": report.tally.passed,
                "skipped": report.tally.skipped,
                "failures": report.tally.failures,
            })
        })
        .collect();
    let (passed, failed) = totals(reports);
    json!({ "passed": passed, "failed": failed, "areas": areas })
}

pub(crate) fn totals(reports: &[AreaReport]) -> (usize, usize) {
    let tallies = || reports.iter().map(|report| &report.tally);
    (tallies().map(|tally| tally.passed).sum(), tallies().map(|tally| tally.failures.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_everything() {
        let mut tally = Tally { passed: 3, ..Tally::default() };
        tally.record("a", Err("because\nof this".into()));
        let reports = [
            AreaReport { name: "unit", time: Duration::from_secs(90), tally },
            AreaReport { name: "image", time: Duration::ZERO, tally: Tally::default() },
        ];
        let text = text(&reports);
        assert!(text.starts_with("failed: unit: a: because\n"), "{text}");
        assert!(text.ends_with("\n3 passed, 1 failed"), "{text}");
        assert!(text.contains("unit       1.5 min     3 passed    1 failed"), "{text}");
    }
}
