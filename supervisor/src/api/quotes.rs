//! Quotes are made one at a time for the whole host: its quoting service is one. Owners of jobs and strangers wait in line
//! for the same turn, but a crowd of strangers is sent away before it can keep an owner waiting.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;

/// How long anybody stands in line.
const PATIENCE: Duration = Duration::from_secs(20);
/// Strangers' questions a second, in the long run and at once.
const RATE: f64 = 5.0;
const BURST: f64 = 20.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody whose job waits for its offer.
    Owner,
    Stranger,
}

impl Asker {
    fn line(self) -> usize {
        match self {
            Self::Owner => 64,
            Self::Stranger => 8,
        }
    }
}

#[derive(Debug)]
pub(crate) struct QuoteQueue {
    turn: Semaphore,
    waiting: [AtomicUsize; 2],
    /// How long the last quote took, for those who are sent away.
    last_ms: AtomicU64,
    bucket: Mutex<Bucket>,
}

/// The right to have one quote made.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    queue: &'a QuoteQueue,
    started: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.queue.last_ms.store(took, Ordering::Relaxed);
    }
}

/// Leaves the line however the wait ends.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl QuoteQueue {
    pub(crate) fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            waiting: [AtomicUsize::new(0), AtomicUsize::new(0)],
            last_ms: AtomicU64::new(0),
            bucket: Mutex::new(Bucket { tokens: BURST, filled: Instant::now() }),
        }
    }

    pub(crate) async fn enter(&self, asker: Asker) -> Result<Turn<'_>, ApiError> {
        if asker == Asker::Stranger {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if !bucket.take(Instant::now()) {
                return Err(busy(1));
            }
        }
        let line = &self.waiting[asker as usize];
        let before = line.fetch_add(1, Ordering::Relaxed);
        let _place = Place(line);
        if before >= asker.line() {
            return Err(self.busy_for(before));
        }
        match tokio::time::timeout(PATIENCE, self.turn.acquire()).await {
            Ok(Ok(permit)) => Ok(Turn { queue: self, started: Instant::now(), _permit: permit }),
            _ => Err(self.busy_for(before)),
        }
    }

    fn busy_for(&self, waiting: usize) -> ApiError {
        let each = self.last_ms.load(Ordering::Relaxed).clamp(100, 10_000);
        busy((each.saturating_mul(waiting as u64 + 1)).div_ceil(1000).clamp(1, 120))
    }
}

fn busy(seconds: u64) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "ST-API-09",
        "make evidence: too many ask for it at this moment".to_owned(),
        "try again after the time in Retry-After",
    )
    .retry_after(seconds)
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        self.filled = now;
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_bounds_bursts_and_fills_again() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: BURST, filled: start };
        let at_once = (0..100).filter(|_| bucket.take(start)).count();
        assert_eq!(at_once, 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(much_later)).count(), 20);
    }

    #[tokio::test]
    async fn strangers_are_sent_away_and_owners_are_not() {
        let queue = std::sync::Arc::new(QuoteQueue::new());
        let turn = queue.enter(Asker::Stranger).await.expect("the first has the turn");
        let mut waiting = Vec::new();
        for _ in 0..Asker::Stranger.line() {
            let queue = queue.clone();
            waiting.push(tokio::spawn(async move { queue.enter(Asker::Stranger).await.is_ok() }));
        }
        while queue.waiting[1].load(Ordering::Relaxed) < Asker::Stranger.line() {
            tokio::task::yield_now().await;
        }
        assert!(queue.enter(Asker::Stranger).await.is_err(), "the line is full");
        let owner = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enter(Asker::Owner).await.is_ok() }
        });
        while queue.waiting[0].load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(turn);
        assert!(owner.await.expect("runs"));
        for waiter in waiting {
            assert!(waiter.await.expect("runs"));
        }
        let left: usize = queue.waiting.iter().map(|line| line.load(Ordering::Relaxed)).sum();
        assert_eq!(left, 0);
    }
}
