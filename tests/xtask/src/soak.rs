//! `cargo xtask soak`: what takes too long for every run.

use crate::{Outcome, Trouble, process, workspace::Workspace};

const DEFAULT_SECONDS: u32 = 60;

pub(crate) fn run(workspace: &Workspace, rest: &[&str]) -> Outcome<()> {
    let seconds: u32 = match rest {
        [] => DEFAULT_SECONDS,
        [text] => {
            text.parse().map_err(|_| Trouble::Usage(format!("{text:?} is no number of seconds")))?
        }
        _ => return Err(Trouble::Usage(format!("what does {rest:?} mean?"))),
    };
    ignored_tests(workspace)?;
    let mut failed = Vec::new();
    for target in fuzz_targets(workspace)? {
        let outcome = process::step(&format!("fuzz {target} for {seconds} s"), || {
            fuzz(workspace, &target, seconds)
        });
        if let Err(trouble) = outcome {
            eprintln!("{}", trouble.text());
            failed.push(target);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Trouble::failed(format!("fuzz {}", failed.join(", "))))
    }
}

/// Long tests are marked `#[ignore]`.
fn ignored_tests(workspace: &Workspace) -> Outcome<()> {
    process::step("long tests", || {
        let mut cargo = workspace.cargo("test");
        cargo.args(["--quiet", "--no-fail-fast"]).args(crate::programs::SELECTION);
        process::run(cargo.args(["--", "--ignored"]))
    })
}

fn fuzz_targets(workspace: &Workspace) -> Outcome<Vec<String>> {
    let folder = workspace.root.join("tests/fuzz/fuzz_targets");
    let failed =
        |error: std::io::Error| Trouble::failed(format!("list {}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// By cargo-fuzz without a sanitizer: works with the stable compiler. New inputs go to a copy of the corpus.
fn fuzz(workspace: &Workspace, target: &str, seconds: u32) -> Outcome<()> {
    let committed = workspace.root.join("tests/fuzz/corpus").join(target);
    let found = workspace.made("fuzz").join(target);
    crate::workspace::make_directory(&found)?;
    let tool = workspace.target.join("tools/bin/cargo-fuzz");
    if !tool.is_file() {
        eprintln!("missing: cargo-fuzz; building it below {}", workspace.target.display());
        let mut cargo = workspace.cargo("install");
        cargo.args(["--locked", "cargo-fuzz", "--root"]).arg(workspace.target.join("tools"));
        process::run(&mut cargo)?;
    }
    let mut fuzz = std::process::Command::new(&tool);
    fuzz.args(["fuzz", "run", "-s", "none", "--fuzz-dir"]).arg(workspace.root.join("tests/fuzz"));
    fuzz.arg("--target-dir").arg(workspace.made("fuzz-target"));
    fuzz.arg(target).arg(&found).arg(&committed);
    fuzz.args(["--", &format!("-max_total_time={seconds}"), "-max_len=65536"]);
    process::run(fuzz.current_dir(&workspace.root))
}
