//! Events on their way to the supervisor: numbered from 1, kept until it says that they are on its disk.
//!
//! ```text
//! push / push_when_room -> kept -> sent by the control connection (again after a reconnect) -> acknowledged: gone
//! ```
//!
//! Two kinds come in. Few and needed: phases, wanted transfers, receipts; they are always taken. Many and of less
//! weight: log and metric frames; their maker waits while the outbox is full, and so makes no more of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealtune_wire::frame::{self, CONTROL_LIMIT, FrameError};
use sealtune_wire::v1::{AgentEvent, ToSupervisor};
use tokio::sync::Notify;

const MAX_EVENTS: usize = 8192;
const MAX_BYTES: usize = 16 << 20;
/// Bytes of events that may be on their way without an acknowledgement. `vhost-device-vsock` 0.3 has a buffer of
/// 64 KiB and tells a guest of free space in it only along with other traffic: what is acknowledged is such traffic.
const MAX_IN_FLIGHT: usize = 24 << 10;

/// One event as it travels, length prefix included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) sequence: u64,
    pub(crate) frame: Arc<[u8]>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    kept: VecDeque<Numbered>,
    bytes: usize,
    last: u64,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.kept.len() >= MAX_EVENTS || self.bytes >= MAX_BYTES
    }

    fn push(&mut self, event: AgentEvent) -> Result<(), FrameError> {
        let sequence = self.last + 1;
        let frame = frame::encode(&ToSupervisor::Event { sequence, event }, CONTROL_LIMIT)?;
        self.last = sequence;
        self.bytes += frame.len();
        self.kept.push_back(Numbered { sequence, frame: frame.into() });
        Ok(())
    }

    fn acknowledge(&mut self, sequence: u64) {
        while let Some(first) = self.kept.front()
            && first.sequence <= sequence
        {
            self.bytes -= first.frame.len();
            self.kept.pop_front();
        }
    }

    /// Bytes of the kept events up to `sequence`.
    fn in_flight(&self, sequence: u64) -> usize {
        let sent = self.kept.iter().take_while(|event| event.sequence <= sequence);
        sent.map(|event| event.frame.len()).sum()
    }

    fn after(&self, sequence: u64) -> Option<Numbered> {
        let first = self.kept.front()?.sequence;
        let index = usize::try_from((sequence + 1).saturating_sub(first)).ok()?;
        self.kept.get(index).cloned()
    }
}

impl Outbox {
    /// Takes an event that must not be lost.
    pub(crate) fn push(&self, event: AgentEvent) -> Result<(), FrameError> {
        self.lock().push(event)?;
        self.0.arrived.notify_waiters();
        Ok(())
    }

    /// Takes one of many events, once there is room for it.
    pub(crate) async fn push_when_room(&self, event: AgentEvent) -> Result<(), FrameError> {
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that room made in between is not missed.
            room.as_mut().enable();
            if !self.lock().is_full() {
                return self.push(event);
            }
            room.await;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.lock().is_full()
    }

    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.lock().acknowledge(sequence);
        self.0.room.notify_waiters();
    }

    /// The number of the newest event, zero before the first.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// The first kept event behind `sequence`, if there is one now.
    pub(crate) fn peek_after(&self, sequence: u64) -> Option<Numbered> {
        self.lock().after(sequence)
    }

    /// The first kept event behind `sequence`, as soon as there is one and enough of what was sent before is
    /// acknowledged.
    pub(crate) async fn next_after(&self, sequence: u64) -> Numbered {
        loop {
            let (arrived, room) = (self.0.arrived.notified(), self.0.room.notified());
            tokio::pin!(arrived, room);
            arrived.as_mut().enable();
            room.as_mut().enable();
            let found = {
                let queue = self.lock();
                queue.after(sequence).filter(|_| queue.in_flight(sequence) < MAX_IN_FLIGHT)
            };
            if let Some(found) = found {
                return found;
            }
            tokio::select! {
                () = arrived => {}
                () = room => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change of the queue is whole before anything can panic.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sealtune_job::JobId;

    use super::*;

    fn done() -> AgentEvent {
        AgentEvent::Done { job: JobId::from_bytes([1; 16]) }
    }

    fn sequences(outbox: &Outbox, mut from: u64) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(event) = outbox.peek_after(from) {
            from = event.sequence;
            found.push(from);
        }
        found
    }

    #[test]
    fn what_is_not_acknowledged_is_there_again() {
        let outbox = Outbox::default();
        for _ in 0..4 {
            outbox.push(done()).unwrap();
        }
        assert_eq!(sequences(&outbox, 0), [1, 2, 3, 4]);
        outbox.acknowledge(2);
        assert_eq!(sequences(&outbox, 0), [3, 4]);
        assert_eq!(sequences(&outbox, 3), [4]);
        outbox.acknowledge(1);
        assert_eq!(sequences(&outbox, 2), [3, 4]);
        // A supervisor that claims more than was sent loses nothing of what is sent later.
        outbox.acknowledge(99);
        outbox.push(done()).unwrap();
        assert_eq!(sequences(&outbox, 4), [5]);
    }

    #[tokio::test]
    async fn a_full_outbox_stops_frames_but_no_phase() {
        let outbox = Outbox::default();
        for _ in 0..MAX_EVENTS {
            outbox.push_when_room(done()).await.unwrap();
        }
        let waiting = {
            let outbox = outbox.clone();
            tokio::spawn(async move { outbox.push_when_room(done()).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        outbox.push(done()).unwrap();
        outbox.acknowledge(2);
        waiting.await.unwrap().unwrap();
        assert_eq!(sequences(&outbox, 8192).len(), 2);
    }

    #[tokio::test]
    async fn what_is_not_acknowledged_holds_back_the_rest() {
        let outbox = Outbox::default();
        for _ in 0..2000 {
            outbox.push(done()).unwrap();
        }
        let mut sent = 0;
        let all = async {
            loop {
                sent = outbox.next_after(sent).await.sequence;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), all).await;
        assert!(waited.is_err());
        let size = outbox.peek_after(0).unwrap().frame.len();
        // Later ones are a little longer: their numbers have more digits.
        let most = MAX_IN_FLIGHT / size + 1;
        assert!((most / 2..=most).contains(&usize::try_from(sent).unwrap()), "{sent} of {most}");
        outbox.acknowledge(sent);
        assert_eq!(outbox.next_after(sent).await.sequence, sent + 1);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let outbox = Outbox::default();
        let waiting = {
            let outbox = outbox.clone();
            tokio::spawn(async move { outbox.next_after(0).await.sequence })
        };
        tokio::task::yield_now().await;
        outbox.push(done()).unwrap();
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
