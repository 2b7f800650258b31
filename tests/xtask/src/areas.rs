//! `cargo xtask test`: areas one after the other, every failure reported, minutes printed.

use std::{path::Path, process::ExitCode, time::Instant};

use crate::{
    Outcome, Trouble, artefacts, check, process,
    programs::{self, Profile},
    setup, stories, suites,
    summary::{self, AreaReport, Tally},
    workspace::Workspace,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Check,
    Unit,
    Python,
    Image,
    Stories,
}

const ALL: [Area; 5] = [Area::Check, Area::Unit, Area::Python, Area::Image, Area::Stories];

impl Area {
    fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Unit => "unit",
            Self::Python => "python",
            Self::Image => "image",
            Self::Stories => "stories",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Wanted {
    areas: Vec<Area>,
    json: bool,
}

impl Wanted {
    pub(crate) fn parse(words: &[&str]) -> Outcome<Self> {
        let (mut areas, mut json, mut no_vm) = (Vec::new(), false, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--json" => json = true,
                "--no-vm" => no_vm = true,
                "--area" => {
                    let name = words.next().copied().unwrap_or_default();
                    let area = ALL.into_iter().find(|area| area.name() == name);
                    let names = ALL.map(Area::name).join(", ");
                    areas.push(area.ok_or_else(|| {
                        Trouble::Usage(format!("there is no area {name:?}; areas are {names}"))
                    })?);
                }
                other => return Err(Trouble::Usage(format!("what does {other:?} mean?"))),
            }
        }
        if areas.is_empty() {
            areas = ALL.to_vec();
        }
        if no_vm {
            areas.retain(|area| *area != Area::Stories);
        }
        Ok(Self { areas, json })
    }
}

pub(crate) fn test(workspace: &Workspace, wanted: &Wanted) -> Outcome<ExitCode> {
    let mut reports = Vec::new();
    for area in &wanted.areas {
        eprintln!("== {}", area.name());
        let start = Instant::now();
        let tally = run(workspace, *area);
        reports.push(AreaReport { name: area.name(), time: start.elapsed(), tally });
    }
    if wanted.json {
        println!("{}", summary::json(&reports));
    } else {
        println!("\n{}", summary::text(&reports));
    }
    let (passed, failed) = summary::totals(&reports);
    // An empty run proves nothing.
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// That an area could not be run at all counts as one failure of it.
fn run(workspace: &Workspace, area: Area) -> Tally {
    let mut tally = Tally::default();
    let outcome = match area {
        Area::Check => check::run(workspace, &mut tally),
        Area::Unit => unit(workspace, &mut tally),
        Area::Python => python(workspace, &mut tally),
        Area::Image => image(workspace, &mut tally),
        Area::Stories => stories::run(workspace, &mut tally),
    };
    if let Err(trouble) = outcome {
        tally.record("the area itself", Err(trouble.text().to_owned()));
    }
    tally
}

fn unit(workspace: &Workspace, tally: &mut Tally) -> Outcome<()> {
    setup::to_build()?;
    let (suites, broken) = suites::build(workspace)?;
    if broken {
        tally.record("build", Err("some crate does not build; its tests did not run".into()));
    }
    for suite in suites.iter().filter(|suite| !suite.is_story()) {
        tally.add(suite.run(&[], false)?);
    }
    tally.add(suites::run_own(workspace)?);
    Ok(())
}

/// Signed documents, read with other people's tools.
const DSSE_TESTS: [&str; 2] = ["test_release_manifest.py", "test_receipt.py"];

fn python(workspace: &Workspace, tally: &mut Tally) -> Outcome<()> {
    let model = setup::likely_python(workspace);
    python_file(workspace, &model, "tests/demo", "test_model.py", tally)?;
    let dsse = process::step("a Python with readers of DSSE and in-toto", || {
        setup::python_with_dsse(workspace)
    });
    match dsse {
        Ok(python) => {
            for name in DSSE_TESTS {
                let before = tally.skipped;
                python_file(workspace, &python, "tests/scripts", name, tally)?;
                // What its tests need was just made.
                if tally.skipped > before {
                    let reason = "it skipped tests: its packages do not import".to_owned();
                    tally.record(name, Err(reason));
                }
            }
        }
        Err(trouble) => {
            for name in DSSE_TESTS {
                tally.record(name, Err(trouble.text().to_owned()));
            }
        }
    }
    Ok(())
}

fn python_file(
    workspace: &Workspace,
    python: &Path,
    folder: &str,
    name: &str,
    tally: &mut Tally,
) -> Outcome<()> {
    let mut python = std::process::Command::new(python);
    python.arg(name).current_dir(workspace.root.join(folder)).env("PYTHONDONTWRITEBYTECODE", "1");
    let output =
        python.output().map_err(|error| Trouble::failed(format!("start python3: {error}")))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    eprint!("{text}");
    let (ran, skipped) = unittest_counts(&text);
    if output.status.success() && ran > 0 {
        tally.passed += ran - skipped;
        tally.skipped += skipped;
    } else {
        tally.record(name, Err(format!("{}", output.status)));
    }
    Ok(())
}

/// `Ran 12 tests in 0.1s` and `OK (skipped=3)`.
fn unittest_counts(text: &str) -> (usize, usize) {
    let number_after = |word: &str| {
        let rest = text.split_once(word)?.1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().ok()
    };
    (number_after("Ran ").unwrap_or(0), number_after("skipped=").unwrap_or(0))
}

/// Bytes that only an agent with the simulated TEE carries.
const SIMULATED_MARKER: &[u8] = b"SIMULATED TEE";
const MOST_IMAGE_BYTES: u64 = 24 << 20;

fn image(workspace: &Workspace, tally: &mut Tally) -> Outcome<()> {
    setup::to_build()?;
    setup::to_run_vms(workspace)?;
    let programs = programs::build_host(workspace)?;
    let mut agents = Vec::new();
    for profile in [Profile::Prod, Profile::Dev] {
        let agent = programs::build_agent(workspace, profile)?;
        let image = artefacts::image(workspace, &programs, &agent, profile)?;
        let name = profile.name();
        let mut verify = std::process::Command::new(&programs.image);
        let intact = process::run(verify.arg("verify").arg(&image));
        tally.record(&format!("{name} image is intact"), said(intact));
        let bytes = artefacts::image_bytes(&image)?;
        let small = bytes < MOST_IMAGE_BYTES;
        let size = format!("{name} image has {bytes} bytes, less than {MOST_IMAGE_BYTES}");
        tally.record(&size, if small { Ok(()) } else { Err("it is too big".into()) });
        let simulated = contains(&agent, SIMULATED_MARKER)?;
        let right = simulated == (profile == Profile::Dev);
        tally.record(
            &format!("only the dev agent holds the simulated TEE: {name}"),
            if right { Ok(()) } else { Err(format!("its marker is there: {simulated}")) },
        );
        agents.push(agent);
    }
    if let [prod, dev] = agents.as_slice() {
        // From the second build on: the first may be of an earlier run.
        let again = artefacts::image_again(workspace, &programs, dev, Profile::Dev)?;
        let first = artefacts::image(workspace, &programs, dev, Profile::Dev)?;
        let other = artefacts::image(workspace, &programs, prod, Profile::Prod)?;
        tally.record("two builds of an image are the same", same(&programs.image, &first, &again));
        tally.record(
            "two other images are told apart",
            match same(&programs.image, &first, &other) {
                Ok(()) => Err("dev and prod are the same".into()),
                Err(text) if text.contains("profile") => Ok(()),
                Err(text) => Err(text),
            },
        );
        let out = workspace.made("image-refused");
        let mut build = std::process::Command::new(&programs.image);
        build.args(["build", "--profile", "prod", "--agent"]).arg(dev).arg("--out").arg(&out);
        build.arg("--cache").arg(workspace.package_cache()).arg("--json");
        let refused = refusal(&mut build, "ST-IMAGE-10");
        tally.record("a prod image with the simulated TEE is refused", refused);
    }
    artefacts::story_layer(workspace, &programs)?;
    tally.record("layer training-python", Ok(()));
    Ok(())
}

/// What differs between two images, by `sealtune-image diff`.
fn same(program: &Path, a: &Path, b: &Path) -> Result<(), String> {
    let mut diff = std::process::Command::new(program);
    let output = diff.arg("diff").arg(a).arg(b).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(text.into_owned()) }
}

fn said(outcome: Outcome<()>) -> Result<(), String> {
    outcome.map_err(|trouble| trouble.text().to_owned())
}

fn refusal(command: &mut std::process::Command, code: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !text.contains(code) {
        return Err(format!("expected {code}, got {} and {text}", output.status));
    }
    Ok(())
}

fn contains(path: &Path, needle: &[u8]) -> Outcome<bool> {
    let bytes = std::fs::read(path)
        .map_err(|error| Trouble::failed(format!("read {}: {error}", path.display())))?;
    Ok(bytes.windows(needle.len()).any(|window| window == needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let wanted = Wanted::parse(&["--area", "unit", "--area", "stories", "--no-vm"]).unwrap();
        assert_eq!(wanted.areas, [Area::Unit]);
        assert_eq!(Wanted::parse(&[]).unwrap().areas.len(), ALL.len());
        assert!(Wanted::parse(&["--area", "nothing"]).is_err());
        assert!(Wanted::parse(&["--fast"]).is_err());
    }

    #[test]
    fn counts_of_python_tests() {
        assert_eq!(unittest_counts("Ran 12 tests in 0.1s\n\nOK (skipped=3)\n"), (12, 3));
        assert_eq!(unittest_counts("Traceback"), (0, 0));
    }
}
