//! What was built for the stories: programs, image, layer, reference values.

use std::{path::PathBuf, sync::Arc, time::Instant};

use serde::Deserialize;

/// Names the file that xtask wrote.
const VARIABLE: &str = "SEALTUNE_STORIES";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub sealtune: PathBuf,
    pub verify: PathBuf,
    pub image: PathBuf,
    /// Directory with the one training layer.
    pub layers: PathBuf,
    /// The description of that layer.
    pub layer: PathBuf,
    pub reference: PathBuf,
    pub firmware: PathBuf,
    pub vsock_helper: PathBuf,
    pub repository: PathBuf,
    pub vcpus: u32,
    pub memory_mib: u32,
    #[serde(skip)]
    #[expect(dead_code, reason = "its end is what it is for")]
    clock: Option<Arc<Clock>>,
}

/// Says how long a story took, when the last who plays in it is gone.
#[derive(Debug)]
struct Clock {
    story: String,
    start: Instant,
}

impl Drop for Clock {
    fn drop(&mut self) {
        println!("told {} in {:.1} s", self.story, self.start.elapsed().as_secs_f64());
    }
}

impl Stage {
    pub fn find(story: &str) -> Option<Self> {
        let path = std::env::var_os(VARIABLE)?;
        let text = std::fs::read_to_string(&path).expect("read the stage that xtask wrote");
        let stage: Self = serde_json::from_str(&text).expect("understand the stage");
        let clock = Clock { story: story.to_owned(), start: Instant::now() };
        Some(Self { clock: Some(Arc::new(clock)), ..stage })
    }

    /// A script that stories run as a job.
    pub fn script(&self, name: &str) -> PathBuf {
        self.repository.join("tests/scripts").join(name)
    }

    pub fn hostile_script(&self) -> PathBuf {
        self.repository.join("tests/adversary/hostile_container.py")
    }
}
