//! A small model and a small dataset.

use std::path::PathBuf;

use tempfile::TempDir;

#[derive(Debug)]
pub struct Inputs {
    folder: TempDir,
    pub model: PathBuf,
    pub dataset: PathBuf,
}

impl Inputs {
    /// `secret` stands in the dataset.
    pub fn new(secret: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("inputs-").tempdir().expect("a folder");
        let (model, dataset) =
            (folder.path().join("model.bin"), folder.path().join("dataset.jsonl"));
        let weights: Vec<u8> = (0..40_000_u32).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect();
        std::fs::write(&model, weights).expect("a model");
        let lines: String =
            (0..50).map(|n| format!("{{\"text\": \"line {n} {secret}\"}}\n")).collect();
        std::fs::write(&dataset, lines).expect("a dataset");
        Self { folder, model, dataset }
    }

    /// A file beside them.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}
