//! `sealtune-verify evidence`.

use sealtune_evidence::{EvidenceBundle, Expectation, Role, appraise, bundle::MAX_BUNDLE_BYTES};

use crate::{
    Report, Surroundings,
    cli::EvidenceCommand,
    failure::Failure,
    input,
    judge::{Judge, Part},
};

pub(crate) fn run(
    command: &EvidenceCommand,
    json: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Report, Failure> {
    let judge = Judge::read(&command.judge, surroundings)?;
    let bytes = input::judged(&command.file, MAX_BUNDLE_BYTES)?;
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
    let parts = [Part { name: "", bundle: &bundle }];
    let verdicts = judge
        .with_collateral_for(&[&bundle])?
        .judge(&parts, |context| appraise(&bundle, &expectation, context).verdict)?;
    verdicts.report(json)
}
