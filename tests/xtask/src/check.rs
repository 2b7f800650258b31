//! Formatting, lints, builds of parts, licences.

use crate::{
    Outcome, licences, process, programs::FEATURES, setup, summary::Tally, workspace::Workspace,
};

pub(crate) fn run(workspace: &Workspace, tally: &mut Tally) -> Outcome<()> {
    setup::to_build()?;
    let cargo: [(&str, &[&str]); 6] = [
        ("lock file", &["metadata", "--locked", "--format-version", "1", "--quiet"]),
        ("formatting", &["fmt", "--all", "--check"]),
        (
            "formatting of fuzz targets",
            &["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"],
        ),
        ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        (
            "lints with the simulated TEE",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--features",
                FEATURES,
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        ),
        (
            "the customer's commands alone",
            &[
                "check",
                "--package",
                "sealtune",
                "--no-default-features",
                "--features",
                "client",
                "--quiet",
            ],
        ),
    ];
    for (name, words) in cargo {
        let [command, rest @ ..] = words else { continue };
        let mut cargo = workspace.cargo(command);
        cargo.args(rest);
        // Metadata is long and nobody reads it.
        let outcome = match *command {
            "metadata" => process::output(&mut cargo).map(|_| ()),
            _ => process::run(&mut cargo),
        };
        tally.record(name, outcome.map_err(|trouble| trouble.text().to_owned()));
    }
    licences::check(workspace, tally)
}
