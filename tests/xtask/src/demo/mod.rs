//! `cargo xtask demo`: one real job, from an empty machine to a verified receipt.
//!
//! The daemon stands for a provider, everything else for his customer. They share a machine here and nothing else: the
//! customer has the reference values that he computed himself, his key, his data, and the provider's address.

mod customer;
mod daemon;
mod report;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Outcome, Trouble,
    artefacts::{self, Layer, LayerRecipe, Shape},
    baseline::{self, Baseline},
    process,
    process::step,
    programs::{self, Profile, Programs},
    setup::{self, VmTools},
    texts::{self, Texts},
    workspace::Workspace,
};
use customer::Customer;
use daemon::Daemon;
use report::Figures;

/// Enough for numpy beside the model.
const SHAPE: Shape = Shape { vcpus: 2, memory_mib: 2048 };
/// Boots measured on each side; the middle one counts.
const BOOTS: usize = 3;
const FOUND_BY_BOTH: f64 = 0.01;
const LEAST_FALL: f64 = 0.10;

/// What was built for the demo.
struct Stage {
    programs: Programs,
    tools: VmTools,
    image: PathBuf,
    layer: Layer,
    texts: Texts,
    folder: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, as_json: bool) -> Outcome<()> {
    let start = Instant::now();
    let stage = prepare(workspace)?;
    let prepared = start.elapsed();
    let start = Instant::now();
    let mut figures = play(workspace, &stage)?;
    figures.prepared = prepared;
    figures.played = start.elapsed();
    println!("{}", report::text(&figures));
    if as_json {
        println!("{}", report::json(&figures));
    }
    report::judge(&figures)
}

fn prepare(workspace: &Workspace) -> Outcome<Stage> {
    setup::to_build()?;
    let tools = setup::to_run_vms(workspace)?;
    let programs = programs::build_host(workspace)?;
    let agent = programs::build_agent(workspace, Profile::Dev)?;
    let image = artefacts::image(workspace, &programs, &agent, Profile::Dev)?;
    let scripts = workspace.root.join("tests/demo");
    let files = ["finetune.py", "model.py", "tokenizer.py"]
        .map(|name| (scripts.join(name), format!("/app/{name}")));
    let recipe = LayerRecipe {
        name: "training-numpy",
        packages: "python3,python3-numpy,libopenblas0-pthread",
        files: files.to_vec(),
    };
    let layer = artefacts::layer(workspace, &programs, &recipe)?;
    let texts = texts::prepare(workspace)?;
    let folder = artefacts::fresh(workspace, "demo")?;
    Ok(Stage { programs, tools, image, layer, texts, folder })
}

fn play(workspace: &Workspace, stage: &Stage) -> Outcome<Figures> {
    let baseline = baseline::build(workspace, &stage.image)?;
    let accelerator = choose_accelerator(stage, &baseline);
    let daemon = step("the provider starts its daemon", || Daemon::start(stage, accelerator))?;
    let health = daemon.health()?;
    let boots = step("boot times beside a trivial init", || {
        measure_boots(stage, &baseline, &daemon, &health)
    })?;

    let reference = stage.folder.join("reference-values.json");
    artefacts::reference_values(
        &stage.programs,
        &stage.tools,
        &stage.image,
        SHAPE,
        &stage.layer,
        &reference,
    )?;
    let customer = Customer::new(stage, &daemon, reference)?;
    step("the provider puts the base model into its content cache", || {
        daemon.operator(&["content", "put", &stage.texts.model_zip.to_string_lossy()]).map(|_| ())
    })?;
    let job =
        step("the customer submits, appraises, releases, follows", || customer.submit(workspace))?;
    let vm = daemon.vm_of(&job.id)?;
    let fetched =
        step("the customer fetches, decrypts, opens the receipt", || customer.fetch(&job))?;
    let verdicts = step("anybody verifies, offline", || customer.verify(&job))?;
    let evaluated =
        step("an independent evaluation on the host", || evaluate(workspace, stage, &fetched))?;
    let phases = phases(&daemon.operator(&["job", "show", &job.id])?);
    drop(daemon);

    Ok(Figures {
        before: fetched.perplexity_before,
        after: fetched.perplexity_after,
        evaluated_before: number(&evaluated, "perplexity_before")?,
        evaluated_after: number(&evaluated, "perplexity_after")?,
        offer_verdict: verdicts.offer,
        receipt_verdict: verdicts.receipt,
        simulated: verdicts.simulated,
        accelerator: artefacts::text(&health, "accelerator")?.to_owned(),
        tee: artefacts::text(&health, "tee")?.to_owned(),
        boot_ms: boots.ours,
        boot_baseline_ms: boots.baseline,
        agent_rss_kib: boots.agent_rss_kib.or_else(|| vm["resident_kib"].as_u64()),
        image_bytes: artefacts::image_bytes(&stage.image)?,
        layer_bytes: fetched.layer_bytes,
        dataset_bytes: fetched.dataset_bytes,
        result_bytes: fetched.result_bytes,
        phases,
        // A stranger's clock would count the transfers and the owner's own way to the release.
        first_line_ms: ["prepare", "start"]
            .iter()
            .map(|part| verdicts.durations[part].as_u64().unwrap_or_default())
            .sum(),
        fetch_ms: verdicts.durations["fetch"].as_u64().unwrap_or_default(),
        prepared: Duration::ZERO,
        played: Duration::ZERO,
    })
}

/// KVM may be there, run a small test guest and still fail with a real kernel (nested hosts): the same kernel tells.
fn choose_accelerator(stage: &Stage, baseline: &Baseline) -> &'static str {
    if !std::path::Path::new("/dev/kvm").exists() {
        return "tcg";
    }
    match baseline::boot(baseline, &stage.tools, SHAPE, true) {
        Ok(_) => "auto",
        Err(_) => {
            eprintln!("   KVM of this machine does not boot the kernel: emulating");
            "tcg"
        }
    }
}

#[derive(Debug)]
struct Boots {
    ours: u64,
    baseline: u64,
    agent_rss_kib: Option<u64>,
}

/// In turns, so that both sides meet the same load.
fn measure_boots(
    stage: &Stage,
    baseline: &Baseline,
    daemon: &Daemon,
    health: &Value,
) -> Outcome<Boots> {
    let kvm = health["accelerator"] == "kvm";
    let (mut ours, mut theirs, mut resident) = (Vec::new(), Vec::new(), None);
    for _ in 0..BOOTS {
        theirs.push(baseline::boot(baseline, &stage.tools, SHAPE, kvm)?);
        let vm = daemon.boot_once()?;
        ours.push(vm["ready_ms"].as_u64().ok_or_else(|| Trouble::failed("read a boot time"))?);
        resident = vm["resident_kib"].as_u64().or(resident);
    }
    eprintln!("   baseline {theirs:?} ms, ours {ours:?} ms");
    Ok(Boots { ours: middle(ours), baseline: middle(theirs), agent_rss_kib: resident })
}

fn middle(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn evaluate(workspace: &Workspace, stage: &Stage, fetched: &customer::Fetched) -> Outcome<Value> {
    let mut python = texts::quiet_python(&stage.texts.python);
    python.arg(workspace.root.join("tests/demo/evaluate.py"));
    python.arg("--model").arg(&stage.texts.base_model).arg("--adapter").arg(&fetched.output);
    let text = process::output(python.arg("--data").arg(&stage.texts.dataset))?;
    eprint!("   {text}");
    serde_json::from_str(&text)
        .map_err(|error| Trouble::failed(format!("read the evaluation: {error}")))
}

/// How long the job was in each state, from the times at which it entered them.
fn phases(job: &Value) -> Vec<(String, u64)> {
    let history: Vec<(String, u64)> =
        serde_json::from_value(job["history"].clone()).unwrap_or_default();
    history
        .iter()
        .zip(history.iter().skip(1))
        .map(|((state, entered), (_, left))| (state.clone(), left.saturating_sub(*entered)))
        .collect()
}

fn number(value: &Value, key: &str) -> Outcome<f64> {
    value[key].as_f64().ok_or_else(|| Trouble::failed(format!("find the number {key:?}")))
}

/// Runs a program that answers with one JSON value; what it says besides is the user's to see.
fn answer(command: &mut Command) -> Outcome<Value> {
    let text = process::output(command)?;
    let line = process::line(command);
    serde_json::from_str(&text)
        .map_err(|error| Trouble::failed(format!("read the answer of `{line}`: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn phases_are_the_time_between_states() {
        let job = json!({"history": [["queued", 1000], ["training", 1500], ["delivered", 4000]]});
        assert_eq!(phases(&job), [("queued".to_owned(), 500), ("training".to_owned(), 2500)]);
    }

    #[test]
    fn the_middle_of_three() {
        assert_eq!(middle(vec![9, 1, 5]), 5);
    }
}
