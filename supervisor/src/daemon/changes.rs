//! Says that something in the store has changed; whoever waits reads the store again.

use std::time::Duration;

use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(crate) struct Changes(watch::Sender<u64>);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(crate) fn announce(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// A view of the changes from now on. Taken before the store is read, so that none is missed.
    pub(crate) fn watch(&self) -> Watching {
        Watching(self.0.subscribe())
    }
}

#[derive(Debug)]
pub(crate) struct Watching(watch::Receiver<u64>);

impl Watching {
    /// Returns at the next change, or when `time` has passed.
    pub(crate) async fn next(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, self.0.changed()).await;
    }
}
