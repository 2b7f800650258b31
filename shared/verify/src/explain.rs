//! `sealtune-verify explain`.

use std::fmt::Write as _;

use sealtune_evidence::codes::CodeEntry;
use serde_json::json;

use crate::{
    Report,
    catalogue::{all_codes, explain},
    cli::ExplainCommand,
    failure::Failure,
};

pub(crate) fn run(command: &ExplainCommand, json: bool) -> Result<Report, Failure> {
    let entries: Vec<CodeEntry> = match &command.code {
        None => all_codes().collect(),
        Some(code) => {
            let entry = explain(code)
                .ok_or_else(|| Failure::UnknownCode(code.chars().take(64).collect()))?;
            vec![entry]
        }
    };
    let mut stdout = String::new();
    if json {
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| json!({ "code": entry.code, "cause": entry.cause, "fix": entry.fix }))
            .collect();
        let value = match (&command.code, rows.as_slice()) {
            (Some(_), [row]) => row.clone(),
            _ => json!(rows),
        };
        stdout.push_str(&value.to_string());
        stdout.push('\n');
    } else {
        for entry in entries {
            let _ = writeln!(
                stdout,
                "{}\n  cause  {}\n  fix    {}",
                entry.code, entry.cause, entry.fix
            );
        }
    }
    Ok(Report { stdout, accepted: true })
}
