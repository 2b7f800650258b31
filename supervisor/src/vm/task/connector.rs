//! The attempt to reach a VM's agent, beside everything else that its task does.

/// Tries no longer than somebody waits for it: not beyond the end of its VM.
pub(super) struct Connector(pub(super) tokio::task::JoinHandle<()>);

impl Drop for Connector {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn nobody_connects_to_a_vm_that_has_ended() {
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let connector = Connector(tokio::spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        }));
        drop(connector);
        let closed = tokio::time::timeout(Duration::from_secs(10), ended.recv()).await;
        assert_eq!(closed.expect("the task ends with its handle"), None);
    }
}
