//! `sealtune-verify evidence`.

use sealtune_evidence::{
    EvidenceBundle, Expectation, Role, Verdict, appraise, bundle::MAX_BUNDLE_BYTES,
};

use crate::{
    Report,
    cli::EvidenceCommand,
    failure::Failure,
    input::{self, JudgeInput},
};

pub(crate) fn run(command: &EvidenceCommand, json: bool, now: u64) -> Result<Report, Failure> {
    let judge = JudgeInput::read(&command.judge, now)?;
    let bytes = input::read(&command.file, MAX_BUNDLE_BYTES)?;
    let bundle = EvidenceBundle::parse(&bytes)
        .map_err(Failure::of(&command.file, |path, source| Failure::Evidence { path, source }))?;
    let mut expectation = Expectation::new(command.purpose, Some(command.nonce));
    expectation.job = command.job;
    expectation.spec = command.spec;
    expectation.previous = command.previous;
    expectation.asked_at = command.asked_at;
    expectation.layer_roots = command.judge.layer.clone();
    if command.signer {
        expectation.role = Role::Signer;
    }
    let verdict = appraise(&bundle, &expectation, &judge.context()).verdict;
    answer(&verdict, json)
}

/// A verdict as the user wants it, and the exit that follows from it.
pub(crate) fn answer(verdict: &Verdict, json: bool) -> Result<Report, Failure> {
    let stdout = if json {
        let mut text = serde_json::to_string(verdict).map_err(Failure::Write)?;
        text.push('\n');
        text
    } else {
        verdict.render()
    };
    Ok(Report { stdout, accepted: verdict.is_accepted() })
}
