//! Quotes of one VM are made one at a time, and no VM waits for another: a guest that takes long, or never answers, is its
//! own owner's trouble. Strangers stand in one line for the whole host, and have one question in the making at most, so that
//! an owner never has more than one of them before him; a crowd of them is sent away.
//!
//! ```text
//! stranger ─► rate ─► line ─► place ─┐
//!                             owner ─┴─► turn of the VM ─► question ─► answer (the turn ends with it, whoever has left)
//! ```
//! A VM remembers a bounded number of offers, the newest: strangers get at most half of them, so that they cannot make it
//! forget the offer that an owner is about to answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use sealtune_wire::patience;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    error::ApiError,
    peers::{Counted, Peer, Questions},
};

/// Strangers' questions a second, in the long run and at once.
const QUESTIONS: Rate = Rate { each_second: 5.0, burst: 20.0 };
const QUESTIONS_OF_ONE: Rate = Rate { each_second: 1.0, burst: 5.0 };
/// What is only read from the store costs less.
const READS: Rate = Rate { each_second: 20.0, burst: 60.0 };
const READS_OF_ONE: Rate = Rate { each_second: 5.0, burst: 20.0 };
/// The agent remembers 16 offers, each for 10 minutes.
const STRANGERS_OFFERS: usize = 8;
const OFFERS_OF_ONE: usize = 2;
const OFFER_LASTS: Duration = Duration::from_secs(600);
/// Strangers who wait for their one place.
const STRANGERS_LINE: usize = 8;
/// Those who wait for one VM: its owner, the operator, a stranger.
const VM_LINE: usize = 16;

/// Who waits for what one VM makes, and how long that may take.
#[derive(Debug)]
pub(crate) struct VmLine {
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// How long the last quote took, for those who are sent away.
    last_ms: AtomicU64,
    /// The last one who asked got no answer in time.
    silent: AtomicBool,
    devices: usize,
}

/// The right to have one quote made by one VM.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<VmLine>,
    started: Instant,
    _permits: (OwnedSemaphorePermit, Option<Place>),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let took = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.line.last_ms.store(took, Ordering::Relaxed);
    }
}

impl VmLine {
    /// `devices`: as many as the VM's launch configuration lists.
    pub(crate) fn new(devices: usize) -> Self {
        let (waiting, last_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        let silent = AtomicBool::new(false);
        Self { turn: Arc::new(Semaphore::new(1)), waiting, last_ms, silent, devices }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// How long the agent may take for evidence once it is asked.
    pub(crate) fn answer(&self) -> Duration {
        patience::answer(self.devices)
    }

    /// A stranger brings the place that he waited for.
    pub(crate) async fn turn(self: &Arc<Self>, place: Option<Place>) -> Result<Turn, ApiError> {
        self.turn_within(patience::turn(self.devices), place).await
    }

    async fn turn_within(
        self: &Arc<Self>,
        patience: Duration,
        place: Option<Place>,
    ) -> Result<Turn, ApiError> {
        let waiting = Waiting::of(&self.waiting);
        if waiting.before >= VM_LINE {
            return Err(self.busy_for(waiting.before));
        }
        let permit = Arc::clone(&self.turn).acquire_owned();
        match tokio::time::timeout(patience, permit).await {
            Ok(Ok(permit)) => Ok(Turn {
                line: Arc::clone(self),
                started: Instant::now(),
                _permits: (permit, place),
            }),
            _ => Err(self.busy_for(waiting.before)),
        }
    }

    fn busy_for(&self, waiting: usize) -> ApiError {
        let each = self.last_ms.load(Ordering::Relaxed).clamp(100, 10_000);
        busy((each.saturating_mul(waiting as u64 + 1)).div_ceil(1000).clamp(1, 120))
    }
}

/// One who waits; he leaves the line however his wait ends.
struct Waiting<'a> {
    line: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn of(line: &'a AtomicUsize) -> Self {
        Self { line, before: line.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.line.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stranger's right to ask one VM of this host.
#[derive(Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit,
);

/// The strangers of the whole host.
#[derive(Debug)]
pub(crate) struct Strangers {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    questions: Mutex<Questions>,
    reads: Mutex<Questions>,
    offers: Mutex<StrangersOffers>,
}

impl Strangers {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            places: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            questions: Mutex::new(Questions::new(QUESTIONS, QUESTIONS_OF_ONE, now)),
            reads: Mutex::new(Questions::new(READS, READS_OF_ONE, now)),
            offers: Mutex::new(StrangersOffers::default()),
        }
    }

    /// Whether a stranger may read something that is stored.
    pub(crate) fn read(&self, Counted(peer): Counted) -> Result<(), ApiError> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.take(peer, Instant::now()) { Ok(()) } else { Err(busy(1)) }
    }

    /// Whether a stranger who has the turn may have an offer of this VM.
    pub(crate) fn offer(&self, vm: &str, Counted(peer): Counted) -> Result<(), ApiError> {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.take(vm, peer, Instant::now()).map_err(|wait| busy(wait.as_secs().saturating_add(1)))
    }

    pub(crate) async fn enter(&self, Counted(peer): Counted) -> Result<Place, ApiError> {
        {
            let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            if !questions.take(peer, Instant::now()) {
                return Err(busy(1));
            }
        }
        let waiting = Waiting::of(&self.waiting);
        if waiting.before >= STRANGERS_LINE {
            return Err(busy(2));
        }
        let place = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout(patience::LINE, place).await {
            Ok(Ok(place)) => Ok(Place(place)),
            _ => Err(busy(2)),
        }
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
pub(crate) struct Rate {
    pub(crate) each_second: f64,
    pub(crate) burst: f64,
}

#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, filled: now }
    }

    pub(crate) fn filled(&self) -> Instant {
        self.filled
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
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

/// When strangers had offers that their VM may still remember, and who.
#[derive(Debug, Default)]
struct StrangersOffers(BTreeMap<String, VecDeque<(Instant, Option<Peer>)>>);

impl StrangersOffers {
    /// Takes a place, or says after which time there is one. Whoever is counted has two of them at most.
    fn take(&mut self, vm: &str, peer: Option<Peer>, now: Instant) -> Result<(), Duration> {
        let age = |made: &Instant| now.saturating_duration_since(*made);
        self.0.retain(|_, made| {
            made.retain(|(made, _)| age(made) <= OFFER_LASTS);
            !made.is_empty()
        });
        let made = self.0.entry(vm.to_owned()).or_default();
        let own = || made.iter().filter(|(_, by)| peer.is_some() && *by == peer);
        let in_the_way = if own().count() >= OFFERS_OF_ONE {
            own().next()
        } else if made.len() >= STRANGERS_OFFERS {
            made.front()
        } else {
            None
        };
        if let Some((oldest, _)) = in_the_way {
            return Err(OFFER_LASTS.saturating_sub(age(oldest)));
        }
        made.push_back((now, peer));
        Ok(())
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
        let granted = (0..20).filter(|_| offers.take("a", None, start).is_ok()).count();
        assert_eq!(granted, STRANGERS_OFFERS);
        assert_eq!(
            offers.take("a", None, start + Duration::from_secs(60)),
            Err(Duration::from_secs(540))
        );
        assert!(offers.take("b", None, start).is_ok(), "each VM remembers its own");
        let later = start + OFFER_LASTS + Duration::from_secs(1);
        assert!(offers.take("a", None, later).is_ok());
        assert_eq!(offers.0.len(), 1, "what is over is forgotten");
        // One address takes two of them and leaves the rest.
        let peer = |last: u8| Peer::of([192, 0, 2, last].into());
        let of_one = (0..9).filter(|_| offers.take("c", peer(1), start).is_ok()).count();
        assert_eq!(of_one, OFFERS_OF_ONE);
        assert_eq!(
            offers.take("c", peer(1), start + Duration::from_secs(60)),
            Err(Duration::from_secs(540))
        );
        let of_all = (2..9).filter(|last| offers.take("c", peer(*last), start).is_ok()).count();
        assert_eq!(of_all, STRANGERS_OFFERS - OFFERS_OF_ONE);
    }

    async fn wait_until(line: &AtomicUsize, many: usize) {
        while line.load(Ordering::Relaxed) < many {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_owner_has_one_stranger_before_him_and_a_crowd_is_sent_away() {
        let (strangers, line) = (Arc::new(Strangers::new()), Arc::new(VmLine::new(0)));
        let place = strangers.enter(Counted(None)).await.expect("the first has the place");
        let turn = line.turn(Some(place)).await.expect("and the turn");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for _ in 0..STRANGERS_LINE {
            let (strangers, line, order) = (strangers.clone(), line.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let place = strangers.enter(Counted(None)).await?;
                let turn = line.turn(Some(place)).await;
                order.lock().unwrap_or_else(PoisonError::into_inner).push("stranger");
                turn.map(drop)
            }));
        }
        wait_until(&strangers.waiting, STRANGERS_LINE).await;
        assert!(strangers.enter(Counted(None)).await.is_err(), "the line is full");
        let owner = tokio::spawn({
            let (line, order) = (line.clone(), order.clone());
            async move {
                let turn = line.turn(None).await;
                order.lock().unwrap_or_else(PoisonError::into_inner).push("owner");
                turn.map(drop)
            }
        });
        wait_until(&line.waiting, 1).await;
        drop(turn);
        assert!(owner.await.expect("runs").is_ok());
        for waiter in waiting {
            assert!(waiter.await.expect("runs").is_ok());
        }
        // The owner came last, and had one stranger before him at most.
        let order = order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let at = order.iter().position(|asker| *asker == "owner");
        assert!(at.is_some_and(|at| at <= 1), "{order:?}");
        let left = [&strangers.waiting, &line.waiting].map(|line| line.load(Ordering::Relaxed));
        assert_eq!(left, [0, 0]);
    }

    #[tokio::test]
    async fn a_vm_that_does_not_answer_is_waited_for_by_its_own_askers_alone() {
        let (stuck, other) = (Arc::new(VmLine::new(0)), Arc::new(VmLine::new(0)));
        let turn = stuck.turn(None).await.expect("the turn");
        assert!(other.turn(None).await.is_ok(), "another VM's owner does not wait");
        assert!(stuck.turn_within(Duration::from_millis(1), None).await.is_err());
        drop(turn);
        assert!(stuck.turn(None).await.is_ok());
        assert_eq!(stuck.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_agent_is_waited_for_as_long_as_its_gpus_may_take() {
        for (devices, helper) in [(0, 0), (1, 45), (8, 150)] {
            let line = VmLine::new(devices);
            assert_eq!(line.answer(), patience::answer(devices));
            assert!(line.answer().as_secs() > 2 * (helper + 30), "{devices}");
        }
    }
}
