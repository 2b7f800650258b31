//! `sealtune-verify dstack`.

use sealtune_evidence::appraise::{DstackReport, MAX_DSTACK_REPORT_BYTES, appraise_dstack};

use crate::{
    Report, Surroundings,
    cli::DstackCommand,
    failure::Failure,
    input,
    judge::{Judge, Part},
};

pub(crate) fn run(
    command: &DstackCommand,
    json: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Report, Failure> {
    let judge = Judge::read(&command.judge, surroundings)?;
    let bytes = input::judged(&command.file, MAX_DSTACK_REPORT_BYTES)?;
    let report = DstackReport::parse(&bytes)
        .map_err(Failure::of(&command.file, |path, source| Failure::Dstack { path, source }))?;
    let bundle = report.as_bundle();
    let parts = [Part { name: "", bundle: &bundle }];
    let verdicts = judge
        .with_collateral_for(&[&bundle])?
        .judge(&parts, |context| appraise_dstack(&report, Some(&command.report_data.0), context))?;
    verdicts.report(json)
}
