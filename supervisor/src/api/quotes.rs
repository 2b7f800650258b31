//! Quotes are made one at a time for the whole host: its quoting service is one. Owners of jobs and strangers wait in line
//! for the same turn, but a crowd of strangers is sent away before it can keep an owner waiting.
//!
//! A VM remembers a bounded number of offers, the newest: strangers get at most half of them, so that they cannot make it
//! forget the offer that an owner is about to answer.

use std::{
    collections::{BTreeMap, VecDeque},
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
const QUESTIONS: Rate = Rate { each_second: 5.0, burst: 20.0 };
/// What is only read from the store costs less.
const READS: Rate = Rate { each_second: 20.0, burst: 60.0 };
/// The agent remembers 16 offers, each for 10 minutes.
const STRANGERS_OFFERS: usize = 8;
const OFFER_LASTS: Duration = Duration::from_secs(600);

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
    /// Strangers stand in a line of their own for one place in the line of all, so that an owner never has more than one
    /// of them before him.
    strangers: Semaphore,
    waiting: [AtomicUsize; 2],
    /// How long the last quote took, for those who are sent away.
    last_ms: AtomicU64,
    questions: Mutex<Bucket>,
    reads: Mutex<Bucket>,
    offers: Mutex<StrangersOffers>,
}

/// The right to have one quote made.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    queue: &'a QuoteQueue,
    started: Instant,
    _permits: (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>),
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
            strangers: Semaphore::new(1),
            waiting: [AtomicUsize::new(0), AtomicUsize::new(0)],
            last_ms: AtomicU64::new(0),
            questions: Mutex::new(Bucket::full(QUESTIONS, Instant::now())),
            reads: Mutex::new(Bucket::full(READS, Instant::now())),
            offers: Mutex::new(StrangersOffers::default()),
        }
    }

    /// Whether a stranger may read something that is stored.
    pub(crate) fn read(&self) -> Result<(), ApiError> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.take(Instant::now()) { Ok(()) } else { Err(busy(1)) }
    }

    /// Whether a stranger who has the turn may have an offer of this VM.
    pub(crate) fn offer(&self, vm: &str) -> Result<(), ApiError> {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.take(vm, Instant::now()).map_err(|wait| busy(wait.as_secs().saturating_add(1)))
    }

    pub(crate) async fn enter(&self, asker: Asker) -> Result<Turn<'_>, ApiError> {
        if asker == Asker::Stranger {
            let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            if !questions.take(Instant::now()) {
                return Err(busy(1));
            }
        }
        let line = &self.waiting[asker as usize];
        let before = line.fetch_add(1, Ordering::Relaxed);
        let _place = Place(line);
        if before >= asker.line() {
            return Err(self.busy_for(before));
        }
        let permits = async {
            let stranger = match asker {
                Asker::Owner => None,
                Asker::Stranger => Some(self.strangers.acquire().await.ok()?),
            };
            Some((self.turn.acquire().await.ok()?, stranger))
        };
        match tokio::time::timeout(PATIENCE, permits).await {
            Ok(Some(permits)) => {
                Ok(Turn { queue: self, started: Instant::now(), _permits: permits })
            }
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

#[derive(Debug, Clone, Copy)]
struct Rate {
    each_second: f64,
    burst: f64,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate.each_second).min(self.rate.burst);
        self.filled = now;
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

/// When strangers had offers that their VM may still remember.
#[derive(Debug, Default)]
struct StrangersOffers(BTreeMap<String, VecDeque<Instant>>);

impl StrangersOffers {
    /// Takes a place, or says after which time there is one.
    fn take(&mut self, vm: &str, now: Instant) -> Result<(), Duration> {
        let age = |made: &Instant| now.saturating_duration_since(*made);
        self.0.retain(|_, made| {
            made.retain(|made| age(made) <= OFFER_LASTS);
            !made.is_empty()
        });
        let made = self.0.entry(vm.to_owned()).or_default();
        match made.front() {
            Some(oldest) if made.len() >= STRANGERS_OFFERS => {
                Err(OFFER_LASTS.saturating_sub(age(oldest)))
            }
            _ => {
                made.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_bounds_bursts_and_fills_again() {
        let start = Instant::now();
        let mut bucket = Bucket::full(QUESTIONS, start);
        let at_once = (0..100).filter(|_| bucket.take(start)).count();
        assert_eq!(at_once, 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(much_later)).count(), 20);
    }

    #[test]
    fn strangers_have_half_of_the_offers_that_a_vm_remembers() {
        let start = Instant::now();
        let mut offers = StrangersOffers::default();
        let granted = (0..20).filter(|_| offers.take("a", start).is_ok()).count();
        assert_eq!(granted, STRANGERS_OFFERS);
        assert_eq!(
            offers.take("a", start + Duration::from_secs(60)),
            Err(Duration::from_secs(540))
        );
        assert!(offers.take("b", start).is_ok(), "each VM remembers its own");
        let later = start + OFFER_LASTS + Duration::from_secs(1);
        assert!(offers.take("a", later).is_ok());
        assert_eq!(offers.0.len(), 1, "what is over is forgotten");
    }

    #[tokio::test]
    async fn strangers_are_sent_away_and_owners_are_not() {
        let queue = std::sync::Arc::new(QuoteQueue::new());
        let turn = queue.enter(Asker::Stranger).await.expect("the first has the turn");
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let wait = |asker| {
            let (queue, order) = (queue.clone(), order.clone());
            tokio::spawn(async move {
                let turn = queue.enter(asker).await;
                order.lock().unwrap_or_else(PoisonError::into_inner).push(asker);
                turn.is_ok()
            })
        };
        let mut waiting = Vec::new();
        for _ in 0..Asker::Stranger.line() {
            waiting.push(wait(Asker::Stranger));
        }
        while queue.waiting[1].load(Ordering::Relaxed) < Asker::Stranger.line() {
            tokio::task::yield_now().await;
        }
        assert!(queue.enter(Asker::Stranger).await.is_err(), "the line is full");
        let owner = wait(Asker::Owner);
        while queue.waiting[0].load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(turn);
        assert!(owner.await.expect("runs"));
        for waiter in waiting {
            assert!(waiter.await.expect("runs"));
        }
        // The owner came last, and had one stranger before him at most.
        let order = order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let at = order.iter().position(|asker| *asker == Asker::Owner);
        assert!(at.is_some_and(|at| at <= 1), "{order:?}");
        let left: usize = queue.waiting.iter().map(|line| line.load(Ordering::Relaxed)).sum();
        assert_eq!(left, 0);
    }
}
