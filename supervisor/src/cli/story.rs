//! A sealed job from the customer's side, through the command line, against doubles of provider and agent.
#![cfg(feature = "simulated-tee")]

use std::path::Path;

use clap::Parser as _;

use super::{Cli, Output, run};
use crate::client::{
    CliError,
    doubles::{agent, provider::Provider},
};

const CANARY: &str = "canary-4c1b-dataset";

struct Customer<'a> {
    home: &'a Path,
    provider: &'a Provider,
}

impl Customer<'_> {
    async fn runs(&self, line: &[&str]) -> Result<(), CliError> {
        let home = self.home.display().to_string();
        let line: Vec<String> = line.iter().map(|word| word.replace("HOME", &home)).collect();
        let mut words = vec!["sealtune".to_owned(), "--json".to_owned()];
        words.extend(line);
        let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{error}"));
        run(cli.command, &Output::new(true)).await
    }

    async fn submits(&self, more: &[&str]) -> Result<(), CliError> {
        let image = hex::encode(agent::IMAGE);
        let mut line = vec![
            "submit",
            "--provider",
            &self.provider.address,
            "--key",
            "HOME/owner.key",
            "--state-dir",
            "HOME/state",
            "--model",
            "HOME/model.zip",
            "--dataset",
            "HOME/train.jsonl",
            "--image",
            &image,
            "--script",
            "HOME/train.py",
            "--params",
            r#"{"lr":0.1}"#,
            "--idempotency-key",
            "first",
        ];
        line.extend(more);
        self.runs(&line).await
    }

    fn job(&self) -> String {
        let records = std::fs::read_dir(self.home.join("state/jobs")).expect("records");
        let names =
            records.map(|entry| entry.expect("entry").file_name().into_string().expect("name"));
        let jobs: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs[0].clone()
    }
}

fn make_home(home: &Path, provider: &Provider) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(home.join(name), bytes).expect(name);
    write("model.zip", b"a model that the provider has");
    write("train.jsonl", format!("{CANARY}\n").repeat(5000).as_bytes());
    write("train.py", b"print('epoch')");
    write("root.der", &provider.root);
    write("reference.json", &agent::reference_values().to_bytes().expect("reference"));
}

const TRUST: [&str; 4] =
    ["--reference", "HOME/reference.json", "--simulated-root", "HOME/root.der"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_job_survives_a_lost_vm_and_cut_transfers_and_comes_home_verified() {
    // Once a test binary: reqwest panics without it. Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("home");
    let home = directory.path();
    let provider = Provider::start().await;
    make_home(home, &provider);
    let customer = Customer { home, provider: &provider };
    customer.runs(&["key", "new", "--out", "HOME/owner.key"]).await.expect("key");

    // Without a simulated root nothing is released.
    let refused = customer.submits(&["--reference", "HOME/reference.json"]).await;
    let refused = refused.expect_err("nothing vouches for the simulated TEE");
    assert_eq!((refused.code.as_str(), refused.exit.number()), ("ST-CLI-41", 4));
    assert_eq!(provider.state(), "awaiting-release");

    // Nor with reference values of another release.
    let mut other = agent::reference_values();
    other.registers.clear();
    other.cmdline = "another".into();
    let row_shape = sealtune_evidence::Shape { vcpus: 2, memory_mib: 1024 };
    other.add(sealtune_evidence::layout1::file_digest(b"firmware"), row_shape).expect("row");
    std::fs::write(home.join("other.json"), other.to_bytes().expect("bytes")).expect("write");
    let lines = ["--reference", "HOME/other.json", "--simulated-root", "HOME/root.der"];
    assert_eq!(customer.submits(&lines).await.expect_err("refused").code, "ST-CLI-41");

    // The same submission goes on where it was, through a lost VM, to the end.
    customer.submits(&TRUST).await.expect("delivered");
    assert_eq!(provider.state(), "delivered");
    assert!(!provider.heard(CANARY.as_bytes()), "the dataset left in clear");

    let job = customer.job();
    let place = ["--key", "HOME/owner.key", "--state-dir", "HOME/state"];
    let logs = ["job", "logs", &job, "--follow"];
    customer.runs(&[&logs[..], &place].concat()).await.expect("logs");

    let fetch = ["job", "fetch", &job, "--out", "HOME/result"];
    let fetch = [&fetch[..], &place, &TRUST].concat();
    customer.runs(&fetch).await.expect("fetched");
    assert_eq!(provider.faults_left(), 0, "every fault was met");
    assert_eq!(provider.state(), "acknowledged");
    let read = |name: &str| std::fs::read_to_string(home.join("result").join(name)).expect(name);
    assert_eq!(read("output_model/metrics.json"), "{}");
    assert_eq!(read("log.txt"), "epoch 1\nepoch 2\n");
    assert_eq!(read("metrics.jsonl"), "{\"loss\":1.5}\n");
    for opening in ["dataset", "parameters", "metrics"] {
        assert!(home.join(format!("result/openings/{opening}.json")).exists(), "{opening}");
    }
    assert_eq!(customer.runs(&fetch).await.expect_err("there already").code, "ST-CLI-13");

    // Offline from here on.
    let decrypt =
        ["job", "decrypt", "HOME/result/result.sealed", "--job", &job, "--out", "HOME/again"];
    customer.runs(&[&decrypt[..], &place].concat()).await.expect("decrypted");
    assert!(home.join("again/adapter/weights.bin").exists());
    let open = ["receipt", "open", "--job", &job, "--dir", "HOME/result", "--name", "metrics"];
    customer.runs(&[&open[..], &place, &TRUST].concat()).await.expect("opened");
    let unknown = ["receipt", "open", "--job", &job, "--dir", "HOME/result", "--name", "weights"];
    let unknown = customer.runs(&[&unknown[..], &place, &TRUST].concat()).await;
    assert_eq!(unknown.expect_err("no such value").code, "ST-CLI-55");

    // Somebody who changes the receipt changes the verdict.
    let mut package: serde_json::Value =
        serde_json::from_str(&read("receipt.json")).expect("receipt");
    package["statement"]["signatures"][0]["sig"] = format!("{}==", "A".repeat(86)).into();
    let package = package.to_string();
    std::fs::write(home.join("result/receipt.json"), package).expect("write");
    let changed = customer.runs(&[&open[..], &place, &TRUST].concat()).await;
    assert_eq!(changed.expect_err("changed").code, "ST-CLI-53");
}
