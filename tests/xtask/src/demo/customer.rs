//! The customer: has a key, data, reference values and a provider's address, and believes nothing else.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{Stage, answer, daemon::Daemon, number};
use crate::{
    Outcome, Trouble,
    artefacts::{sha256_file, text},
    process,
    workspace::{Workspace, read_json, write},
};

pub(crate) struct Customer<'s> {
    stage: &'s Stage,
    provider: String,
    key: PathBuf,
    records: PathBuf,
    reference: PathBuf,
    simulated_root: PathBuf,
    result: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
}

#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) output: PathBuf,
    /// As the receipt commits to them, opened by their owner.
    pub(crate) perplexity_before: f64,
    pub(crate) perplexity_after: f64,
    pub(crate) layer_bytes: u64,
    pub(crate) dataset_bytes: u64,
    pub(crate) result_bytes: u64,
}

/// `accepted` or `rejected`.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) offer: String,
    pub(crate) receipt: String,
    pub(crate) simulated: bool,
    /// By the guest's own clock, as the receipt says.
    pub(crate) durations: Value,
}

impl<'s> Customer<'s> {
    pub(crate) fn new(stage: &'s Stage, daemon: &Daemon, reference: PathBuf) -> Outcome<Self> {
        let customer = Self {
            stage,
            provider: daemon.provider.clone(),
            key: stage.folder.join("owner.key"),
            records: stage.folder.join("records"),
            reference,
            simulated_root: daemon.state.join("simulated-root.der"),
            result: stage.folder.join("result"),
        };
        answer(customer.sealtune(&["key", "new", "--json"]).arg("--out").arg(&customer.key))?;
        Ok(customer)
    }

    /// Seals the dataset, uploads it, appraises the VM's offer, releases the job to it and follows it to its end.
    pub(crate) fn submit(&self, workspace: &Workspace) -> Outcome<Job> {
        let scripts = workspace.root.join("tests/demo");
        let script_sha256 = sha256_file(&scripts.join("finetune.py"))?;
        let mut submit = self.sealtune(&["job", "submit", "--json"]);
        self.as_owner(&mut submit);
        self.with_trust(&mut submit);
        submit.arg("--provider").arg(&self.provider);
        submit.arg("--model").arg(&self.stage.texts.model_zip);
        submit.arg("--dataset").arg(&self.stage.texts.dataset);
        submit.arg("--image-file").arg(&self.stage.layer.description);
        submit.args(["--image-script", "/app/finetune.py", "--script-sha256", &script_sha256]);
        submit.arg("--params").arg(scripts.join("config.json"));
        // What suits an emulated processor.
        submit.args(["--env", "OPENBLAS_CORETYPE=Sandybridge", "--env", "OPENBLAS_NUM_THREADS=1"]);
        submit.args(["--memory-mib", "1024", "--time-limit", "1800"]);
        // A progress bar wants the terminal itself.
        let job = answer(submit.stderr(Stdio::inherit()))?;
        Ok(Job { id: text(&job, "job")?.to_owned() })
    }

    pub(crate) fn fetch(&self, job: &Job) -> Outcome<Fetched> {
        let mut fetch = self.sealtune(&["job", "fetch", &job.id, "--json", "--out"]);
        fetch.arg(&self.result);
        self.as_owner(&mut fetch);
        self.with_trust(&mut fetch);
        answer(&mut fetch)?;
        let mut open = self.sealtune(&["receipt", "open", "--job", &job.id, "--json", "--dir"]);
        open.arg(&self.result);
        self.as_owner(&mut open);
        self.with_trust(&mut open);
        let opened = answer(&mut open)?;
        let metrics = opened_text(&opened, "metrics")?;
        let metrics: Value = serde_json::from_str(metrics)
            .map_err(|error| Trouble::failed(format!("read the opened metrics: {error}")))?;
        Ok(Fetched {
            output: self.result.join("output_model"),
            perplexity_before: number(&metrics, "perplexity_before")?,
            perplexity_after: number(&metrics, "perplexity_after")?,
            layer_bytes: read_json(&self.stage.layer.description)?["file_bytes"]
                .as_u64()
                .unwrap_or_default(),
            dataset_bytes: size(&self.stage.texts.dataset)?,
            result_bytes: size(&self.result.join("result.sealed"))?,
        })
    }

    /// With the verifier's own program and nothing from the network.
    pub(crate) fn verify(&self, job: &Job) -> Outcome<Verdicts> {
        let receipt = self.result.join("receipt.json");
        let nonce = self.nonce(job)?;
        let image = read_json(&self.stage.layer.description)?;
        let mut verify = Command::new(&self.stage.programs.verify);
        verify.arg("receipt").arg(&receipt).args(["--json", "--nonce", &nonce, "--job", &job.id]);
        verify.args(["--layer", text(&image, "root")?]);
        verify.arg("--result").arg(self.result.join("result.sealed"));
        for name in ["metrics", "dataset", "result"] {
            let opening = self.result.join("openings").join(format!("{name}.json"));
            verify.arg("--opening").arg(opening);
        }
        self.with_trust(&mut verify);
        let of_receipt = verdict(&mut verify)?;

        let package = read_json(&receipt)?;
        let offer = &package["evidence"]["offer"];
        let offer_file = self.stage.folder.join("offer.json");
        write(&offer_file, offer.to_string())?;
        let claims = encoded(text(offer, "claims")?)?;
        let mut verify = Command::new(&self.stage.programs.verify);
        verify.arg("evidence").arg(&offer_file).args(["--json", "--purpose", "offer"]);
        // The nonce was the customer's; that the receipt follows this very offer was judged above.
        verify.args(["--nonce", text(&claims, "nonce")?, "--layer", text(&image, "root")?]);
        self.with_trust(&mut verify);
        let of_offer = verdict(&mut verify)?;
        Ok(Verdicts {
            offer: text(&of_offer, "outcome")?.to_owned(),
            receipt: text(&of_receipt, "outcome")?.to_owned(),
            simulated: of_receipt["simulated"] == true,
            durations:
                encoded(text(&package["statement"], "payload")?)?["predicate"]["durations_ms"]
                    .clone(),
        })
    }

    /// The owner's nonce, from his own record of the job.
    fn nonce(&self, job: &Job) -> Outcome<String> {
        let record = find(&self.records, &format!("{}.json", job.id));
        let record = record.ok_or_else(|| Trouble::failed("find the job's record"))?;
        Ok(text(&read_json(&record)?["terms"], "nonce")?.to_owned())
    }

    fn sealtune(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.stage.programs.sealtune);
        command.args(words);
        command
    }

    fn as_owner(&self, command: &mut Command) {
        command.arg("--key").arg(&self.key).arg("--state-dir").arg(&self.records);
    }

    fn with_trust(&self, command: &mut Command) {
        command.arg("--reference").arg(&self.reference);
        command.arg("--simulated-root").arg(&self.simulated_root);
    }
}

/// A rejection is an answer too.
fn verdict(command: &mut Command) -> Outcome<Value> {
    let line = process::line(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Trouble::failed(format!("start `{line}`: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{text}");
    }
    serde_json::from_str(&text)
        .map_err(|error| Trouble::failed(format!("read the verdict of `{line}`: {error}")))
}

fn opened_text<'v>(opened: &'v Value, name: &str) -> Outcome<&'v str> {
    let found = opened.as_array().into_iter().flatten().find(|one| one["name"] == name);
    let found = found.ok_or_else(|| Trouble::failed(format!("open {name:?} of the receipt")))?;
    text(found, "text")
}

fn size(path: &Path) -> Outcome<u64> {
    std::fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(|error| Trouble::failed(format!("read {}: {error}", path.display())))
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
    }
    None
}

/// A JSON document that stands in another one as base64.
fn encoded(text: &str) -> Outcome<Value> {
    let text = process::filter(Command::new("base64").arg("--decode"), text.as_bytes())?;
    serde_json::from_str(&text)
        .map_err(|error| Trouble::failed(format!("read an encoded document: {error}")))
}
