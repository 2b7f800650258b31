//! Stories in real VMs: everything they need is built first, then told to them in one file.

use serde_json::json;

use crate::{
    Outcome,
    artefacts::{self, Shape},
    programs::{self, Profile},
    setup, suites,
    summary::Tally,
    workspace::{Workspace, make_directory, write},
};

/// Small, so that VMs of two jobs fit beside each other on a small machine.
/// One processor: under emulation, a kernel that patches its own code while another processor runs it can die of it.
const SHAPE: Shape = Shape { vcpus: 1, memory_mib: 1024 };

pub(crate) fn run(workspace: &Workspace, tally: &mut Tally) -> Outcome<()> {
    setup::to_build()?;
    let tools = setup::to_run_vms(workspace)?;
    let programs = programs::build_host(workspace)?;
    let agent = programs::build_agent(workspace, Profile::Dev)?;
    let image = artefacts::image(workspace, &programs, &agent, Profile::Dev)?;
    let layer = artefacts::story_layer(workspace, &programs)?;
    let folder = workspace.made("stories");
    make_directory(&folder)?;
    let reference = folder.join("reference-values.json");
    artefacts::reference_values(&programs, &tools, &image, SHAPE, &layer, &reference)?;
    let stage = folder.join("stage.json");
    let told = json!({
        "sealtune": programs.sealtune,
        "verify": programs.verify,
        "image": image,
        "layers": layer.directory,
        "layer": layer.description,
        "reference": reference,
        "firmware": tools.firmware,
        "vsock_helper": tools.vsock_helper,
        "repository": workspace.root,
        "vcpus": SHAPE.vcpus,
        "memory_mib": SHAPE.memory_mib,
    });
    write(&stage, told.to_string())?;
    let environment = [("SEALTUNE_STORIES", stage.display().to_string())];
    let (suites, broken) = suites::build(workspace)?;
    if broken {
        tally.record("build", Err("some crate does not build".into()));
    }
    let only = std::env::var("SEALTUNE_STORY").ok();
    for suite in suites.iter().filter(|suite| suite.is_story()) {
        if only.as_ref().is_none_or(|only| *only == suite.name) {
            eprintln!("-- story {}", suite.name);
            tally.add(suite.run(&environment, true)?);
        }
    }
    Ok(())
}
