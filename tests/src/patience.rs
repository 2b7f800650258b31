//! Waiting: for something to happen, never longer than a deadline, and with a word about what did not happen.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

/// What a running program answers at once.
pub const SOON: Duration = Duration::from_secs(30);
/// A VM from nothing to ready, emulated on a busy machine.
pub const BOOT: Duration = Duration::from_secs(120);
/// A small job from nothing to its end.
pub const JOB: Duration = Duration::from_secs(300);

/// Asks again until there is an answer; panics with `what` when the time is over.
pub fn until<T>(time: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    // Nothing is ever sent: receiving with a timeout lets others run between two questions.
    let (_never, pause) = mpsc::channel::<()>();
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < time, "{what}: not within {} s", time.as_secs());
        let _ = pause.recv_timeout(Duration::from_millis(100));
    }
}
