//! What stories are told with: a stage that xtask has built, a daemon on it, and people with the command line.
//!
//! Stories see only what users see: programs, their answers, files. They wait for events with a deadline and never for
//! a time alone. A story ends its daemon and every VM of it, also when it fails.
#![forbid(unsafe_code)]
// A story that cannot go on must say so and end.
#![expect(clippy::expect_used, clippy::panic, reason = "this library is for tests alone")]

#[cfg(test)]
mod corpora;

mod cast;
mod command;
mod cutter;
mod daemon;
mod disk;
mod door;
mod inputs;
mod leaks;
mod patience;
mod processes;
mod server;
mod stage;
mod stranger;

pub use cast::{Customer, Job};
pub use command::{Answer, tell};
pub use cutter::{Cuts, Cutter, Passed};
pub use daemon::{Daemon, Options};
pub use disk::SmallDisk;
pub use door::{find_door, knock};
pub use inputs::Inputs;
pub use leaks::{Haystack, assert_nowhere};
pub use patience::{BOOT, JOB, SOON, until};
pub use server::{Asked, ContentServer, Manner};
pub use stage::Stage;
pub use stranger::{Said, ask};

/// Why a story is not told. The word in front is what xtask counts.
pub fn skip(story: &str) {
    println!("skipped: {story}: it needs VMs; run `cargo xtask test --area stories`");
}

/// The name of the function that a closure of its own is given from.
pub fn name_of<T>(_: &T) -> &'static str {
    let name = std::any::type_name::<T>();
    name.strip_suffix("::{{closure}}").unwrap_or(name)
}

/// The stage, or an early end of the test.
#[macro_export]
macro_rules! stage_or_skip {
    () => {{
        let story = $crate::name_of(&|| {});
        match $crate::Stage::find(story) {
            Some(stage) => stage,
            None => {
                $crate::skip(story);
                return;
            }
        }
    }};
}
