//! Building the product's programs, with one choice of features for all of the workspace, so that cargo builds each
//! crate once.

use std::path::PathBuf;

use crate::{
    Outcome, Trouble, process,
    setup::MUSL,
    workspace::{Workspace, make_directory},
};

/// Without hardware everything here runs in the simulated TEE.
pub(crate) const FEATURES: &str =
    "sealtune/simulated-tee,sealtune-evidence/simulated-tee,sealtune-agent/simulated-tee";

/// Selects the workspace without xtask itself, whose dependencies have other features.
pub(crate) const SELECTION: [&str; 5] =
    ["--workspace", "--exclude", "xtask", "--features", FEATURES];

#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) sealtune: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) verify: PathBuf,
}

pub(crate) fn build_host(workspace: &Workspace) -> Outcome<Programs> {
    process::step("build the programs of the host", || {
        let mut cargo = workspace.cargo("build");
        process::run(cargo.args(["--quiet", "--bins"]).args(SELECTION))?;
        let program = |name: &str| {
            let path = workspace.target.join("debug").join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(Trouble::failed(format!("find {}", path.display())))
            }
        };
        Ok(Programs {
            sealtune: program("sealtune")?,
            image: program("sealtune-image")?,
            verify: program("sealtune-verify")?,
        })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Prod,
}

impl Profile {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Prod => "prod",
        }
    }
}

/// The static agent: the dev one can ask for simulated quotes, the prod one cannot.
pub(crate) fn build_agent(workspace: &Workspace, profile: Profile) -> Outcome<PathBuf> {
    process::step(&format!("build the {} agent", profile.name()), || {
        let mut cargo = workspace.cargo("build");
        cargo.args(["--quiet", "--package", "sealtune-agent"]);
        cargo.args(["--profile", "guest", "--target", MUSL]);
        if profile == Profile::Dev {
            cargo.args(["--features", "simulated-tee"]);
        }
        process::run(&mut cargo)?;
        let built = workspace.target.join(MUSL).join("guest/sealtune-agent");
        let folder = workspace.made("agents");
        make_directory(&folder)?;
        // Both come from the same path: each gets a name of its own.
        let kept = folder.join(format!("sealtune-agent-{}", profile.name()));
        std::fs::copy(&built, &kept)
            .map_err(|error| Trouble::failed(format!("copy {}: {error}", built.display())))?;
        Ok(kept)
    })
}
