//! `sealtune-verify receipt`.

use sealtune_receipt::{ReceiptPackage, Request, package::MAX_PACKAGE_BYTES, verify_package};
use sealtune_seal::commitment::Opening;

use crate::{
    Report, Surroundings,
    cli::ReceiptCommand,
    failure::Failure,
    input,
    judge::{Judge, Part},
};

const MAX_OPENING_BYTES: usize = 64 * 1024 * 1024;

pub(crate) fn run(
    command: &ReceiptCommand,
    json: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Report, Failure> {
    let judge = Judge::read(&command.judge, surroundings)?;
    let bytes = input::judged(&command.file, MAX_PACKAGE_BYTES)?;
    let package = ReceiptPackage::parse(&bytes)
        .map_err(Failure::of(&command.file, |path, source| Failure::Receipt { path, source }))?;
    let mut openings = Vec::new();
    for path in &command.opening {
        let bytes = input::read(path, MAX_OPENING_BYTES)?;
        let opening: Opening = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Opening { path: path.clone(), reason: error.to_string() })?;
        openings.push(opening);
    }
    let request = Request {
        nonce: command.nonce,
        job: command.job,
        spec: command.spec,
        layer_roots: command.judge.layer.clone(),
        openings,
        result_sha256: command.result.as_deref().map(input::sha256).transpose()?,
    };
    let evidence = &package.evidence;
    let mut parts = vec![
        Part { name: "start.", bundle: &evidence.start },
        Part { name: "receipt.", bundle: &evidence.receipt },
    ];
    parts.extend(evidence.offer.as_ref().map(|bundle| Part { name: "offer.", bundle }));
    // The newest first: what is asked for follows from it.
    let mut bundles = vec![&evidence.receipt, &evidence.start];
    bundles.extend(&evidence.offer);
    let verdicts = judge
        .with_collateral_for(&bundles)?
        .judge(&parts, |context| verify_package(&package, &request, context).verdict)?;
    verdicts.report(json)
}
